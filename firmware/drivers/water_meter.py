"""A CJ/T 188 valve water meter on its own line (2400 8E1) as ports on the loop.

The rules are in firmware.meter_line. Whether it may move water is the configuration's word: behind
a timed relay it only counts, alone it needs `allow_no_deadman` (terminals.md §8.3).
"""

from __future__ import annotations

from collections.abc import Callable

from firmware.base.clock import Clock
from firmware.drivers.line_port import LinePort
from firmware.meter_line import MeterLine, MeterSetup
from firmware.ports import BusEvent, MeterSample, ValveState
from firmware.reactor import Reactor


class WaterMeter:
    """Meter and Polled of firmware.ports, and Valve if it drives one; posts the same events."""

    def __init__(self, port: str, setup: MeterSetup, clock: Clock) -> None:
        self.setup = setup
        self._line = MeterLine(setup)
        self._post: Callable[[BusEvent], None] | None = None
        self._early: list[BusEvent] = []
        self._port = LinePort(
            self._line, port, clock, baud=setup.baud, parity="E", after=self._tell
        )

    def make_safe(self, limit_ms: int) -> bool:
        """Boot: shut (if it drives its valve) or a first reading, within the limit."""
        return self._port.drive_until(lambda: self._line.safe, limit_ms)

    def start(self, reactor: Reactor, post: Callable[[BusEvent], None]) -> None:
        """Read on this reactor from now on; events go to `post`."""
        self._post = post
        self._port.start(reactor)

    def stop(self) -> None:
        """Shut if it drives its valve, wait for the answer within two tries, close the port."""
        if self.setup.drives_valve:
            self._line.shut(self._port.now_ms())
            self._port.drive_until(lambda: self._line.shut_known, 3 * self.setup.timeout_ms)
        self._port.stop()

    def open_for(self, ms: int) -> None:
        """Water for `ms` unless asked again; only while this program lives."""
        self._line.open_for(ms, self._port.now_ms())
        self._port.kick()

    def shut(self) -> None:
        """Force the meter's valve shut."""
        self._line.shut(self._port.now_ms())
        self._port.kick()

    def state(self) -> ValveState:
        """The valve as the last reading told it."""
        return self._line.state

    def read(self) -> MeterSample | None:
        """The newest reading."""
        return self._line.sample

    def poll_every(self, ms: int) -> None:
        """The time from one reading to the next."""
        self._line.poll_every(ms)
        self._port.kick()

    def poll_now(self) -> None:
        """Read as soon as the line is free."""
        self._line.poll_now(self._port.now_ms())
        self._port.kick()

    def _tell(self) -> None:
        while (event := self._line.next_event()) is not None:
            self._early.append(event)
        if self._post is not None:
            early, self._early = self._early, []
            for event in early:
                self._post(event)
