"""Where simulated bus devices are plugged in: a pseudo terminal in real time, or virtual time.

A device is pure (`feed`, `tick`, `next_due`) and brings its own wire time, since a pty has no baud
rate. PtyLine plays it in one thread; VirtualBus lets a sans-IO core of the product talk to it.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

IDLE_S = 0.5
Event_co = TypeVar("Event_co", covariant=True)
Event = TypeVar("Event")


class BusDevice(Protocol):
    """A slave on a line, in virtual time."""

    def feed(self, raw: bytes, now_ms: int) -> bytes:
        """Bytes from the master; what has left the device by now."""

    def tick(self, now_ms: int) -> bytes:
        """Time passes; what has left the device by now."""

    def next_due(self) -> int | None:
        """When to tick."""


class BusCore(Protocol[Event_co]):
    """A master's sans-IO core."""

    def receive(self, raw: bytes, now_ms: int) -> None:
        """Bytes from the line."""

    def on_timer(self, now_ms: int) -> None:
        """Time has gone."""

    def to_send(self, now_ms: int) -> bytes | None:
        """The next request."""

    def next_timer(self) -> int | None:
        """When to call again."""

    def next_event(self) -> Event_co | None:
        """What it has to say."""


class PtyLine:
    """The device on a pseudo terminal; `port` is the path for the driver."""

    def __init__(self, device: BusDevice) -> None:
        self.lock = threading.RLock()  # hold it to touch the device from a test
        self._device = device
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="bus-sim", daemon=True)

    def __enter__(self) -> PtyLine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @staticmethod
    def now_ms() -> int:
        """The clock of the device."""
        return time.monotonic_ns() // 1_000_000

    def notice(self) -> None:
        """A knob of the device was turned: look at it again."""
        os.write(self._wake_write, b"\0")

    def hang_up(self) -> None:
        """The adapter is pulled out: the driver sees the line end."""
        self._ending = True
        self.notice()
        if self._thread.is_alive():
            self._thread.join(5)
        master, slave, self._master, self._slave = self._master, self._slave, -1, -1
        for end in (master, slave):
            if end >= 0:
                os.close(end)

    def stop(self) -> None:
        """End the thread and close the terminal."""
        self.hang_up()
        for end in (self._wake_read, self._wake_write):
            os.close(end)

    def _run(self) -> None:
        raw = b""
        while not self._ending:
            with self.lock:
                now_ms = self.now_ms()
                out = self._device.feed(raw, now_ms) if raw else self._device.tick(now_ms)
                due_ms = self._device.next_due()
            if out:
                os.write(self._master, out)
            raw = self._await(due_ms)

    def _await(self, due_ms: int | None) -> bytes:
        wait_s = IDLE_S if due_ms is None else max(due_ms - self.now_ms(), 0) / 1000
        ready, _, _ = select.select([self._master, self._wake_read], [], [], min(wait_s, IDLE_S))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        return os.read(self._master, 4096) if self._master in ready else b""


class VirtualBus(Generic[Event]):
    """A core and a device on one line in virtual time; `heard` gets each event as it comes."""

    def __init__(
        self, core: BusCore[Event], device: BusDevice, heard: Callable[[Event], None]
    ) -> None:
        self.now_ms = 0
        self.sent: list[tuple[int, bytes]] = []
        self._core = core
        self._device = device
        self._heard = heard

    def settle(self) -> None:
        """Everything that is due at this moment."""
        while True:
            self._core.on_timer(self.now_ms)
            request = self._core.to_send(self.now_ms)
            if request is not None:
                self.sent.append((self.now_ms, request))
                reply = self._device.feed(request, self.now_ms)
            else:
                reply = self._device.tick(self.now_ms)
            if reply:
                self._core.receive(reply, self.now_ms)
            heard = self._tell()
            if request is None and not reply and not heard:
                return

    def advance(self, ms: int) -> None:
        """Let so much time pass, from one due moment to the next."""
        end_ms = self.now_ms + ms
        self.settle()
        while (due_ms := self._next()) is not None and due_ms <= end_ms:
            self.now_ms = max(due_ms, self.now_ms + 1)
            self.settle()
        self.now_ms = end_ms
        self.settle()

    def _tell(self) -> bool:
        heard = False
        while (event := self._core.next_event()) is not None:
            heard = True
            self._heard(event)
        return heard

    def _next(self) -> int | None:
        times = (self._core.next_timer(), self._device.next_due())
        return min((time for time in times if time is not None), default=None)
