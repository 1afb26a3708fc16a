"""Reversals, lost cards, and kinds that have no rules yet."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire.record import Kind, own_of

HELD = "suspense:tac"


# --- reversals --------------------------------------------------------------------------------


def test_a_reversal_reaches_the_wallet_once_the_sale_is_proved(campus: Any, pens: Any) -> None:
    """Merchant to wallet, by way of suspense:tac; in a later segment than its sale."""
    pen, chip = pens[0], campus.card()
    _, capture = pen.sale(chip, 500)
    campus.give(pen.segment())
    pen.reverse(chip, capture.seq, 500)
    campus.give(pen.segment())
    assert (campus.fen("merchant:north"), campus.wallet(chip)) == (0, 0)
    campus.marks(*pens)
    assert (campus.fen("merchant:north"), campus.wallet(chip), campus.fen(HELD)) == (0, 500, 0)


def test_a_reversal_of_a_forged_sale_pays_nobody(campus: Any, pens: Any) -> None:
    """CAPTURE with a garbage TAC and its REVERSAL: no way from a stolen key into a wallet."""
    pen, chip = pens[0], campus.card()
    capture = pen.capture(chip, pen.intent(chip, 500), b"evil")
    pen.reverse(chip, capture.seq, 500)
    pens[1].sale(chip, 100)
    campus.send(*pens)
    campus.work()
    assert campus.wallet(chip) == 0
    campus.marks(*pens)
    assert (campus.wallet(chip), campus.fen("merchant:north"), campus.fen(HELD)) == (0, 0, 0)
    assert campus.purse(chip) == chip.balance


def test_a_reversal_twice_or_too_large(campus: Any, pens: Any) -> None:
    """M23: at most one per sale, at most its amount, and never of another REVERSAL."""
    pen, chip = pens[0], campus.card()
    _, capture = pen.sale(chip, 500)
    pen.reverse(chip, capture.seq, 501)
    pen.reverse(chip, capture.seq, 500)
    pen.reverse(chip, capture.seq, 500)
    campus.give(pen.segment())
    pen.reverse(chip, capture.seq, 500)
    pen.reverse(chip, len(pen.bodies) - 2, 500)
    pen.reverse(chip, 9_999, 500)
    campus.give(pen.segment())
    campus.marks(*pens)
    assert campus.wallet(chip) == 500
    assert campus.open_items() == ["POST_SUSPENSE_REVERSAL"] * 5


@pytest.mark.parametrize("apart", [False, True])
def test_a_reversal_of_what_the_holder_has_already(campus: Any, pens: Any, apart: bool) -> None:
    """ABANDON, late CAPTURE, then REVERSAL: the wallet is not credited twice at the merchant's cost."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    tac = chip.tac(intent)
    chip.paid(500)
    pen.add(Kind.ABANDON, ref=intent.seq)
    capture = pen.late(chip, intent, tac, "prove")
    if apart:
        campus.give(pen.segment())
        campus.work()
    pen.reverse(chip, capture.seq, 500)
    campus.send(*pens)
    campus.marks(*pens)
    assert (campus.wallet(chip), campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0, 0)
    assert campus.open_items() == ["POST_SUSPENSE_REVERSAL"]


@pytest.mark.parametrize("apart", [False, True])
def test_a_reversal_of_a_lost_cards_sale(campus: Any, pens: Any, apart: bool) -> None:
    """The school made the purse whole, so the merchant's money is the school's, not the holder's."""
    pen, chip = pens[0], campus.card()
    campus.centre.report_loss(campus.idem(), "office", chip.asn)
    campus.clock.step(1)
    _, capture = pen.sale(chip, 500)
    if apart:
        campus.give(pen.segment())
        campus.work()
    pen.reverse(chip, capture.seq, 500)
    campus.send(*pens)
    campus.marks(*pens)
    assert (campus.wallet(chip), campus.purse(chip)) == (0, 10_000)
    assert (campus.fen("merchant:north"), campus.fen("suspense:post-loss")) == (0, 0)
    assert campus.open_items() == ["POST_SUSPENSE_LOSS", "POST_SUSPENSE_REVERSAL"]


