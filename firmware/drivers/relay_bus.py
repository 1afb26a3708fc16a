"""The shower's relay board over RS-485: valve, meter and switches as ports on the loop.

The rules are in firmware.board_line; this file gives it a port, a reactor and a receiver. The valve
is shut at start, at exit and after every loss; killed in between, the board's dead-man shuts it.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware.base.clock import Clock
from firmware.board_line import BoardLine, LineSetup
from firmware.drivers.line_port import LinePort
from firmware.ports import BusEvent, MeterSample, ValveState
from firmware.reactor import Reactor


class RelayBus:
    """Valve, Meter and Polled of firmware.ports; posts Flow, BusLost, BusOk and Tamper."""

    def __init__(self, port: str, setup: LineSetup, clock: Clock) -> None:
        self.setup = setup
        self._line = BoardLine(setup)
        self._post: Callable[[BusEvent], None] | None = None
        self._early: list[BusEvent] = []
        self._port = LinePort(self._line, port, clock, baud=setup.baud, after=self._tell)

    def make_safe(self, limit_ms: int) -> bool:
        """Boot step 0, before there is a loop: written shut and read back, within the limit."""
        return self._port.drive_until(lambda: self._line.safe, limit_ms)

    def start(self, reactor: Reactor, post: Callable[[BusEvent], None]) -> None:
        """Poll and obey on this reactor from now on; events go to `post`."""
        self._post = post
        self._port.start(reactor)

    def stop(self) -> bool:
        """Shut, wait for the board's word at most two time-outs and a bit, and close the port."""
        self._line.shut(self._port.now_ms())
        known = self._port.drive_until(
            lambda: self._line.shut_known, 3 * self.setup.timeout_ms + 100
        )
        self._port.stop()
        return known

    def open_for(self, ms: int) -> None:
        """Water for at most `ms`, 100..dead_ms; call again on every Flow to let it run on."""
        self._line.open_for(ms, self._port.now_ms())
        self._port.kick()

    def shut(self) -> None:
        """Shut; the next request on the line."""
        self._line.shut(self._port.now_ms())
        self._port.kick()

    def state(self) -> ValveState:
        """The feedback of the last poll; UNKNOWN while the bus is lost."""
        return self._line.state

    def read(self) -> MeterSample | None:
        """The newest sample."""
        return self._line.sample

    def poll_every(self, ms: int) -> None:
        """The time from one poll to the next."""
        self._line.poll_every(ms)
        self._port.kick()

    def poll_now(self) -> None:
        """Poll as soon as the line is free."""
        self._line.poll_now(self._port.now_ms())
        self._port.kick()

    def buzz(self, ms: int) -> None:
        """Sound the board's buzzer."""
        self._line.buzz(ms)
        self._port.kick()

    def fault_counts(self) -> dict[str, int]:
        """Timeouts, bad frames and refusals since the start, by kind."""
        return dict(self._line.fault_counts)

    def _tell(self) -> None:
        while (event := self._line.next_event()) is not None:
            self._early.append(event)
        if self._post is not None:
            early, self._early = self._early, []
            for event in early:
                self._post(event)
