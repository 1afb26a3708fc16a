"""One contract for every card reader: our PN532 driver, nfcpy, and PC/SC through the real pcscd."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from firmware.drivers.nfcpy_reader import NfcpyReader
from firmware.drivers.pcsc import PcscReader
from firmware.drivers.pn532 import Pn532Reader
from firmware.drivers.soft_sam import SoftSam
from firmware.errors import (
    CardGoneError,
    CardMuteError,
    ReaderBusyError,
    ReaderDownError,
    ReaderError,
)
from firmware.ports import CardReader
from protocols.card.suite import Pboc3Des
from sim.card import ATR, ATS, SimCard, Tear, TearAt
from sim.card_memory import Masters
from sim.field import FieldCard
from sim.pcsc import PcscStage
from sim.plain_tap import plain_purchase
from sim.pn532 import Pn532Sim
from sim.seeded import SeededRng

MASTERS = Masters(*(bytes([n]) * 8 + bytes([n + 1]) * 8 for n in (0x10, 0x20, 0x30, 0x40)))
ASN = bytes.fromhex("00011998081700000030")
SELECT = bytes.fromhex("00A4040009A00000000386980701")
INIT = bytes.fromhex("805001020B01000000640011223344550F")
DEBIT = bytes.fromhex("805401000F000000012026030112000000000000" + "08")
APDU_MS, DEBIT_AT = 1000, 3
DRIVERS = ["pn532", "nfcpy", "pcsc"]


@dataclass
class Rig:
    """A reader and the hand that holds the card."""

    reader: CardReader
    insert: Callable[[FieldCard], None]
    remove: Callable[[], None]

    def send(self, apdu: bytes) -> bytes:
        return self.reader.transmit(apdu, APDU_MS)

    def wait_card(self) -> None:
        assert self.reader.wait_card(5000) is not None


class EchoCard:
    """A card that answers with what it was sent, up to a full short answer."""

    uid, ats, atr = b"\x01\x02\x03\x04", ATS, ATR

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def power_on(self) -> bytes:
        return self.ats

    def power_off(self) -> None:
        self.heard.append(b"off")

    def exchange(self, apdu: bytes) -> bytes:
        self.heard.append(apdu)
        return (apdu * 60)[: apdu[4] or 256] + b"\x90\x00"


@pytest.fixture
def stage() -> Iterator[PcscStage]:
    with PcscStage(1) as running:
        yield running


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "pcsc":
        slot = request.getfixturevalue("stage").slot(0)
        contact = PcscReader(slot.name)
        until = time.monotonic() + 5
        while not opened(contact):
            assert time.monotonic() < until, "the slot never came up"
        yield Rig(contact, slot.insert, slot.remove)
        contact.close()
        return
    with Pn532Sim() as chip:
        make = Pn532Reader if request.param == "pn532" else NfcpyReader
        reader: CardReader = make(chip.port)
        reader.open()
        yield Rig(reader, chip.insert, chip.remove)
        reader.close()


def opened(reader: CardReader) -> bool:
    """pcscd lists a slot some milliseconds after its socket answers."""
    try:
        reader.open()
    except ReaderDownError:
        return False
    return True


def issue() -> SimCard:
    return SimCard.issue(ASN, MASTERS, SeededRng(1), balance_fen=10_000)


def sam() -> SoftSam:
    tid = bytes.fromhex("001122334455")
    return SoftSam(MASTERS.mpk, tid, 1, Pboc3Des(), development=True)


def test_no_card_is_none(rig: Rig) -> None:
    """Without a card wait_card returns None, present is False, transmit sends nothing."""
    assert rig.reader.wait_card(30) is None
    assert not rig.reader.present()
    with pytest.raises(ReaderBusyError):
        rig.send(SELECT)


def test_purchase_through_the_reader(rig: Rig) -> None:
    """A whole purchase pays, and MAC2 verifies."""
    card = issue()
    rig.insert(card)
    found = rig.reader.wait_card(5000)
    assert found is not None
    assert found.kind in ("iso-dep", "contact")
    assert plain_purchase(rig.send, sam(), 1250).proved
    assert card.balance_fen == 8750
    assert rig.reader.present()


@pytest.mark.parametrize("size", [1, 61, 62, 250, 255])
def test_long_commands_and_answers(rig: Rig, size: int) -> None:
    """Short APDUs of every size arrive whole, once, and answers up to 258 bytes come back whole."""
    card = EchoCard()
    rig.insert(card)
    rig.wait_card()
    apdu = bytes((0x80, 0x01, 0, 0, size)) + bytes(range(size))
    assert rig.send(apdu) == (apdu * 60)[:size] + b"\x90\x00"
    assert (
        rig.send(b"\x80\x02\x00\x00\x00")[-258:]
        == (b"\x80\x02\x00\x00\x00" * 60)[:256] + b"\x90\x00"
    )
    assert [raw for raw in card.heard if raw != b"off"] == [apdu, b"\x80\x02\x00\x00\x00"]


@pytest.mark.parametrize(
    "tear",
    [
        Tear(TearAt.BEFORE_DELIVERY, DEBIT_AT),
        Tear(TearAt.BEFORE_COMMIT, DEBIT_AT),
        Tear(TearAt.AFTER_COMMIT, DEBIT_AT),
        Tear(TearAt.MID_REPLY, DEBIT_AT, 5),
        Tear(TearAt.BEFORE_DELIVERY, 1),
        Tear(TearAt.AFTER_COMMIT, 2),
    ],
    ids=lambda tear: f"{tear.apdu}-{tear.at.value}",
)
def test_tear_is_unknown_and_nothing_is_sent_twice(rig: Rig, tear: Tear) -> None:
    """A card torn in an exchange raises an *unknown* error, and the card saw each APDU once."""
    card = issue()
    card.plan(tear)
    rig.insert(card)
    rig.wait_card()
    with pytest.raises(ReaderError) as lost:
        plain_purchase(rig.send, sam(), 100)
    assert isinstance(lost.value, CardGoneError | CardMuteError)
    assert lost.value.sent
    delivered = tear.apdu + (0 if tear.at is TearAt.BEFORE_DELIVERY else 1)
    assert card.sent_count == delivered
    assert not rig.reader.present()
    rig.remove()
    rig.insert(card)
    rig.wait_card()
    assert plain_purchase(rig.send, sam(), 100).proved


def test_removal_is_seen(rig: Rig) -> None:
    """A card taken away: present turns False, and the next card is a new session."""
    rig.insert(issue())
    rig.wait_card()
    rig.remove()
    until = time.monotonic() + 5
    while rig.reader.present():
        assert time.monotonic() < until
    rig.insert(issue())
    rig.wait_card()
    assert rig.send(SELECT)[-2:] == b"\x90\x00"


def test_transmit_after_removal_is_unknown(rig: Rig) -> None:
    """A card pulled between two APDUs: the next transmit is CARD_GONE, then READER_BUSY."""
    rig.insert(issue())
    rig.wait_card()
    rig.send(SELECT)
    rig.remove()
    with pytest.raises(CardGoneError) as lost:
        rig.send(INIT)
    assert lost.value.sent
    with pytest.raises(ReaderBusyError) as idle:
        rig.send(INIT)
    assert not idle.value.sent


def test_reset_is_a_cold_start(rig: Rig) -> None:
    """reset ends the card's session: a DEBIT after it is refused, SELECT works again."""
    card = issue()
    rig.insert(card)
    rig.wait_card()
    rig.send(SELECT)
    assert rig.send(INIT)[-2:] == b"\x90\x00"
    rig.reader.reset()
    assert rig.send(DEBIT) == b"\x69\x85"
    assert rig.send(SELECT)[-2:] == b"\x90\x00"


