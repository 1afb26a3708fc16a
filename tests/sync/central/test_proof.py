"""What is not proved does not pay: certificates, late sales, counters, doubts (ledger.md §7-8)."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.card.files import PurseRecord
from protocols.money import Fen
from protocols.wire.messages import Cmd
from protocols.wire.record import Kind, Record, own_of

HELD, TORN, DUP = "suspense:tac", "suspense:torn", "suspense:dup-counter"


@pytest.fixture
def pens(campus: Any) -> list[Any]:
    """Two terminals of two merchants, both started."""
    found = [campus.terminal("T0001", "north", 101), campus.terminal("T0002", "south", 102)]
    for pen in found:
        pen.begin()
    return found


def send(campus: Any, *pens: Any) -> None:
    """Everything unsent, and a MARK of everybody so that the watermarks pass."""
    for pen in pens:
        pen.add(Kind.MARK)
        campus.give(pen.segment())


def marks(campus: Any, *pens: Any) -> None:
    """Time passes, every terminal says that it is quiet, the workers look."""
    campus.clock.step(60)
    for pen in pens:
        pen.add(Kind.MARK)
        campus.give(pen.segment())
    campus.work(30)


def doubt(pen: Any, intent: Record, reason: str = "link") -> None:
    own = own_of(Kind.DOUBT, reason=reason)
    pen.add(Kind.DOUBT, ref=intent.seq, inst=intent.inst, ctr=intent.ctr, fen=intent.fen, own=own)


def shown(intent: Record) -> bytes:
    """The card's own record of a debit, as the next terminal reads it."""
    names = ("type", "tid", "date", "time")
    kind, tid, date, time = (intent.get(n) for n in names)
    assert intent.ctr is not None
    return PurseRecord(intent.ctr, 0, Fen(intent.fen), kind, tid, date, time).encode()


def open_items(campus: Any) -> list[str]:
    rows = campus.rows("SELECT reason FROM suspense_item WHERE state = 0 ORDER BY id")
    return [row.reason for row in rows]


def doubts(campus: Any) -> list[tuple[int, str]]:
    rows = campus.rows("SELECT state, via FROM doubt ORDER BY terminal, epoch, seq")
    return [tuple(row) for row in rows]


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
    assert open_items(campus) == ["POST_SUSPENSE_TAC"]
    assert campus.value("SELECT result FROM tac_result") == (2 if tac == b"evil" else 1)


def test_unknown_key_version_waits(campus: Any, pens: Any) -> None:
    """A key version the centre does not have is not a reason to pay, nor to refuse."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500, keyver=9)
    pen.capture(chip, intent, chip.tac(intent))
    campus.give(pen.segment())
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (0, 500)
    assert open_items(campus) == ["POST_SUSPENSE_TAC_KEY"]


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
    send(campus, *pens)
    campus.work()
    assert campus.fen(HELD) == 500  # the sighting is not yet behind every terminal's mark
    marks(campus, *pens)
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0)
    assert campus.purse(chip) == chip.balance
    assert open_items(campus) == []


def test_a_forged_sale_goes_back_to_the_purse(campus: Any, pens: Any) -> None:
    """A made-up sale whose counter another terminal's proved sale owns."""
    chip = campus.card()
    forged = pens[0].intent(chip, 900)
    pens[0].capture(chip, forged, b"evil")
    pens[1].sale(chip, 200)
    send(campus, *pens)
    marks(campus, *pens)
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
    send(campus, *pens)
    out = campus.work()
    assert campus.fen(DUP) == -200
    assert campus.purse(chip) == 9_700
    assert open_items(campus) == ["POST_SUSPENSE_CTR_DUP"]
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
    assert open_items(campus) == ["POST_SUSPENSE_REF"]


def test_an_unknown_card_still_pays_the_merchant(campus: Any, pens: Any) -> None:
    """ASN never issued: suspense:unknown-card stands for the purse, an alarm rings."""
    pen, chip = pens[0], campus.card(known=False)
    pen.sale(chip, 300)
    campus.give(pen.segment())
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen("suspense:unknown-card")) == (300, -300)
    assert open_items(campus) == ["POST_SUSPENSE_CARD"]


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


