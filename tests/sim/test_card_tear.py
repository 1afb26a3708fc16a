"""A torn card changed everything or nothing, wherever it was torn."""

import pytest

from firmware.drivers.soft_sam import SoftSam
from protocols.card.suite import Pboc3Des
from sim.card import SimCard, Tear, TearAt
from sim.card_memory import Masters, Purse
from sim.errors import CardTornError
from sim.plain_tap import plain_purchase
from sim.relay import Relay, Tricks
from sim.seeded import SeededRng

MASTERS = Masters(*(bytes([n]) * 8 + bytes([n + 1]) * 8 for n in (0x10, 0x20, 0x30, 0x40)))
ASN = bytes.fromhex("00011998081700000030")
DEBIT = 3  # SELECT, READ RECORD, INIT, DEBIT


def issue() -> SimCard:
    card = SimCard.issue(ASN, MASTERS, SeededRng(1), balance_fen=10_000)
    card.power_on()
    return card


def sam() -> SoftSam:
    tid = bytes.fromhex("001122334455")
    return SoftSam(MASTERS.mpk, tid, 1, Pboc3Des(), development=True)


def whole(purse: Purse) -> bool:
    """Balance, counter, record and proof agree on whether the debit of 100 happened."""
    signs = {
        purse.balance == 9900,
        purse.offline == 1,
        len(purse.ring) == 1,
        purse.offline_proof is not None,
    }
    return len(signs) == 1


PLACES = [
    Tear(at, apdu, count)
    for apdu in range(DEBIT + 1)
    for at in (TearAt.BEFORE_DELIVERY, TearAt.BEFORE_COMMIT, TearAt.AFTER_COMMIT, TearAt.MID_REPLY)
    for count in ((0, 1, 4, 9) if at is TearAt.MID_REPLY else (0,))
]


@pytest.mark.parametrize("tear", PLACES, ids=lambda t: f"{t.apdu}-{t.at.value}-{t.reply_count}")
def test_tear_is_all_or_nothing(tear: Tear) -> None:
    """Every tear point of a purchase: the purse is whole, and moved only after the DEBIT commit."""
    card = issue()
    card.plan(tear)
    with pytest.raises(CardTornError) as torn:
        plain_purchase(card.exchange, sam(), 100)
    assert torn.value.facts["at"] == tear.at.value
    committed = tear.apdu == DEBIT and tear.at in (TearAt.AFTER_COMMIT, TearAt.MID_REPLY)
    assert whole(card.purse)
    assert (card.balance_fen == 9900) == committed == (len(card.history) == 1)
    with pytest.raises(CardTornError):
        card.exchange(bytes.fromhex("805C000204"))


def test_torn_card_works_again() -> None:
    """After power_on a torn card serves as if nothing had happened; the plan fired once."""
    card = issue()
    card.plan(Tear(TearAt.BEFORE_DELIVERY, apdu=DEBIT))
    with pytest.raises(CardTornError):
        plain_purchase(card.exchange, sam(), 100)
    card.power_on()
    assert plain_purchase(card.exchange, sam(), 100).proved


def test_tear_at_activation() -> None:
    """A card that leaves during RATS gives no ATS, and comes back at the next try."""
    card = issue()
    card.plan(Tear(TearAt.ACTIVATION))
    with pytest.raises(CardTornError):
        card.power_on()
    assert card.power_on() == card.ats


def test_mid_reply_tells_what_was_heard() -> None:
    """A tear in mid-answer carries exactly the bytes that had gone out."""
    card = issue()
    card.plan(Tear(TearAt.MID_REPLY, apdu=0, reply_count=5))
    with pytest.raises(CardTornError) as torn:
        plain_purchase(card.exchange, sam(), 100)
    assert len(torn.value.facts["heard"] or b"") == 5


def test_late_commit() -> None:
    """A DEBIT delivered but not yet in EEPROM commits if the card keeps power, else not."""
    for keeps_power in (True, False):
        card, sent = issue(), []

        def send(apdu: bytes, card: SimCard = card, sent: list[bytes] = sent) -> bytes:
            sent.append(apdu)
            return card.exchange(apdu) if apdu[:2] != b"\x80\x54" else b"\x93\x02"

        plain_purchase(send, sam(), 100)
        card.delays_ms = {0x54: 2500}
        pending = card.begin(sent[-1])
        assert pending.delay_ms == 2500
        assert card.balance_fen == 10_000, "not before the EEPROM time is over"
        if keeps_power:
            assert pending.finish()[-2:] == b"\x90\x00"
        else:
            card.power_off()
            with pytest.raises(CardTornError):
                pending.finish()
        assert whole(card.purse)
        assert card.balance_fen == (9900 if keeps_power else 10_000)


def test_relay_swallows_debit_and_invents_record() -> None:
    """A relay can make a swallowed debit look recorded, but the chip's money never moved."""
    card = issue()
    relay = Relay(card, Tricks(swallow_debit=True))
    with pytest.raises(CardTornError):
        plain_purchase(relay.exchange, sam(), 100)
    relay.tricks = Tricks(invent_record=True, counter_lift=1)
    relay.power_on()
    relay.exchange(bytes.fromhex("00A4040009A00000000386980701"))
    record = relay.exchange(bytes.fromhex("00B201C417"))
    assert (record[5:9], record[-2:]) == ((100).to_bytes(4, "big"), b"\x90\x00")
    opened = relay.exchange(bytes.fromhex("805001020B01000000010011223344550F"))
    assert opened[4:6] == b"\x00\x01"
    assert (card.balance_fen, card.purse.offline) == (10_000, 0)


def test_relay_holds_debit_back() -> None:
    """A held DEBIT can be delivered later: the chip then pays what the terminal has in doubt."""
    card = issue()
    relay = Relay(card, Tricks(hold_debit=True))
    with pytest.raises(CardTornError):
        plain_purchase(relay.exchange, sam(), 100)
    relay.power_off()
    assert card.balance_fen == 10_000
    assert relay.release()[-2:] == b"\x90\x00"
    assert card.balance_fen == 9900


def test_relay_replays_answers() -> None:
    """A relay can answer INIT and PROVE from a recording."""
    relay = Relay(issue(), Tricks(replay_init=b"\x6a\x81", replay_prove=bytes(8) + b"\x90\x00"))
    assert plain_purchase(relay.exchange, sam(), 100).sw == 0x6A81
    assert relay.exchange(bytes.fromhex("805A000602000108"))[-2:] == b"\x90\x00"
