"""From a board's pulse counter to new pulses: never negative, never more than the pipe can give.

Spec: terminals.md §8.2 and T8. A counter that steps back or a board that rebooted sets a new base;
a step above the physical limit is not counted. Both tell so, and both favour the holder.
"""

from __future__ import annotations

from dataclasses import dataclass

WRAP = 1 << 32
COUNTER_REBASED, FLOW_IMPOSSIBLE = "COUNTER_REBASED", "FLOW_IMPOSSIBLE"


@dataclass(frozen=True, slots=True)
class PulseStep:
    """New pulses since the last sample, and COUNTER_REBASED or FLOW_IMPOSSIBLE with pulses 0."""

    pulses: int
    fault: str | None = None


class PulseCounter:
    """The base of one counter of `pulses_per_m3`; `slack_ms`: how inexact a sample's time may be.

    What the pipe could have given and did not is carried over, at most `slack_ms` of it: the clock
    of a sample may jitter, a steady flow above the limit still shows within a few samples.
    """

    def __init__(self, pulses_per_m3: int, max_flow_l_min: int, slack_ms: int) -> None:
        self._pulses_per_1000_min = pulses_per_m3 * max_flow_l_min
        self._slack = self._limit(slack_ms)
        self._base: tuple[int, int, int] | None = None  # raw, boot count, at_ms
        self._carried = self._slack

    def take(self, raw: int, boot_count: int, at_ms: int) -> PulseStep:
        """The step of this sample; the first one only sets the base."""
        assert 0 <= raw < WRAP, raw
        base, self._base = self._base, (raw, boot_count, at_ms)
        if base is None:
            return PulseStep(0)
        old, old_boot, old_ms = base
        assert at_ms >= old_ms, (at_ms, old_ms)
        if boot_count != old_boot:
            return self._rebase(COUNTER_REBASED)
        step = (raw - old) % WRAP
        limit = self._carried + self._limit(at_ms - old_ms)
        if step <= limit:
            self._carried = min(limit - step, self._slack)
            return PulseStep(step)
        if raw < old:
            return self._rebase(COUNTER_REBASED)
        self._carried = 0
        return PulseStep(0, FLOW_IMPOSSIBLE)

    def _rebase(self, fault: str) -> PulseStep:
        self._carried = self._slack
        return PulseStep(0, fault)

    def _limit(self, ms: int) -> int:
        """Pulses that can come in `ms`, rounded up."""
        return -(-self._pulses_per_1000_min * ms // 60_000_000)
