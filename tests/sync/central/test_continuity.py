"""The judge of gaps in a card's chain, as a pure function."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.central.continuity import ASSIGNMENTS_MAX, Claimant, Ruling, Shown, Stretch, settle

YES, NO, TORN = Ruling.COMMITTED, Ruling.VOID, Ruling.TORN


def shown(n: int, fen: int) -> Shown:
    return Shown(fen, 6, bytes(6), bytes(4), n.to_bytes(3, "big"))


def claim(n: int, ctr: int, fen: int, before: int | None) -> Claimant:
    return Claimant((n, 1, 1), ctr, fen, before, shown(n, fen))


def ruled(stretch: Stretch, *claims: Claimant) -> list[Ruling | None]:
    found = settle(stretch, claims)
    return [found.get(one.key) for one in claims]


def test_the_only_claim_that_leads_there_is_committed() -> None:
    """One counter, the right amount: ours; another amount: nothing is known."""
    gap = Stretch(5, 5, 1_000, 700, None)
    assert ruled(gap, claim(1, 5, 300, 1_000)) == [YES]
    assert ruled(gap, claim(1, 5, 200, 1_000)) == [None]
    assert ruled(gap) == []


def test_purse_before_must_fit_the_running_balance() -> None:
    """A claim with the right amount at the wrong balance is not the one."""
    gap = Stretch(5, 5, 1_000, 700, None)
    assert ruled(gap, claim(1, 5, 300, 900), claim(2, 5, 300, 1_000)) == [NO, YES]
    assert ruled(gap, claim(1, 5, 300, None)) == [YES]


def test_two_that_fit_are_torn_unless_the_card_names_one() -> None:
    """Same amount, same balance: only the card's own record can choose."""
    both = (claim(1, 5, 300, 1_000), claim(2, 5, 300, 1_000))
    assert ruled(Stretch(5, 5, 1_000, 700, None), *both) == [TORN, TORN]
    assert ruled(Stretch(5, 5, 1_000, 700, shown(2, 300)), *both) == [NO, YES]


def test_a_foreign_record_voids_even_when_nothing_fits() -> None:
    """The card names another debit at the last counter: whoever claims it is wrong."""
    gap = Stretch(4, 5, 1_000, 700, shown(9, 300))
    assert ruled(gap, claim(1, 5, 300, 1_000), claim(2, 4, 100, 1_000)) == [NO, None]


def test_several_counters_are_solved_together() -> None:
    """Each counter one claim, the balances lead from end to end."""
    gap = Stretch(5, 6, 1_000, 400, None)
    claims = (claim(1, 5, 200, 1_000), claim(2, 6, 400, 800), claim(3, 5, 400, 1_000))
    assert ruled(gap, *claims) == [YES, YES, NO]


def test_a_counter_that_nobody_claims_keeps_all_open() -> None:
    """The missing record may change everything."""
    assert ruled(Stretch(5, 6, 1_000, 400, None), claim(1, 5, 200, 1_000)) == [None]


def test_too_many_assignments_are_left_alone() -> None:
    """Bounded work on hostile input."""
    gap = Stretch(0, 12, 10_000, 9_000, None)
    claims = [claim(100 * c + n, c, 1 + n, None) for c in range(13) for n in range(2)]
    assert ASSIGNMENTS_MAX < 2**13
    assert settle(gap, claims) == {}


@st.composite
def histories(draw: Any) -> tuple[Stretch, list[Claimant], set[int]]:
    """A chip's true debits over a gap, with decoys that never happened."""
    size = draw(st.integers(1, 4))
    balance, claims, true = 10_000, [], set()
    for n in range(size):
        fen = draw(st.sampled_from((100, 100, 200, 350)))
        claims.append(claim(n, n, fen, balance))
        true.add(n)
        balance -= fen
    decoys = draw(st.integers(0, 4))
    for n in range(decoys):
        ctr = draw(st.integers(0, size - 1))
        fen = draw(st.sampled_from((100, 200, 350)))
        before = draw(st.sampled_from((None, claims[ctr].before_fen, 9_900)))
        claims.append(claim(50 + n, ctr, fen, before))
    last = claims[size - 1].shown if draw(st.booleans()) else None
    order = draw(st.permutations(claims))
    return Stretch(0, size - 1, 10_000, balance, last), order, true


@settings(max_examples=400, deadline=None)
@given(histories())
def test_no_true_debit_is_voided_and_no_false_one_committed(
    case: tuple[Stretch, list[Claimant], set[int]],
) -> None:
    """With every record at hand the judge never decides against what the chip did."""
    stretch, claims, true = case
    for key, ruling in settle(stretch, claims).items():
        if key[0] in true:
            assert ruling is not NO
        else:
            assert ruling is not YES
