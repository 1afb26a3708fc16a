"""A board and the product's core for it on one virtual line: the rig of tests and of the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from firmware.board_line import BoardLine, LineSetup
from firmware.ports import BusEvent, Flow
from sim.bus_line import VirtualBus
from sim.shower_board import ShowerBoard
from sim.water_pipe import WaterPipe

Kind = TypeVar("Kind")


class ShowerRig:
    """`wants` is the session: while it is set, every Flow asks for so many ms of water."""

    def __init__(self, setup: LineSetup | None = None, board: ShowerBoard | None = None) -> None:
        self.core = BoardLine(LineSetup() if setup is None else setup)
        self.board = ShowerBoard() if board is None else board
        self.heard: list[tuple[int, BusEvent]] = []
        self.wants: int | None = None
        self.bus: VirtualBus[BusEvent] = VirtualBus(self.core, self.board, self._hear)

    @property
    def now_ms(self) -> int:
        """Virtual time."""
        return self.bus.now_ms

    def boot(self, poll_ms: int = 100) -> None:
        """Bring the line up and poll at this pace."""
        self.core.link_up(self.now_ms)
        self.core.poll_every(poll_ms)

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self.bus.advance(ms)

    def advance_until(self, done: Callable[[], bool], limit_ms: int) -> None:
        """Let time pass in steps of 10 ms until `done`, which must come within the limit."""
        end_ms = self.now_ms + limit_ms
        while not done():
            assert self.now_ms < end_ms, ("not within", limit_ms)
            self.advance(10)

    def flows(self) -> list[Flow]:
        """The samples so far."""
        return self.events(Flow)

    def events(self, kind: type[Kind]) -> list[Kind]:
        """The events of this kind so far."""
        return [event for _, event in self.heard if isinstance(event, kind)]

    def writes(self) -> list[tuple[int, bytes]]:
        """When which write was sent."""
        return [(at_ms, raw) for at_ms, raw in self.bus.sent if raw[1] == 5]

    def open(self, ms: int = 1_500) -> None:
        """Water from now on."""
        self.wants = ms
        self.core.open_for(ms, self.now_ms)
        self.bus.settle()

    def shut(self) -> None:
        """No more water."""
        self.wants = None
        self.core.shut(self.now_ms)
        self.bus.settle()

    def _hear(self, event: BusEvent) -> None:
        self.heard.append((self.now_ms, event))
        if isinstance(event, Flow) and self.wants is not None:
            self.core.open_for(self.wants, self.now_ms)


def ready_rig(pipe: WaterPipe | None = None) -> ShowerRig:
    """A rig whose board is known as safe and polled every 100 ms."""
    rig = ShowerRig(board=ShowerBoard(pipe=pipe))
    rig.boot()
    rig.advance(300)
    assert rig.core.safe
    return rig
