"""Time as an injected port: the only place of the product that reads the machine's clocks."""

from __future__ import annotations

import time
from enum import Enum
from typing import Protocol


class Trust(Enum):
    """How far the wall clock may be believed (codes.md §2.8)."""

    SYNCED = "synced"
    HELD = "held"
    UNTRUSTED = "untrusted"


class Clock(Protocol):
    """Monotonic time for durations, wall time for stamps, and the trust in the latter."""

    def mono_us(self) -> int:
        """Microseconds of a clock that never steps; the origin means nothing."""

    def wall_us(self) -> int:
        """Microseconds UTC since 1970."""

    def trust(self) -> Trust:
        """The state of the wall clock."""


class SystemClock:
    """The machine's clocks; trust is what the owner learnt and told it by `believe`."""

    def __init__(self, trust: Trust = Trust.UNTRUSTED) -> None:
        self._trust = trust

    def mono_us(self) -> int:
        """Microseconds since boot or so."""
        return time.monotonic_ns() // 1000

    def wall_us(self) -> int:
        """Microseconds UTC."""
        return time.time_ns() // 1000

    def trust(self) -> Trust:
        """The trust last told."""
        return self._trust

    def believe(self, trust: Trust) -> None:
        """Set the trust: SYNCED once centre or NTP time was learnt, HELD for a good RTC."""
        self._trust = trust
