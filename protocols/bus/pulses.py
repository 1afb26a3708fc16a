"""From a board's pulse counter to new pulses: never negative, never more than the pipe can give.

Spec: terminals.md §8.2 and T8. A board that rebooted sets a new base; so does a counter that steps
back, once the next sample says so too: a single one may be a reply that came late, and a base taken
from it would count water twice. A step above the physical limit is not counted. All favour the holder.
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
        self._stepped_back = False

    def take(self, raw: int, boot_count: int, at_ms: int) -> PulseStep:
        """The step of this sample; the first one only sets the base."""
        assert 0 <= raw < WRAP, raw
        if self._base is None:
            self._base = raw, boot_count, at_ms
            return PulseStep(0)
        old, old_boot, old_ms = self._base
        assert at_ms >= old_ms, (at_ms, old_ms)
        step, limit = (raw - old) % WRAP, self._carried + self._limit(at_ms - old_ms)
        rebooted, back = boot_count != old_boot, raw < old and step > limit
        if back and not rebooted and not self._stepped_back:
            self._stepped_back = True
            return PulseStep(0)
        self._base, self._stepped_back = (raw, boot_count, at_ms), False
        if rebooted or back:
            self._carried = self._slack
            return PulseStep(0, COUNTER_REBASED)
        if step > limit:
            self._carried = 0
            return PulseStep(0, FLOW_IMPOSSIBLE)
        self._carried = min(limit - step, self._slack)
        return PulseStep(step)

    def _limit(self, ms: int) -> int:
        """Pulses that can come in `ms`, rounded up."""
        return -(-self._pulses_per_1000_min * ms // 60_000_000)
