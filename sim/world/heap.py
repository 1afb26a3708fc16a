"""Virtual time: one heap of (t_us, n, node, event); nothing else in the world moves a clock.

`n` breaks ties by insertion, so the order never depends on hashes or identities. Every event that
is delivered goes through `seen` first: the digest of a run is made of these bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Act = Callable[[], None]
Seen = Callable[[int, str, bytes], None]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


class Heap:
    """Pending events and the virtual instant, in µs since the world began."""

    def __init__(self, seen: Seen) -> None:
        self.now_us = 0
        self.delivered = 0
        self._seen = seen
        self._pending: list[tuple[int, int, str, bytes, Act]] = []
        self._count = 0

    def at(self, t_us: int, node: str, what: bytes, act: Act) -> None:
        """Do `act` at an instant; one already past means now. `what` names it in the digest."""
        self._count += 1
        entry = (max(t_us, self.now_us), self._count, node, what, act)
        heapq.heappush(self._pending, entry)

    def after(self, delay_us: int, node: str, what: bytes, act: Act) -> None:
        """Do `act` after a delay."""
        self.at(self.now_us + delay_us, node, what, act)

    def run(self, until_us: int, stop: Callable[[], bool]) -> None:
        """Deliver everything up to an instant, or until `stop` says so after an event."""
        while self._pending and self._pending[0][0] <= until_us:
            t_us, _, node, what, act = heapq.heappop(self._pending)
            self.now_us = t_us
            self.delivered += 1
            self._seen(t_us, node, what)
            act()
            if stop():
                return
        self.now_us = max(self.now_us, until_us)
