"""The relay passes bytes both ways, falls when cut, and comes back when healed."""

import socket
import threading

import pytest

from sim.tcp_cutter import TcpCutter


def _echo_server() -> tuple[socket.socket, int]:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                while raw := peer.recv(100):
                    peer.sendall(raw)

    threading.Thread(target=serve, daemon=True).start()
    return server, server.getsockname()[1]


def test_cut_and_heal() -> None:
    """Echo through the relay; a cut ends it, a new connection is closed; healed it works again."""
    server, port = _echo_server()
    cutter = TcpCutter(port)
    try:
        with socket.create_connection(("127.0.0.1", cutter.port), timeout=5) as peer:
            peer.sendall(b"hello")
            assert peer.recv(100) == b"hello"
            cutter.cut()
            assert peer.recv(100) == b""
        with socket.create_connection(("127.0.0.1", cutter.port), timeout=5) as peer:
            try:
                assert peer.recv(100) == b""
            except ConnectionResetError as exc:
                assert exc.errno is not None  # noqa: PT017 - a reset is as good as an end
        cutter.heal()
        with socket.create_connection(("127.0.0.1", cutter.port), timeout=5) as peer:
            peer.sendall(b"again")
            assert peer.recv(100) == b"again"
    finally:
        cutter.close()
        server.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", cutter.port), timeout=5)
