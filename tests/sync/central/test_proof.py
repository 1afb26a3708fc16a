"""What is not proved does not pay: certificates and late sales (ledger.md §7-8)."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire.record import Kind
from tests.sync.central.pens import shown

HELD, DUP = "suspense:tac", "suspense:dup-counter"


# --- certificates -----------------------------------------------------------------------------


@pytest.mark.parametrize("tac", [b"evil", None, bytes(4)])
def test_wrong_or_missing_tac_does_not_pay(campus: Any, pens: Any, tac: bytes | None) -> None:
    """M29: a stolen device key prints no money; the sale waits in suspense:tac."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.capture(chip, intent, tac)
    campus.give(pen.segment())
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (0, 500)
    assert campus.open_items() == ["POST_SUSPENSE_TAC"]
    assert campus.value("SELECT result FROM tac_result") == (2 if tac == b"evil" else 1)


def test_unknown_key_version_waits(campus: Any, pens: Any) -> None:
    """A key version the centre does not have is not a reason to pay, nor to refuse."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500, keyver=9)
    pen.capture(chip, intent, chip.tac(intent))
    campus.give(pen.segment())
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (0, 500)
    assert campus.open_items() == ["POST_SUSPENSE_TAC_KEY"]


def test_the_fourth_bad_tac_of_a_day_holds_the_terminal(campus: Any, pens: Any) -> None:
    """More than three BAD: its total is held; its records are still accepted."""
    pen, chip = pens[0], campus.card()
    for n in range(4):
        pen.capture(chip, pen.intent(chip, 100), b"evil")
        chip.ctr += 1
        campus.give(pen.segment())
        campus.work()
        held = campus.value("SELECT held_us FROM terminal WHERE code = 'T0001'")
        assert (held is not None) == (n == 3)
    pen.sale(chip, 100)
    campus.give(pen.segment())
    assert campus.value("SELECT next_seq FROM lane WHERE terminal = 1") == len(pen.bodies) + 1


def test_a_held_sale_is_cleared_when_the_counter_proves_it(campus: Any, pens: Any) -> None:
    """Past its counter with no other owner and everybody heard: back to the merchant."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    chip.paid(500)
    pen.capture(chip, intent, None)
    pens[1].sale(chip, 200, prev=shown(intent))
    campus.send(*pens)
    campus.work()
    assert campus.fen(HELD) == 500  # the sighting is not yet behind every terminal's mark
    campus.marks(*pens)
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0)
    assert campus.purse(chip) == chip.balance
    assert campus.open_items() == []


def test_a_forged_sale_goes_back_to_the_purse(campus: Any, pens: Any) -> None:
    """A made-up sale whose counter another terminal's proved sale owns."""
    chip = campus.card()
    forged = pens[0].intent(chip, 900)
    pens[0].capture(chip, forged, b"evil")
    pens[1].sale(chip, 200)
    campus.send(*pens)
    campus.marks(*pens)
    assert (campus.fen("merchant:north"), campus.fen("merchant:south")) == (0, 200)
    assert campus.fen(HELD) == 0
    assert campus.purse(chip) == chip.balance == 9_800


def test_two_valid_certificates_for_one_counter(campus: Any, pens: Any) -> None:
    """A cloned chip: both merchants were served, the purse paid once, the card is denied."""
    chip = campus.card()
    clone = type(chip)(chip.asn, chip.balance, chip.ctr)
    campus.centre.publish_cards(campus.idem(), "office")
    pens[0].sale(chip, 300)
    pens[1].sale(clone, 200)
    campus.send(*pens)
    out = campus.work()
    assert campus.fen(DUP) == -200
    assert campus.purse(chip) == 9_700
    assert campus.open_items() == ["POST_SUSPENSE_CTR_DUP"]
    assert any(getattr(m, "name", "") == "cards" and m.version == 2 for m in out)
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'POST_SUSPENSE_CTR_DUP'") == 1


def test_a_sale_twice_in_one_lane(campus: Any, pens: Any) -> None:
    """A second CAPTURE of one INTENT posts nothing and opens an item."""
    pen, chip = pens[0], campus.card()
    intent, capture = pen.sale(chip, 300)
    pen.capture(chip, intent, capture.get("tac"))
    campus.give(pen.segment())
    campus.work()
    assert campus.fen("merchant:north") == 300
    assert campus.open_items() == ["POST_SUSPENSE_REF"]


def test_an_unknown_card_still_pays_the_merchant(campus: Any, pens: Any) -> None:
    """ASN never issued: suspense:unknown-card stands for the purse, an alarm rings."""
    pen, chip = pens[0], campus.card(known=False)
    pen.sale(chip, 300)
    campus.give(pen.segment())
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen("suspense:unknown-card")) == (300, -300)
    assert campus.open_items() == ["POST_SUSPENSE_CARD"]