# --- lost cards -------------------------------------------------------------------------------


def test_debits_after_the_loss_report_are_the_schools(campus: Any, pens: Any) -> None:
    """The merchant is paid, the purse is made whole; lifting makes them the holder's again."""
    pen, chip = pens[0], campus.card()
    pen.sale(chip, 100)
    campus.clock.step(60)
    campus.centre.report_loss(campus.idem(), "office", chip.asn)
    campus.clock.step(60)
    pen.sale(chip, 300)
    campus.give(pen.segment())
    campus.work()
    assert campus.fen("merchant:north") == 400
    assert campus.purse(chip) == 9_900
    assert campus.fen("suspense:post-loss") == -300
    assert campus.open_items() == ["POST_SUSPENSE_LOSS"]
    campus.centre.lift_loss(campus.idem(), "office", chip.asn)
    assert campus.purse(chip) == chip.balance == 9_600
    assert campus.fen("suspense:post-loss") == 0
    assert campus.open_items() == []


# --- other kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (Kind.METER, (1, 2, 3, 4)),
        (Kind.CODE_END, ("end",)),
        (Kind.OWED, ("visit", 1)),
        (Kind.ENERGY, (b"meter", 5, 6)),
        (999, ("of the future",)),
    ],
)
def test_kinds_without_rules_are_archived(
    campus: Any, pens: Any, kind: int, own: tuple[Any, ...]
) -> None:
    """They open an item with their bytes and amount, post nothing and stop nothing."""
    pens[0].add(kind, fen=700, own=own)
    campus.give(pens[0].segment())
    row = campus.rows("SELECT reason, fen, claim_fen FROM suspense_item")[0]
    assert tuple(row) == ("POST_SUSPENSE_KIND", 0, 700)
    assert campus.value("SELECT next_seq FROM lane WHERE terminal = 1") == 4


def test_means_without_rules_are_archived(campus: Any, pens: Any) -> None:
    """A WeChat INTENT has no rules yet: nothing is opened for it, its CAPTURE is misplaced."""
    own = own_of(Kind.INTENT, means=2)
    intent = pens[0].add(Kind.INTENT, inst=bytes(16), fen=100, own=own)
    pens[0].add(Kind.CAPTURE, ref=intent.seq, inst=bytes(16), fen=100, own=own_of(Kind.CAPTURE))
    campus.give(pens[0].segment())
    assert campus.open_items() == ["POST_SUSPENSE_KIND", "POST_SUSPENSE_REF"]


def test_a_capture_that_disagrees_with_its_intent(campus: Any, pens: Any) -> None:
    """Another amount than was announced before the debit: kept, posts nothing."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    own = own_of(Kind.CAPTURE, tac=chip.tac(intent))
    pen.add(Kind.CAPTURE, ref=intent.seq, inst=chip.asn, ctr=0, fen=5_000, own=own)
    campus.give(pen.segment())
    assert campus.fen("merchant:north") == 0
    assert campus.open_items() == ["POST_SUSPENSE_REF"]


def test_void_closes_and_posts_nothing(campus: Any, pens: Any) -> None:
    """VOID{sw} closes the INTENT, also across segments; a CAPTURE after it is misplaced."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    campus.give(pen.segment())
    assert campus.value("SELECT count(*) FROM intent") == 1
    own = own_of(Kind.VOID, via="sw")
    pen.add(Kind.VOID, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    campus.give(pen.segment())
    assert campus.value("SELECT count(*) FROM intent") == 0
    pen.capture(chip, intent, chip.tac(intent))
    campus.give(pen.segment())
    assert campus.fen("merchant:north") == 0
    assert campus.open_items() == ["POST_SUSPENSE_REF"]
