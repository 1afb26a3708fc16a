"""The relay bus driver on a pseudo terminal, in real time: start, loss, exit, and sudden death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from firmware.base.clock import SystemClock
from firmware.board_line import LineSetup
from firmware.drivers.relay_bus import RelayBus
from firmware.ports import BusEvent, BusLost, BusOk, Flow, ValveState
from firmware.reactor import Reactor
from sim.bus_line import PtyLine
from sim.shower_board import ShowerBoard

ROOT = Path(__file__).parents[3]


def make_board() -> ShowerBoard:
    return ShowerBoard(now_ms=PtyLine.now_ms())


class Loop:
    """A reactor with the driver on it, run until something was heard."""

    def __init__(self, port: str) -> None:
        self.clock = SystemClock()
        self.bus = RelayBus(port, LineSetup(), self.clock)
        self.heard: list[BusEvent] = []
        self.wants: int | None = None

    def run(self, done: Callable[[BusEvent], bool], limit_ms: int = 5_000) -> None:
        reactor = Reactor(self.clock)

        def hear(event: object) -> None:
            assert isinstance(event, BusEvent)
            self.heard.append(event)
            if isinstance(event, Flow) and self.wants is not None:
                self.bus.open_for(self.wants)
            if done(event):
                reactor.stop()

        def too_late() -> None:
            raise AssertionError(self.heard[-3:])

        reactor.deliver_to(hear)
        reactor.call_later(limit_ms, too_late)
        self.bus.start(reactor, reactor.post)
        reactor.run()


def test_boot_run_exit() -> None:
    """Shut before there is a loop; water while it is asked for; shut and confirmed at exit."""
    board = make_board()
    with PtyLine(board) as line:
        loop = Loop(line.port)
        began_ms = line.now_ms()
        assert loop.bus.make_safe(2_000)
        assert line.now_ms() - began_ms < 1_000
        loop.bus.poll_every(100)
        loop.wants = 1_500
        loop.run(lambda event: isinstance(event, Flow) and event.pulses > 2)
        assert loop.bus.state() is ValveState.OPEN
        sample = loop.bus.read()
        assert sample is not None
        assert sample.pulses > 2
        assert board.relay
        assert loop.bus.stop()
        assert not board.relay
        assert loop.heard[0] == BusOk()
        assert loop.bus.fault_counts() == {}


def test_a_second_program_cannot_open_the_line() -> None:
    """The port is taken exclusively: the second driver is told LINK_LOST and never sends."""
    board = make_board()
    with PtyLine(board) as line:
        first, second = Loop(line.port), Loop(line.port)
        assert first.bus.make_safe(2_000)
        assert not second.bus.make_safe(200)
        requests = board.requests
        assert not second.bus.make_safe(700)
        assert board.requests == requests
        second.run(lambda event: event == BusLost("LINK_LOST"))
        second.bus.stop()
        first.bus.stop()


def test_the_adapter_is_pulled_out() -> None:
    """The line ends in mid-poll: LINK_LOST at once, and no crash of the loop."""
    board = make_board()
    line = PtyLine(board)
    with line:
        loop = Loop(line.port)
        loop.run(lambda event: isinstance(event, Flow))
        line.hang_up()
        loop.run(lambda event: event == BusLost("LINK_LOST"), 2_000)
        assert loop.bus.state() is ValveState.UNKNOWN
        loop.bus.stop()


HOLDER = """
import sys
from firmware.base.clock import SystemClock
from firmware.board_line import LineSetup
from firmware.drivers.relay_bus import RelayBus
from firmware.ports import Flow
from firmware.reactor import Reactor

bus = RelayBus(sys.argv[1], LineSetup(), SystemClock())
reactor = Reactor(SystemClock(), lambda event: isinstance(event, Flow) and bus.open_for(1500))
bus.poll_every(100)
bus.start(reactor, reactor.post)
reactor.run()
"""


def test_sigkill_with_water_running() -> None:
    """Killed while it holds the valve open: the board shuts within dead_ms + 100 ms."""
    board = make_board()
    board.pipe.travel_ms = 20
    with PtyLine(board) as line:
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, line.port], cwd=ROOT)
        try:
            _wait(lambda: board.flashes >= 2 and board.pipe.position == "open", 10)
            os.kill(holder.pid, signal.SIGKILL)
            killed_ms = line.now_ms()
        finally:
            holder.kill()
            holder.wait()
        _wait(lambda: board.pipe.position == "shut", 5)
        assert board.pipe.shut_at_ms - killed_ms <= 1_500 + 100
        with line.lock:
            ran_ml = board.pipe.water_ml
        assert ran_ml > 0
        assert not board.latching_opens


def _wait(done: Callable[[], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.01)
