"""A node's clock: heap time seen through a drifting quartz that can jump or forget the year."""

from __future__ import annotations

from firmware.base.clock import Trust
from sim.world.heap import Heap

WORLD_BEGINS_US = 1_772_395_200_000_000  # 2026-03-02 04:00 on campus: before breakfast


class NodeClock:
    """Implements firmware.base.clock.Clock over the heap."""

    def __init__(self, heap: Heap, drift_ppm: int = 0) -> None:
        self._heap = heap
        self._drift_ppm = drift_ppm
        self._boot_us = 0
        self._shift_us = 0
        self._trust = Trust.HELD
        self.jumps = 0

    def mono_us(self) -> int:
        """Microseconds since this node was last powered."""
        return self._drifted(self._heap.now_us - self._boot_us)

    def wall_us(self) -> int:
        """Microseconds UTC as this node believes them."""
        return max(WORLD_BEGINS_US + self._drifted(self._heap.now_us) + self._shift_us, 0)

    def trust(self) -> Trust:
        """What the owner believes of the wall clock."""
        return self._trust

    def believe(self, trust: Trust) -> None:
        """The owner learnt how far the wall clock may be trusted."""
        self._trust = trust

    def at_mono_us(self, mono_us: int) -> int:
        """The heap instant at which `mono_us` will be reached, never before it."""
        elapsed = mono_us * 1_000_000 // (1_000_000 + self._drift_ppm)
        return self._boot_us + elapsed + 2

    # ---- faults

    def booted(self) -> None:
        """Power came back: monotonic time starts again."""
        self._boot_us = self._heap.now_us

    def jump(self, shift_us: int) -> None:
        """The battery clock lost its mind by so much."""
        self._shift_us = shift_us
        self.jumps += 1

    def corrected(self) -> None:
        """Somebody set the clock right."""
        self._shift_us = 0

    def _drifted(self, span_us: int) -> int:
        return span_us + span_us * self._drift_ppm // 1_000_000