def late(pen: Any, chip: Any, intent: Record, tac: bytes | None, via: str) -> None:
    pen.capture(chip, intent, tac, late=1, via=via)


def test_a_late_sale_with_its_tac_reaches_the_merchant(campus: Any, pens: Any) -> None:
    """Torn, healed by PROVE: parked at posting, cleared by the certificate."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    chip.paid(500)
    late(pen, chip, intent, chip.tac(intent), "prove")
    campus.give(pen.segment())
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (0, 500)
    campus.work()
    assert (campus.fen("merchant:north"), campus.fen(HELD)) == (500, 0)
    assert doubts(campus) == [(1, "prove")]


def test_late_after_abandon_goes_to_the_wallet(campus: Any, pens: Any) -> None:
    """The sale was cancelled: the money is the holder's, but only once it is proved."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    pen.add(Kind.ABANDON, ref=intent.seq)
    chip.paid(500)
    campus.give(pen.segment())
    late(pen, chip, intent, chip.tac(intent), "prove")
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
    doubt(pen, intent)
    chip.paid(500)
    late(pen, chip, intent, None, "record")
    send(campus, *pens)
    marks(campus, *pens)
    assert campus.fen(HELD) == 500
    pens[1].sale(chip, 100, prev=shown(intent))
    send(campus, *pens)
    marks(campus, *pens)
    assert (campus.fen(HELD), campus.fen("merchant:north")) == (0, 500)


def test_a_relay_gains_nothing(campus: Any, pens: Any) -> None:
    """Swallowed DEBIT, made-up record; the real card spends that counter elsewhere, unsynced."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    pen.add(Kind.ABANDON, ref=intent.seq)
    late(pen, chip, intent, None, "record")  # the chip never paid
    send(campus, pen)
    real = pens[1].intent(chip, 500)
    pens[1].capture(chip, real, chip.tac(real))
    chip.paid(500)
    marks(campus, pen)
    assert campus.wallet(chip) == 0
    send(campus, pens[1])
    marks(campus, *pens)
    assert (campus.wallet(chip), campus.fen(HELD), campus.fen("merchant:south")) == (0, 0, 500)
    assert campus.purse(chip) == chip.balance


# --- doubts -----------------------------------------------------------------------------------


def test_a_doubt_posts_nothing(campus: Any, pens: Any) -> None:
    """Unknown stays unknown."""
    pen, chip = pens[0], campus.card()
    doubt(pen, pen.intent(chip, 500))
    campus.give(pen.segment())
    marks(campus, *pens)
    assert campus.purse(chip) == 10_000
    assert doubts(campus) == [(0, None)]


def test_the_prove_tac_of_a_doubt_commits_it(campus: Any, pens: Any) -> None:
    """DOUBT_UP carries PROVE's TAC; verified over our own fields it decides at once."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    evidence = [0x9000, b"mac!", chip.tac(intent), None, None, None]
    own = own_of(Kind.DOUBT_UP, evidence=evidence)
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    chip.paid(500)
    send(campus, pen)
    out = campus.work()
    assert doubts(campus) == [(1, "tac")]
    assert campus.fen("merchant:north") == 500
    commands = [m for m in out if isinstance(m, Cmd)]
    assert [m.body for m in commands] == [[1, intent.seq, 1, "tac"]]


def test_a_doubt_whose_counter_is_owned_is_void(campus: Any, pens: Any) -> None:
    """Another terminal's proved sale has that counter: ours never happened."""
    chip = campus.card()
    doubt(pens[0], pens[0].intent(chip, 500))
    pens[1].sale(chip, 200)
    send(campus, *pens)
    marks(campus, *pens)
    assert doubts(campus) == [(2, "owner")]
    assert campus.purse(chip) == chip.balance == 9_800


