"""A sans-IO bus core on a real serial line: bytes, timers and the port's coming and going.

Everything runs on the loop's thread. The input is flushed before each request (terminals.md §8.1).
A port that is not there, or goes, is tried again every 500 ms.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import Protocol

from firmware.base.clock import Clock
from firmware.base.log import event
from firmware.drivers.serial_link import SerialLink
from firmware.errors import LinkLostError, ReaderDownError
from firmware.reactor import Reactor, Timer

logger = logging.getLogger(__name__)

REOPEN_MS = 500
WRITE_MS = 50


class LineCore(Protocol):
    """What a bus core offers to its port."""

    def link_up(self, now_ms: int) -> None:
        """The port is open."""

    def link_lost(self, now_ms: int) -> None:
        """The port is gone."""

    def receive(self, raw: bytes, now_ms: int) -> None:
        """Bytes have come."""

    def on_timer(self, now_ms: int) -> None:
        """Time has gone."""

    def to_send(self, now_ms: int) -> bytes | None:
        """The next request."""

    def next_timer(self) -> int | None:
        """When to call again."""


class LinePort:
    """One port, one core; `after` runs whenever the core may have events."""

    def __init__(
        self,
        core: LineCore,
        port: str,
        clock: Clock,
        *,
        baud: int,
        parity: str = "N",
        after: Callable[[], None],
    ) -> None:
        self._core = core
        self._name = port
        self._clock = clock
        self._baud, self._parity = baud, parity
        self._after = after
        self._link = SerialLink(port, clock)
        self._open = self._told_down = False
        self._reopen_ms = 0
        self._reactor: Reactor | None = None
        self._timer: Timer | None = None
        self._watched: int | None = None

    def now_ms(self) -> int:
        """The monotonic clock in ms."""
        return self._clock.mono_us() // 1000

    def start(self, reactor: Reactor) -> None:
        """Live on this reactor; the first request is written before this returns."""
        self._reactor = reactor
        if self._open:
            self._watch()
        self.kick()

    def stop(self) -> None:
        """Leave the reactor and close the port."""
        self._unwatch()
        if self._reactor is not None and self._timer is not None:
            self._reactor.cancel(self._timer)
        self._reactor = self._timer = None
        self._open = False
        self._link.close()

    def kick(self) -> None:
        """Do what is due now, and come back when the next thing is."""
        self._turn()
        self._arm()

    def drive_until(self, done: Callable[[], bool], limit_ms: int) -> bool:
        """Without the reactor, run the line until `done` or for `limit_ms`: for boot and exit."""
        end_ms = self.now_ms() + limit_ms
        while True:
            self._turn()
            if done():
                return True
            left_ms = end_ms - self.now_ms()
            if left_ms <= 0:
                return False
            self._wait(min(max(self._next_ms() - self.now_ms(), 1), left_ms))

    def _turn(self) -> None:
        now_ms = self.now_ms()
        if not self._open and now_ms >= self._reopen_ms:
            self._reopen(now_ms)
        self._core.on_timer(now_ms)
        try:
            while self._open and (raw := self._core.to_send(now_ms)) is not None:
                self._link.drain()
                self._link.write(raw, self._clock.mono_us() + WRITE_MS * 1000)
        except LinkLostError as fault:
            self._drop(fault)
        self._after()

    def _readable(self) -> None:
        try:
            self._core.receive(self._link.read(0), self.now_ms())
        except LinkLostError as fault:
            self._drop(fault)
        self.kick()

    def _reopen(self, now_ms: int) -> None:
        self._reopen_ms = now_ms + REOPEN_MS
        try:
            self._link.open(self._baud, self._parity)
        except ReaderDownError as fault:
            if not self._told_down:
                event(logger, logging.ERROR, "bus_port_down", port=self._name, reason=str(fault))
            self._told_down = True
            self._core.link_lost(now_ms)
            return
        self._open, self._told_down = True, False
        self._core.link_up(now_ms)
        if self._reactor is not None:
            self._watch()

    def _drop(self, fault: LinkLostError) -> None:
        event(logger, logging.ERROR, "bus_port_lost", port=self._name, reason=str(fault))
        self._unwatch()
        self._open = False
        self._link.close()
        now_ms = self.now_ms()
        self._reopen_ms = now_ms + REOPEN_MS
        self._core.link_lost(now_ms)

    def _watch(self) -> None:
        assert self._reactor is not None, "start came first"
        self._watched = self._link.descriptor
        self._reactor.watch(self._watched, self._readable)

    def _unwatch(self) -> None:
        if self._reactor is not None and self._watched is not None:
            self._reactor.unwatch(self._watched)
        self._watched = None

    def _next_ms(self) -> int:
        times = [] if self._open else [self._reopen_ms]
        due_ms = self._core.next_timer()
        if due_ms is not None:
            times.append(due_ms)
        return min(times, default=self.now_ms() + REOPEN_MS)

    def _arm(self) -> None:
        if self._reactor is None:
            return
        if self._timer is not None:
            self._reactor.cancel(self._timer)
        self._timer = self._reactor.call_at(self._next_ms() * 1000, self.kick)

    def _wait(self, wait_ms: int) -> None:
        """Wait for bytes, or for the time alone while there is no port."""
        if not self._open:
            select.select([], [], [], wait_ms / 1000)
            return
        try:
            raw = self._link.read(self._clock.mono_us() + wait_ms * 1000)
        except LinkLostError as fault:
            self._drop(fault)
            return
        if raw:
            self._core.receive(raw, self.now_ms())
