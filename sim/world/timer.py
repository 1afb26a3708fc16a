"""The till's one session timer on the heap of virtual time."""

from __future__ import annotations

from collections.abc import Callable

from sim.world.heap import Heap
from terminal.canteen.moves import Due, Timer


class SessionTimer:
    """Implements terminal.canteen.till.Timers."""

    def __init__(self, heap: Heap, node: str, give: Callable[[Due], None]) -> None:
        self._heap = heap
        self._node = node
        self._give = give
        self._running = 0

    def arm(self, timer: Timer, delay_ms: int) -> None:
        """Set it, replacing what ran."""
        self._running += 1
        mine = self._running
        what = b"timer" + timer.value.encode()
        self._heap.after(delay_ms * 1_000, self._node, what, lambda: self._due(mine, timer))

    def disarm(self) -> None:
        """Stop it."""
        self._running += 1

    def _due(self, mine: int, timer: Timer) -> None:
        if mine == self._running:
            self._give(Due(timer))
