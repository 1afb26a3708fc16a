"""Metering: floor of totals, the holder's favour, and when the next quantum is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal.shower.metering import (
    Tariff,
    consumed_fen,
    debit_due,
    flow_impossible,
    residual_fen,
)

VOLUME = Tariff(1, fen_per_m3=2500)
TIME = Tariff(1, mfen_per_s=333)


def test_first_quantum_is_thirty_seconds() -> None:
    """25 yuan/t at 8 l/min: 10 fen are 4 l, which is 30 s of water."""
    assert VOLUME.used_mfen(4 * 450, 0) == 10_000
    assert VOLUME.use_in_mfen(30_000, 8 * 450, 60_000) == 10_000


def test_time_tariff_counts_open_time_only() -> None:
    """By time pulses cost nothing, and a begun mfen is not charged."""
    assert TIME.used_mfen(10**6, 1_999) == 665
    assert TIME.use_in_mfen(3_000, 0, 0) == 999


@given(st.lists(st.integers(0, 500), max_size=50))
def test_no_rounding_adds_up(polls: list[int]) -> None:
    """The total is charged once; the sum of parts rounded one by one would be no more."""
    parts = sum(VOLUME.used_mfen(n, 0) for n in polls)
    whole = VOLUME.used_mfen(sum(polls), 0)
    assert parts <= whole
    assert whole * 450 <= sum(polls) * 2500


@given(st.integers(0, 10_000), st.integers(0, 20_000_000))
def test_paid_is_consumed_and_residual(paid: int, used: int) -> None:
    """Every fen paid has one place, and the residual is never negative (T6)."""
    rest = residual_fen(paid, used)
    assert 0 <= rest <= paid
    assert paid == min(paid, consumed_fen(used)) + rest


def test_begun_fen_is_the_holders() -> None:
    """999 mfen cost nothing (T7)."""
    assert (consumed_fen(999), residual_fen(10, 9_999)) == (0, 1)


def test_next_debit_below_a_third_or_low_water() -> None:
    """Strictly below a third of the quantum, or below what runs in low_water_s."""
    assert not debit_due(9, 3_000, 18, 0)
    assert debit_due(9, 3_001, 18, 0)
    assert debit_due(9, 0, 18, 9_001)
    assert not debit_due(9, 0, 18, 9_000)


def test_flow_at_the_limit_is_possible() -> None:
    """30 l/min is allowed, one pulse more is not."""
    assert not flow_impossible(225, 1_000, 450, 30)
    assert flow_impossible(226, 1_000, 450, 30)


def test_tariff_is_one_of_two() -> None:
    """A tariff of both kinds, or of none, is a bug."""
    for both in ((0, 0), (1, 1)):
        with pytest.raises(AssertionError):
            Tariff(1, *both)


def test_still_meter_expects_nothing() -> None:
    """No time has passed: nothing is forecast, nothing is divided by zero."""
    assert VOLUME.use_in_mfen(3_000, 5, 0) == 0
