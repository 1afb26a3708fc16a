"""The plans of torn taps leave no boundary out."""

from sim.campus.tears import APDUS, DEBIT, DEBIT_REPLY, KINDS, Then, boundaries, short, whole
from sim.card import TearAt


def test_every_boundary_of_a_tap() -> None:
    """Each APDU at each of its moments, and the DEBIT's answer after every byte."""
    tears = list(boundaries(range(DEBIT_REPLY)))
    assert {(t.apdu, t.at) for t in tears} == {(n, at) for n in range(APDUS) for at in KINDS}
    inside = [t.reply_count for t in tears if t.at is TearAt.MID_REPLY and t.apdu == DEBIT]
    assert inside == list(range(DEBIT_REPLY))


def test_the_slice_has_every_boundary_and_every_owner() -> None:
    """The short plan leaves out repetitions only."""
    plan = short()
    assert {(s.tear.apdu, s.tear.at) for s in plan} == {
        (n, at) for n in range(APDUS) for at in KINDS
    }
    assert {s.then for s in plan} == set(Then)


def test_the_whole_plan_tears_the_way_back_too() -> None:
    """Every boundary with every owner, and second tears through the whole recovery."""
    plan = whole()
    assert len(plan) == len(set(map(str, plan)))
    assert len([s for s in plan if s.again is None]) == 25 * len(Then)
    assert {s.again.apdu for s in plan if s.again is not None} == set(range(7))