def test_reset_without_card_is_gone(rig: Rig) -> None:
    """reset with the card away raises CARD_GONE."""
    rig.insert(issue())
    rig.wait_card()
    rig.remove()
    with pytest.raises(CardGoneError):
        rig.reader.reset()


def test_late_answer_is_never_taken_for_the_next(rig: Rig) -> None:
    """An answer after the deadline is *unknown*; after a reset the card answers its own APDUs."""
    card = issue()
    rig.insert(card)
    rig.wait_card()
    card.delays_ms = {0x5C: 700}
    rig.send(SELECT)
    with pytest.raises((CardMuteError, CardGoneError)) as late:
        rig.reader.transmit(bytes.fromhex("805C000204"), 200)
    assert late.value.sent
    with pytest.raises(ReaderBusyError):
        rig.send(SELECT)
    rig.reader.reset()
    assert rig.send(SELECT)[0] == 0x6F
    assert card.sent_count == 3


def test_closed_reader_is_down(rig: Rig) -> None:
    """A closed reader refuses before anything is sent, and opens again."""
    rig.reader.close()
    with pytest.raises(ReaderDownError):
        rig.reader.wait_card(0)
    with pytest.raises((ReaderDownError, ReaderBusyError)):
        rig.send(SELECT)
    rig.reader.close()
    rig.reader.open()
    rig.insert(issue())
    rig.wait_card()
    assert rig.send(SELECT)[0] == 0x6F
