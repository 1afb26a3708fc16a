"""Doubts: unknown stays unknown until something proves it (card.md §6.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocols.wire.messages import Ack, Cmd
from protocols.wire.record import Kind, own_of
from sync.errors import OfficeStateError
from tests.sync.central.pens import csr_of, key_of, shown

TORN = "suspense:torn"


# --- doubts -----------------------------------------------------------------------------------


def test_a_doubt_posts_nothing(campus: Any, pens: Any) -> None:
    """Unknown stays unknown."""
    pen, chip = pens[0], campus.card()
    pen.doubt(pen.intent(chip, 500))
    campus.give(pen.segment())
    campus.marks(*pens)
    assert campus.purse(chip) == 10_000
    assert campus.doubts() == [(0, None)]


def test_the_prove_tac_of_a_doubt_commits_it(campus: Any, pens: Any) -> None:
    """DOUBT_UP carries PROVE's TAC; verified over our own fields it decides at once."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    evidence = [0x9000, b"mac!", chip.tac(intent), None, None, None]
    own = own_of(Kind.DOUBT_UP, evidence=evidence)
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    chip.paid(500)
    campus.send(pen)
    out = campus.work()
    assert campus.doubts() == [(1, "tac")]
    assert campus.fen("merchant:north") == 500
    commands = [m for m in out if isinstance(m, Cmd)]
    assert [m.body for m in commands] == [[1, intent.seq, 1, "tac"]]


def test_a_doubt_whose_counter_is_owned_is_void(campus: Any, pens: Any) -> None:
    """Another terminal's proved sale has that counter: ours never happened."""
    chip = campus.card()
    pens[0].doubt(pens[0].intent(chip, 500))
    pens[1].sale(chip, 200)
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.doubts() == [(2, "owner")]
    assert campus.purse(chip) == chip.balance == 9_800


