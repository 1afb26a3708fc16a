"""Simulated cards behind the real pcscd: a private service in its own namespaces, and vpcd slots.

vpcd binds every address and pcscd its fixed folder, so both run in a network and a mount
namespace of their own; only the service's socket is visible outside, through PCSCLITE_CSOCK_NAME
(which the PC/SC library reads once per process: the folder is chosen once per process too). Needs
root, pcscd, vsmartcard-vpcd and iproute2; a missing one raises. Recipe and traps: card.md §8.6.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from firmware.base.clock import SystemClock
from firmware.base.supervisor import Child, ChildSpec
from sim.errors import PcscStageError
from sim.field import Field, FieldCard

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
PREFIX = "onecard-pcsc-"
FIRST_PORT = 0x9001
PORT_STEP = 0x10
LIBRARY = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"
READY_S = 15.0
APDU_S = 30.0
BODY_OF_STAGE = (
    "mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind {run} /run/pcscd"
    " && exec pcscd --foreground --error --config {conf}"
)


class PcscStage:
    """One pcscd with `readers` simulated readers named `Sim 0`, `Sim 1`, ...; two slots each.

    With a folder of its own it serves other processes only: they get `env`.
    """

    def __init__(self, readers: int = 2, folder: Path | None = None) -> None:
        self._readers = readers
        self._own = folder
        self._space = ThreadPoolExecutor(1, "pcsc-space", initializer=_private_network)
        self._child: Child | None = None
        self._folder = Path()
        self._slots: list[VpcdSlot] = []

    def __enter__(self) -> PcscStage:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """pcscd's process id, for tests that kill it."""
        return None if self._child is None else self._child.pid

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to find this service."""
        return {SOCKET_VARIABLE: str(self._folder / "run" / "pcscd.comm")}

    def start(self) -> None:
        """Start pcscd and wait for its slots. Raises SIM_PCSC with what is missing."""
        for tool in ("pcscd", "unshare", "mount", "ip"):
            if shutil.which(tool) is None:
                raise PcscStageError(missing=tool)
        if not LIBRARY.exists():
            raise PcscStageError(missing=str(LIBRARY))
        self._folder = socket_folder() if self._own is None else self._own
        self._folder.mkdir(mode=0o700, exist_ok=True)
        conf = self._write_configuration()
        script = BODY_OF_STAGE.format(run=self._folder / "run", conf=conf)
        argv = ["unshare", "--mount", "sh", "-c", script]
        log_path = self._folder / "pcscd.log"
        self._child = Child(ChildSpec("pcscd", argv, log_path=log_path), SystemClock())
        self._space.submit(self._child.start).result()
        self._wait_ready()

    def stop(self) -> None:
        """Take every card away and end pcscd, by its own pid."""
        for slot in self._slots:
            slot.remove()
        if self._child is not None:
            self._child.stop()
        self._space.shutdown()
        if self._folder.name.startswith(PREFIX):
            shutil.rmtree(self._folder, ignore_errors=True)

    def slot(self, reader: int, slot: int = 0) -> VpcdSlot:
        """Where a card can be inserted; the PC/SC name is `name` of it."""
        assert reader < self._readers, reader
        assert slot < 2, slot
        port = FIRST_PORT + PORT_STEP * reader + slot
        made = VpcdSlot(f"Sim {reader} 00 0{slot}", port, self._in_space)
        self._slots.append(made)
        return made

    def _in_space(self, act: Callable[[], T]) -> T:
        return self._space.submit(act).result()

    def _write_configuration(self) -> Path:
        conf, lib = self._folder / "conf", self._folder / "lib"
        for folder in (conf, lib, self._folder / "run"):
            folder.mkdir(exist_ok=True)
        for n in range(self._readers):
            copy = lib / f"vpcd_{n}.so"  # one copy each: the library's state is static
            shutil.copyfile(LIBRARY.resolve(), copy)
            port = FIRST_PORT + PORT_STEP * n
            entry = (
                f'FRIENDLYNAME "Sim {n}"\nDEVICENAME /dev/null:0x{port:04X}\n'
                f"LIBPATH {copy}\nCHANNELID 0x{port:04X}\n"
            )
            (conf / f"sim{n}.conf").write_text(entry, "ascii")
        return conf

    def _wait_ready(self) -> None:
        wanted = {FIRST_PORT + PORT_STEP * n + s for n in range(self._readers) for s in (0, 1)}
        until = time.monotonic() + READY_S
        while not (wanted <= self._in_space(_listening) and self._answers()):
            if time.monotonic() > until or (self._child and self._child.turn()):
                log = (self._folder / "pcscd.log").read_text("utf-8", "replace")
                raise PcscStageError(reason="pcscd is not ready", log=log[-400:])
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.env[SOCKET_VARIABLE])
            except OSError:
                return False
        return True


class VpcdSlot:
    """One slot: insert is a connection to vpcd, remove its end."""

    def __init__(self, name: str, port: int, in_space: Callable[..., socket.socket]) -> None:
        self.name = name
        self._port = port
        self._in_space = in_space
        self._field = Field(lambda: None)
        self._line: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def insert(self, card: FieldCard) -> None:
        """Push the card in; pcscd sees it within half a second."""
        assert self._line is None, "one card at a time"
        self._field.insert(card)
        self._field.switch(on=True)
        line = self._line = self._in_space(self._connect)
        self._thread = threading.Thread(target=self._serve, args=(line,), daemon=True)
        self._thread.start()

    def remove(self) -> None:
        """Pull the card out, in mid-command too."""
        self._field.remove()
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(OSError):  # the thread may have hung up first
                line.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    @property
    def holds_card(self) -> bool:
        """Whether a card is still in; a torn one has left by itself."""
        return self._field.card is not None

    def _connect(self) -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self._port), 5)
        line.settimeout(None)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            while self._one(line):
                pass

    def _one(self, line: socket.socket) -> bool:
        """One message of vpcd; False when the card has left or vpcd has hung up."""
        head = _receive(line, 2)
        raw = _receive(line, int.from_bytes(head, "big")) if head else b""
        if not raw:
            return False
        if len(raw) == 1:
            return self._control(line, raw[0])
        answer, there = self._field.run(raw, APDU_S, lambda: not self.holds_card)
        if not there or answer is None:
            return False
        _send(line, answer)
        return True

    def _control(self, line: socket.socket, order: int) -> bool:
        card = self._field.card
        if card is None:
            return False
        if order == 0:
            self._field.switch(on=False)
        elif order in (1, 2):
            self._field.switch(on=True)
            return self._field.activate() is not None
        elif order == 4:
            _send(line, card.atr)
        return True


def socket_folder() -> Path:
    """This process's folder for its pcscd, and the variable that leads the library there."""
    known = Path(os.environ.get(SOCKET_VARIABLE, "")).parent.parent
    if known.name.startswith(PREFIX):
        known.mkdir(mode=0o700, exist_ok=True)
        return known
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    os.environ[SOCKET_VARIABLE] = str(folder / "run" / "pcscd.comm")
    return folder


def _private_network() -> None:
    """Move this thread, and what it starts, into a network of its own with a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise PcscStageError(reason=f"unshare: {os.strerror(ctypes.get_errno())}")
    program = shutil.which("ip") or "ip"
    subprocess.run([program, "link", "set", "lo", "up"], check=True)


def _listening() -> set[int]:
    """Listening TCP ports of this thread's network."""
    lines = Path("/proc/thread-self/net/tcp").read_text("ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}


def _receive(line: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or b"" at the end of the connection."""
    raw = b""
    while len(raw) < count:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # else 44 ms an APDU
        part = line.recv(count - len(raw))
        if not part:
            return b""
        raw += part
    return raw


def _send(line: socket.socket, raw: bytes) -> None:
    line.sendall(len(raw).to_bytes(2, "big") + raw)