def test_forged_value_shows_as_a_negative_purse(campus: Any, pens: Any) -> None:
    """A chip that spends more than it was given is denied; the sale is posted."""
    pen, chip = pens[0], campus.card(100)
    chip.balance = 5_000
    pen.sale(chip, 300)
    campus.give(pen.segment())
    campus.work()
    assert campus.purse(chip) == -200
    assert campus.value("SELECT suspect FROM card") > 0
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'CARD_FORGED_VALUE'") == 1


# --- late sales -------------------------------------------------------------------------------


def test_a_late_sale_with_its_tac_reaches_the_merchant(campus: Any, pens: Any) -> None:
    """Torn, healed by PROVE: parked at posting, cleared by the certificate."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    chip.paid(500)
    pen.late(chip, intent, chip.tac(intent), "prove")
    campus.give(pen.segment())
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (0, 500)
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0)
    assert campus.doubts() == [(1, "prove")]


def test_late_after_abandon_goes_to_the_wallet(campus: Any, pens: Any) -> None:
    """The sale was cancelled: the money is the holder's, but only once it is proved."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    pen.add(Kind.ABANDON, ref=intent.seq)
    chip.paid(500)
    campus.give(pen.segment())
    pen.late(chip, intent, chip.tac(intent), "prove")
    campus.give(pen.segment())
    assert (campus.wallet(chip), campus.fen(HELD)) == (0, 500)
    campus.work()
    assert (campus.wallet(chip), campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0, 0)


def test_abandoned_sale_never_reaches_a_wallet_unproved(campus: Any, pens: Any) -> None:
    """A terminal that lies about `late` cannot mint wallet money either."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.add(Kind.ABANDON, ref=intent.seq)
    pen.capture(chip, intent, b"evil")
    campus.give(pen.segment())
    assert campus.wallet(chip) == 0
    campus.work()
    assert (campus.wallet(chip), campus.fen(HELD)) == (0, 500)


def test_a_record_alone_waits_for_the_counter(campus: Any, pens: Any) -> None:
    """M28: via=record without TAC is parked until the card's chain says so."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    chip.paid(500)
    pen.late(chip, intent, None, "record")
    campus.send(*pens)
    campus.marks(*pens)
    assert campus.fen(HELD) == 500
    pens[1].sale(chip, 100, prev=shown(intent))
    campus.send(*pens)
    campus.marks(*pens)
    assert (campus.fen(HELD), campus.fen("merchant:north")) == (0, 500)


def test_a_relay_gains_nothing(campus: Any, pens: Any) -> None:
    """Swallowed DEBIT, made-up record; the real card spends that counter elsewhere, unsynced."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    pen.doubt(intent)
    pen.add(Kind.ABANDON, ref=intent.seq)
    pen.late(chip, intent, None, "record")  # the chip never paid
    campus.send(pen)
    real = pens[1].intent(chip, 500)
    pens[1].capture(chip, real, chip.tac(real))
    chip.paid(500)
    campus.marks(pen)
    assert campus.wallet(chip) == 0
    campus.send(pens[1])
    campus.marks(*pens)
    assert (campus.wallet(chip), campus.fen(HELD), campus.fen("merchant:south")) == (0, 0, 500)
    assert campus.purse(chip) == chip.balance


def test_late_sales_with_another_debits_tac_hold_no_terminal(campus: Any, pens: Any) -> None:
    """PROVE may have spoken of a later debit: such a TAC is missing, not bad (card.md §6.2)."""
    pen, chip = pens[0], campus.card()
    for _ in range(4):
        intent = pen.intent(chip, 100)
        pen.doubt(intent)
        pen.late(chip, intent, b"evil", "record")
        chip.paid(100)
    campus.send(*pens)
    campus.work()
    assert {row.result for row in campus.rows("SELECT result FROM tac_result")} == {1}
    assert campus.value("SELECT held_us FROM terminal WHERE code = 'T0001'") is None


def test_a_refund_of_a_sale_that_a_person_settled_waits_too(campus: Any, pens: Any) -> None:
    """Whoever resolved the sale by hand says what becomes of its REVERSAL: nothing is automatic."""
    pen, chip = pens[0], campus.card()
    capture = pen.capture(chip, pen.intent(chip, 500), b"evil")
    pen.reverse(chip, capture.seq, 500)
    campus.send(*pens)
    campus.work()
    item = campus.value("SELECT id FROM suspense_item WHERE reason = 'POST_SUSPENSE_TAC'")
    campus.centre.resolve_suspense(campus.idem(), ("zhang", None), item, "loss:school")
    campus.marks(*pens)
    assert campus.wallet(chip) == 0
    assert campus.open_items() == ["POST_SUSPENSE_REVERSAL"]
