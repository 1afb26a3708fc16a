"""A TCP relay on loopback whose cable can be pulled: for partitions between real processes.

Bytes pass through unchanged. `cut` closes every connection and refuses new ones until `heal`.
"""

from __future__ import annotations

import selectors
import socket
import threading

CHUNK = 65_536
BACKLOG = 128


class TcpCutter:
    """Listens on its own port and relays to a target port, both on 127.0.0.1."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self._target_port = target_port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._up = True
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="tcp-cutter", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the cable is in."""
        return self._up

    def cut(self) -> None:
        """Pull the cable: all connections fall, new ones are closed at once."""
        with self._lock:
            self._up = False
            for end in list(self._pairs):
                self._drop(end)

    def heal(self) -> None:
        """Put it back."""
        with self._lock:
            self._up = True

    def close(self) -> None:
        """End the relay."""
        self._ending = True
        self._thread.join(5)
        self.cut()
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select(0.1):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                with self._lock:
                    if end is self._listener:
                        self._accept()
                    elif end in self._pairs:
                        self._pass(end)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        if not self._up:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target_port), timeout=2)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.settimeout(5)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, end: socket.socket) -> None:
        try:
            raw = end.recv(CHUNK)
            if raw:
                self._pairs[end].sendall(raw)
                return
        except OSError:
            raw = b""
        self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        other = self._pairs.pop(end, None)
        for one in (end, other):
            if one is not None:
                self._pairs.pop(one, None)
                try:
                    self._selector.unregister(one)
                except (KeyError, ValueError):
                    continue
                finally:
                    one.close()