def test_the_next_balance_commits_a_doubt(campus: Any, pens: Any) -> None:
    """Exactly our debit is missing between two proved sales, and everybody was heard."""
    chip = campus.card()
    intent = pens[0].intent(chip, 500)
    pens[0].doubt(intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    campus.send(*pens)
    campus.work()
    assert campus.doubts() == [(0, None)]
    campus.marks(*pens)
    assert campus.doubts() == [(1, "counter")]
    assert campus.fen("merchant:north") == 500
    assert campus.purse(chip) == chip.balance


def test_silence_of_one_terminal_keeps_a_doubt_open(campus: Any, pens: Any) -> None:
    """The watermark precondition: the real owner may still be unsynced."""
    third = campus.terminal("T0003", "third", 103)
    third.begin()
    campus.give(third.segment())
    chip = campus.card()
    intent = pens[0].intent(chip, 500)
    pens[0].doubt(intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.doubts() == [(0, None)]
    campus.marks(*pens, third)
    assert campus.doubts() == [(1, "counter")]


def test_the_cards_record_chooses_between_two_doubts(campus: Any, pens: Any) -> None:
    """Two doubts claim one counter with one amount; `prev` names the one that happened."""
    chip = campus.card()
    first = pens[0].intent(chip, 500)
    pens[0].doubt(first)
    campus.clock.step(5)
    second = pens[1].intent(chip, 500)
    pens[1].doubt(second)
    chip.paid(500)
    campus.clock.step(5)
    pens[0].sale(chip, 100, prev=shown(second))
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.doubts() == [(2, "counter"), (1, "counter")]
    assert campus.fen("merchant:south") == 500
    assert campus.purse(chip) == chip.balance


def test_an_ambiguous_counter_goes_to_a_person(campus: Any, pens: Any) -> None:
    """Same amount, no record: the purse paid once, whose sale it was stays in suspense:torn."""
    chip = campus.card()
    pens[0].doubt(pens[0].intent(chip, 500))
    pens[1].doubt(pens[1].intent(chip, 500))
    chip.paid(500)
    pens[0].sale(chip, 100)
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.fen(TORN) == 500
    assert campus.purse(chip) == chip.balance
    assert campus.open_items() == ["POST_SUSPENSE_TORN"]
    item = campus.value("SELECT id FROM suspense_item WHERE state = 0")
    campus.centre.resolve_suspense(campus.idem(), ("zhang", None), item, "merchant:south")
    assert (campus.fen(TORN), campus.fen("merchant:south")) == (0, 500)


@pytest.mark.parametrize("proof", [True, False])
def test_an_old_doubt_closes_for_the_holder_and_late_evidence_waits(
    campus: Any, pens: Any, proof: bool
) -> None:
    """30 days unseen: AGED, void; a CAPTURE that comes after that goes to suspense:torn, once."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    campus.send(*pens)
    campus.clock.step(31 * 86_400)
    campus.marks(*pens)
    assert campus.doubts() == [(3, "aged")]
    chip.paid(500)
    pen.late(chip, intent, chip.tac(intent) if proof else None, "prove" if proof else "record")
    campus.send(*pens)
    campus.work()
    assert (campus.fen(TORN), campus.fen("merchant:north")) == (500, 0)
    assert campus.open_items() == ["POST_SUSPENSE_TORN"]


def test_the_terminal_and_the_centre_may_both_decide(campus: Any, pens: Any) -> None:
    """The centre committed a doubt; the terminal's own late CAPTURE books it no second time."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    campus.send(*pens)
    campus.marks(*pens)
    pen.late(chip, intent, chip.tac(intent), "prove")
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.fen("merchant:north") == 500
    assert campus.purse(chip) == chip.balance
    assert campus.open_items() == []


def test_forged_evidence_denies_the_card(campus: Any, pens: Any) -> None:
    """DOUBT_UP{forged}: suspect list, alarm, and the next `cards` version names it."""
    pen, chip = pens[0], campus.card()
    campus.centre.publish_cards(campus.idem(), "office")
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    own = own_of(Kind.DOUBT_UP, evidence=None, forged=1)
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    campus.send(pen)
    campus.work()
    assert campus.value("SELECT n_item FROM list_version WHERE version = 2") == 1
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'CARD_FORGED'") == 1
    campus.centre.clear_suspect(campus.idem(), "office", chip.asn)
    assert campus.value("SELECT n_item FROM list_version WHERE version = 3") == 0


def test_tail_that_tells_of_a_doubt_the_centre_made_itself(campus: Any, pens: list[Any]) -> None:
    """An INTENT left open by a replaced device is a doubt here; its own DOUBT comes with the tail."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 100)
    campus.give(pen.segment())
    claim = campus.centre.replace_terminal(campus.idem(), "office", pen.code)
    campus.enroller.admit(claim, csr_of(key_of(900)))
    assert campus.doubts() == [(0, None)]
    campus.centre.lane_reopen(campus.idem(), ("a", "b"), pen.code, 1)
    pen.doubt(intent, "restart")
    assert isinstance(campus.give(pen.segment())[-1], Ack)
    assert campus.doubts() == [(0, None)]


def test_a_doubt_committed_here_is_placed_by_the_centres_clock(campus: Any, pens: Any) -> None:
    """A terminal a day behind: its debit does not look a day older than everybody's silence."""
    pen, chip = pens[0], campus.card()
    behind_us = 86_400_000_000
    campus.give(pen.hello(t1_us=campus.clock.wall_us() - behind_us))
    debited_us = campus.clock.wall_us()
    intent = pen.intent(chip, 500)
    items = replace(intent, wall_us=intent.wall_us - behind_us)
    pen.bodies.pop()
    pen.hashes.pop()
    pen.raw(items.encode())
    evidence = [0x9000, b"mac!", chip.tac(intent), None, None, None]
    own = own_of(Kind.DOUBT_UP, evidence=evidence)
    pen.doubt(intent)
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    campus.send(pen)
    campus.work()
    assert campus.doubts() == [(1, "tac")]
    assert campus.value("SELECT event_us FROM card_seen") == debited_us


def test_an_item_cannot_be_resolved_to_where_it_is(campus: Any, pens: Any) -> None:
    """A slip of the office is refused, not an error of the database."""
    pen, chip = pens[0], campus.card()
    pen.capture(chip, pen.intent(chip, 500), b"evil")
    campus.send(pen)
    campus.work()
    item = campus.value("SELECT id FROM suspense_item")
    with pytest.raises(OfficeStateError):
        campus.centre.resolve_suspense(campus.idem(), ("zhang", None), item, "suspense:tac")
    assert campus.open_items() == ["POST_SUSPENSE_TAC"]


def test_a_terminal_cannot_undo_what_the_centre_decided(campus: Any, pens: Any) -> None:
    """VOID from a terminal about a debit that is proved and booked: the decision stands."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    own = own_of(Kind.DOUBT_UP, evidence=[0x9000, b"mac!", chip.tac(intent), None, None, None])
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    campus.send(pen)
    campus.work()
    void = own_of(Kind.VOID, via="counter")
    pen.add(Kind.VOID, ref=intent.seq, inst=chip.asn, fen=500, own=void)
    campus.send(pen)
    campus.marks(*pens)
    assert campus.doubts() == [(1, "tac")]
    assert campus.fen("merchant:north") == 500


def test_a_decision_that_the_centre_never_made(campus: Any, pens: Any) -> None:
    """DOUBT_DONE about a doubt that is open here closes nothing; a person looks at it."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    pen.add(
        Kind.DOUBT_DONE,
        ref=intent.seq,
        own=own_of(Kind.DOUBT_DONE, decision="void", via="centre"),
    )
    campus.send(pen)
    assert campus.doubts() == [(0, None)]
    assert campus.open_items() == ["POST_SUSPENSE_REF"]


def test_a_counter_from_before_the_card_was_issued(campus: Any, pens: Any) -> None:
    """The card began at 5: a doubt about counter 3 can never have been its debit here."""
    pen, chip = pens[0], campus.card(known=False)
    campus.centre.issue_card(campus.idem(), "office", chip.asn, 10_000, first_ctr=5)
    chip.ctr = 3
    pen.doubt(pen.intent(chip, 500))
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.doubts() == [(2, "owner")]