def test_the_next_balance_commits_a_doubt(campus: Any, pens: Any) -> None:
    """Exactly our debit is missing between two proved sales, and everybody was heard."""
    chip = campus.card()
    intent = pens[0].intent(chip, 500)
    doubt(pens[0], intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    send(campus, *pens)
    campus.work()
    assert doubts(campus) == [(0, None)]
    marks(campus, *pens)
    assert doubts(campus) == [(1, "counter")]
    assert campus.fen("merchant:north") == 500
    assert campus.purse(chip) == chip.balance


def test_silence_of_one_terminal_keeps_a_doubt_open(campus: Any, pens: Any) -> None:
    """The watermark precondition: the real owner may still be unsynced."""
    third = campus.terminal("T0003", "third", 103)
    third.begin()
    campus.give(third.segment())
    chip = campus.card()
    intent = pens[0].intent(chip, 500)
    doubt(pens[0], intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    send(campus, *pens)
    marks(campus, *pens)
    assert doubts(campus) == [(0, None)]
    marks(campus, *pens, third)
    assert doubts(campus) == [(1, "counter")]


def test_the_cards_record_chooses_between_two_doubts(campus: Any, pens: Any) -> None:
    """Two doubts claim one counter with one amount; `prev` names the one that happened."""
    chip = campus.card()
    first = pens[0].intent(chip, 500)
    doubt(pens[0], first)
    campus.clock.step(5)
    second = pens[1].intent(chip, 500)
    doubt(pens[1], second)
    chip.paid(500)
    campus.clock.step(5)
    pens[0].sale(chip, 100, prev=shown(second))
    send(campus, *pens)
    marks(campus, *pens)
    assert doubts(campus) == [(2, "counter"), (1, "counter")]
    assert campus.fen("merchant:south") == 500
    assert campus.purse(chip) == chip.balance


def test_an_ambiguous_counter_goes_to_a_person(campus: Any, pens: Any) -> None:
    """Same amount, no record: the purse paid once, whose sale it was stays in suspense:torn."""
    chip = campus.card()
    doubt(pens[0], pens[0].intent(chip, 500))
    doubt(pens[1], pens[1].intent(chip, 500))
    chip.paid(500)
    pens[0].sale(chip, 100)
    send(campus, *pens)
    marks(campus, *pens)
    assert campus.fen(TORN) == 500
    assert campus.purse(chip) == chip.balance
    assert open_items(campus) == ["POST_SUSPENSE_TORN"]
    item = campus.value("SELECT id FROM suspense_item WHERE state = 0")
    campus.centre.resolve_suspense(campus.idem(), ("zhang", None), item, "merchant:south")
    assert (campus.fen(TORN), campus.fen("merchant:south")) == (0, 500)


def test_an_old_doubt_closes_for_the_holder_and_late_evidence_waits(campus: Any, pens: Any) -> None:
    """30 days unseen: AGED, void; a CAPTURE that comes after that goes to suspense:torn."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    send(campus, *pens)
    campus.clock.step(31 * 86_400)
    marks(campus, *pens)
    assert doubts(campus) == [(3, "aged")]
    chip.paid(500)
    late(pen, chip, intent, chip.tac(intent), "prove")
    send(campus, *pens)
    campus.work()
    assert (campus.fen(TORN), campus.fen("merchant:north")) == (500, 0)
    assert open_items(campus) == ["POST_SUSPENSE_TORN"]


def test_the_terminal_and_the_centre_may_both_decide(campus: Any, pens: Any) -> None:
    """The centre committed a doubt; the terminal's own late CAPTURE books it no second time."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    chip.paid(500)
    pens[1].sale(chip, 200)
    send(campus, *pens)
    marks(campus, *pens)
    late(pen, chip, intent, chip.tac(intent), "prove")
    send(campus, *pens)
    marks(campus, *pens)
    assert campus.fen("merchant:north") == 500
    assert campus.purse(chip) == chip.balance
    assert open_items(campus) == []


def test_forged_evidence_denies_the_card(campus: Any, pens: Any) -> None:
    """DOUBT_UP{forged}: suspect list, alarm, and the next `cards` version names it."""
    pen, chip = pens[0], campus.card()
    campus.centre.publish_cards(campus.idem(), "office")
    intent = pen.intent(chip, 500)
    doubt(pen, intent)
    own = own_of(Kind.DOUBT_UP, evidence=None, forged=1)
    pen.add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, fen=500, own=own)
    send(campus, pen)
    campus.work()
    assert campus.value("SELECT n_item FROM list_version WHERE version = 2") == 1
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'CARD_FORGED'") == 1
    campus.centre.clear_suspect(campus.idem(), "office", chip.asn)
    assert campus.value("SELECT n_item FROM list_version WHERE version = 3") == 0


# --- reversals --------------------------------------------------------------------------------


def reverse(pen: Any, chip: Any, seq: int, fen: int) -> None:
    own = own_of(Kind.REVERSAL, operator=bytes(10), reason="void")
    pen.add(Kind.REVERSAL, ref=seq, inst=chip.asn, fen=fen, own=own)


def test_a_reversal_reaches_the_wallet_once_the_sale_is_proved(campus: Any, pens: Any) -> None:
    """Merchant to wallet, by way of suspense:tac; in a later segment than its sale."""
    pen, chip = pens[0], campus.card()
    _, capture = pen.sale(chip, 500)
    campus.give(pen.segment())
    reverse(pen, chip, capture.seq, 500)
    campus.give(pen.segment())
    assert (campus.fen("merchant:north"), campus.wallet(chip)) == (0, 0)
    marks(campus, *pens)
    assert (campus.fen("merchant:north"), campus.wallet(chip), campus.fen(HELD)) == (0, 500, 0)


def test_a_reversal_of_a_forged_sale_pays_nobody(campus: Any, pens: Any) -> None:
    """CAPTURE with a garbage TAC and its REVERSAL: no way from a stolen key into a wallet."""
    pen, chip = pens[0], campus.card()
    capture = pen.capture(chip, pen.intent(chip, 500), b"evil")
    reverse(pen, chip, capture.seq, 500)
    pens[1].sale(chip, 100)
    send(campus, *pens)
    campus.work()
    assert campus.wallet(chip) == 0
    marks(campus, *pens)
    assert (campus.wallet(chip), campus.fen("merchant:north"), campus.fen(HELD)) == (0, 0, 0)
    assert campus.purse(chip) == chip.balance


def test_a_reversal_twice_or_too_large(campus: Any, pens: Any) -> None:
    """M23: at most one per sale, at most its amount, and never of another REVERSAL."""
    pen, chip = pens[0], campus.card()
    _, capture = pen.sale(chip, 500)
    reverse(pen, chip, capture.seq, 501)
    reverse(pen, chip, capture.seq, 500)
    reverse(pen, chip, capture.seq, 500)
    campus.give(pen.segment())
    reverse(pen, chip, capture.seq, 500)
    reverse(pen, chip, len(pen.bodies) - 2, 500)
    reverse(pen, chip, 9_999, 500)
    campus.give(pen.segment())
    marks(campus, *pens)
    assert campus.wallet(chip) == 500
    assert open_items(campus) == ["POST_SUSPENSE_REVERSAL"] * 5


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
    assert open_items(campus) == ["POST_SUSPENSE_LOSS"]
    campus.centre.lift_loss(campus.idem(), "office", chip.asn)
    assert campus.purse(chip) == chip.balance == 9_600
    assert campus.fen("suspense:post-loss") == 0
    assert open_items(campus) == []


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
    assert open_items(campus) == ["POST_SUSPENSE_KIND", "POST_SUSPENSE_REF"]


def test_a_capture_that_disagrees_with_its_intent(campus: Any, pens: Any) -> None:
    """Another amount than was announced before the debit: kept, posts nothing."""
    pen, chip = pens[0], campus.card()
    intent = pen.intent(chip, 500)
    own = own_of(Kind.CAPTURE, tac=chip.tac(intent))
    pen.add(Kind.CAPTURE, ref=intent.seq, inst=chip.asn, ctr=0, fen=5_000, own=own)
    campus.give(pen.segment())
    assert campus.fen("merchant:north") == 0
    assert open_items(campus) == ["POST_SUSPENSE_REF"]


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
    assert open_items(campus) == ["POST_SUSPENSE_REF"]
