"""The machine's clock and chance, behind their ports."""

import time

from firmware.base.clock import SystemClock, Trust
from firmware.base.rng import SystemRng


def test_system_clock() -> None:
    """Monotonic time never goes back, wall time is µs UTC, trust is what was told."""
    clock = SystemClock()
    first = clock.mono_us()
    assert clock.mono_us() >= first
    assert abs(clock.wall_us() - time.time_ns() // 1000) < 5_000_000
    assert clock.trust() is Trust.UNTRUSTED
    clock.believe(Trust.SYNCED)
    assert clock.trust() is Trust.SYNCED


def test_system_rng() -> None:
    """Tokens have their length and differ; delays stay within both bounds."""
    rng = SystemRng()
    assert len({rng.token(16) for _ in range(50)}) == 50
    assert {rng.uniform_ms(3, 4) for _ in range(200)} == {3, 4}
