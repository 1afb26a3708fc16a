"""The pulse counter: wrap, step back, reboot, impossible steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bus.pulses import PulseCounter, PulseStep

TOP = (1 << 32) - 1


def counter() -> PulseCounter:
    return PulseCounter(pulses_per_m3=450_000, max_flow_l_min=30, slack_ms=200)  # 22.5 in 100 ms


@pytest.mark.parametrize(
    ("first", "then", "boots", "pulses", "fault"),
    [
        (1000, 1000, 0, 0, None),
        (1000, 1020, 0, 20, None),
        (TOP - 4, 5, 0, 10, None),  # wrap
        (1000, 1010, 1, 0, "COUNTER_REBASED"),  # rebooted, although it looks plausible
        (1000, 5000, 0, 0, "FLOW_IMPOSSIBLE"),
        (0, TOP, 0, 0, "FLOW_IMPOSSIBLE"),
    ],
)
def test_steps(first: int, then: int, boots: int, pulses: int, fault: str | None) -> None:
    """What a step of the register means, 100 ms later."""
    count = counter()
    assert count.take(first, 7, 0) == PulseStep(0)
    assert count.take(then, 7 + boots, 100) == PulseStep(pulses, fault)
    assert count.take((then + 1) % (TOP + 1), 7 + boots, 200) == PulseStep(
        1
    )  # the base is the newest


@pytest.mark.parametrize("back", [999, 0])
def test_a_step_back_counts_once_it_is_confirmed(back: int) -> None:
    """Twice below the base: COUNTER_REBASED, and counting goes on from there."""
    count = counter()
    count.take(1000, 7, 0)
    assert count.take(back, 7, 100) == PulseStep(0)
    assert count.take(back, 7, 200) == PulseStep(0, "COUNTER_REBASED")
    assert count.take(back + 5, 7, 300) == PulseStep(5)


def test_one_late_sample_counts_nothing_twice() -> None:
    """A single sample from before is left out: the water after it is counted once."""
    count = counter()
    assert [count.take(raw, 7, 100 * n).pulses for n, raw in enumerate((0, 10, 20, 10, 40))] == [
        *(0, 10, 10, 0, 20)
    ]


def test_a_flow_a_little_above_the_limit_shows() -> None:
    """35 l/min hides in the jitter of a sample for a moment, then each sample is impossible."""
    count, faults, raw = counter(), list[str | None](), 0
    for n in range(40):
        faults.append(count.take(raw, 7, n * 100).fault)
        raw += 27
    assert faults[:5] == [None] * 5
    assert faults[-10:] == ["FLOW_IMPOSSIBLE"] * 10


def test_a_flow_at_the_limit_with_jitter_passes() -> None:
    """30 l/min read at uneven moments is never impossible."""
    count = counter()
    for at_ms in range(0, 10_000, 100):
        late_ms = (at_ms * 7919 // 100) % 150  # the sample is stamped this much too early
        assert count.take((at_ms + late_ms) * 225 // 1000, 7, at_ms).fault is None


@given(st.lists(st.tuples(st.integers(0, TOP), st.integers(0, 3), st.integers(0, 5000))))
def test_never_negative_never_too_much(
    samples: list[tuple[int, int, int]],
) -> None:
    """Any sequence of samples: the sum stays within what the pipe can give."""
    count, at_ms, total = counter(), 0, 0
    for raw, boot, step_ms in samples:
        at_ms += step_ms
        step = count.take(raw, boot, at_ms)
        assert step.pulses >= 0
        assert step.fault is None or step.pulses == 0
        total += step.pulses
    # each sample may round up by one, and the jitter allowance comes back with each re-base
    assert total <= 225 * at_ms // 1000 + 46 * (len(samples) + 1)
