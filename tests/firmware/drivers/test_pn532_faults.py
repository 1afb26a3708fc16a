"""Our PN532 driver on a bad line: typed errors, one NACK at most, and never an APDU twice."""

import threading
from collections.abc import Iterator

import pytest

from firmware.drivers.pn532 import Pn532Reader
from firmware.drivers.soft_sam import SoftSam
from firmware.errors import (
    CardGoneError,
    CardMuteError,
    LinkLostError,
    ReaderBusyError,
    ReaderDownError,
)
from protocols.card.suite import Pboc3Des
from protocols.reader import pn532 as wire
from sim.card import SimCard, Tear, TearAt
from sim.card_memory import Masters
from sim.plain_tap import plain_purchase
from sim.pn532 import Fault, Pn532Sim
from sim.seeded import SeededRng

MASTERS = Masters(*(bytes([n]) * 16 for n in (1, 2, 3, 4)))
SELECT = bytes.fromhex("00A4040009A00000000386980701")
DATA = wire.DATA_EXCHANGE
DEBIT_AT = 3


@pytest.fixture
def chip() -> Iterator[Pn532Sim]:
    with Pn532Sim() as running:
        yield running


@pytest.fixture
def reader(chip: Pn532Sim) -> Iterator[Pn532Reader]:
    made = Pn532Reader(chip.port)
    made.open()
    yield made
    made.close()


def card_on(chip: Pn532Sim, reader: Pn532Reader) -> SimCard:
    card = SimCard.issue(bytes(10), MASTERS, SeededRng(1), balance_fen=10_000)
    chip.insert(card)
    assert reader.wait_card(2000) is not None
    return card


def pay(reader: Pn532Reader, deadline_ms: int = 300) -> bool:
    sam = SoftSam(MASTERS.mpk, bytes(6), 1, Pboc3Des(), development=True)
    return plain_purchase(lambda apdu: reader.transmit(apdu, deadline_ms), sam, 100).proved


@pytest.mark.parametrize(
    "fault",
    [
        Fault("flip", DATA, skip=DEBIT_AT, offset=9),
        Fault("flip", DATA, skip=DEBIT_AT, offset=3),
        Fault("flip", DATA, skip=DEBIT_AT, offset=4),
        Fault("double", DATA, skip=DEBIT_AT),
        Fault("double", DATA, times=9),
        Fault("garbage", DATA, skip=DEBIT_AT),
        Fault("dribble", DATA, times=9),
    ],
    ids=lambda f: f"{f.kind}-{f.offset}-{f.times}",
)
def test_line_noise_that_the_driver_survives(
    chip: Pn532Sim, reader: Pn532Reader, fault: Fault
) -> None:
    """One flipped byte is asked for again; doubled, dribbled and noisy answers are understood."""
    card = card_on(chip, reader)
    chip.plan(fault)
    assert pay(reader)
    assert (card.balance_fen, card.sent_count) == (9900, 4)
    assert chip.commands.count(DATA) == 4


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (Fault("flip", DATA, skip=DEBIT_AT, times=2, offset=9), (LinkLostError,)),
        (Fault("drop", DATA, skip=DEBIT_AT, times=2, offset=9), (LinkLostError, CardMuteError)),
        # a lost 00 leaves the frame's checksum right; the status byte is then another one
        (Fault("drop", DATA, skip=DEBIT_AT, times=2, offset=7), (CardGoneError,)),
        (Fault("mute", DATA, skip=DEBIT_AT), (CardMuteError,)),
        (Fault("no_ack", DATA, skip=DEBIT_AT), (LinkLostError,)),
        (Fault("hang_up", DATA, skip=DEBIT_AT), (LinkLostError,)),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_answer_lost_after_the_debit_is_unknown(
    chip: Pn532Sim, reader: Pn532Reader, fault: Fault, errors: tuple[type[Exception], ...]
) -> None:
    """The card debited, the answer never came: an *unknown* error, one DEBIT on the wire."""
    card = card_on(chip, reader)
    chip.plan(fault)
    with pytest.raises(errors) as lost:
        pay(reader)
    assert getattr(lost.value, "sent", None) is True
    assert (card.balance_fen, card.sent_count) == (9900, 4)
    assert chip.commands.count(DATA) == 4
    with pytest.raises(ReaderBusyError):
        reader.transmit(SELECT, 300)


def test_command_lost_on_the_way_is_unknown_too(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """The chip never heard the DEBIT: the driver cannot know, does not repeat, says LINK_LOST."""
    card = card_on(chip, reader)
    chip.plan(Fault("deaf", DATA, skip=DEBIT_AT))
    with pytest.raises(LinkLostError):
        pay(reader)
    assert (card.balance_fen, card.sent_count) == (10_000, 3)


def test_error_frame_is_link_lost(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A chip that answers with the error frame did not take the command."""
    card_on(chip, reader)
    chip.plan(Fault("refuse", DATA))
    with pytest.raises(LinkLostError):
        reader.transmit(SELECT, 300)


def test_late_answer_belongs_to_nobody(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """After a mute card the late answer is not taken for the next command's."""
    card = card_on(chip, reader)
    card.delays_ms = {0xA4: 120}
    with pytest.raises(CardMuteError):
        reader.transmit(SELECT, 50)
    card.delays_ms = {}
    reader.reset()
    assert reader.transmit(bytes.fromhex("0084000004"), 1000)[4:] == b"\x90\x00"


def test_debit_commits_after_the_timeout(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A card slower than the deadline: CARD_MUTE first, the debit all the same a moment later."""
    card = card_on(chip, reader)
    card.delays_ms = {0x54: 200}
    with pytest.raises(CardMuteError):
        pay(reader, deadline_ms=60)
    assert card.balance_fen == 10_000
    for _ in range(400):
        if card.balance_fen == 9900:
            break
        threading.Event().wait(0.01)
    assert card.balance_fen == 9900


def test_removal_during_rats(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A card that leaves while being activated was never there."""
    card = SimCard.issue(bytes(10), MASTERS, SeededRng(1), balance_fen=1)
    card.plan(Tear(TearAt.ACTIVATION))
    chip.insert(card)
    assert reader.wait_card(50) is None


def test_bounce(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A card lifted and put back at once between two APDUs has lost its session: CARD_GONE."""
    card = card_on(chip, reader)
    reader.transmit(SELECT, 300)
    chip.remove()
    chip.insert(card)
    with pytest.raises(CardGoneError):
        reader.transmit(bytes.fromhex("805C000204"), 300)


def test_seen_within_a_poll(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A card laid on while the reader polls is found by that poll."""
    card = SimCard.issue(bytes(10), MASTERS, SeededRng(1), balance_fen=1)
    hand = threading.Timer(0.03, chip.insert, (card,))
    hand.start()
    found = reader.wait_card(2000)
    hand.join()
    assert found is not None
    assert found.uid == card.uid


@pytest.mark.parametrize("baud", [230_400, 921_600])
def test_other_speeds(chip: Pn532Sim, baud: int) -> None:
    """The driver changes the speed, and finds a chip that still runs at it after a crash."""
    first = Pn532Reader(chip.port, baud)
    first.open()
    card_on(chip, first)
    first.close()
    second = Pn532Reader(chip.port, baud)
    second.open()
    assert second.wait_card(1000) is not None
    second.close()


def test_silent_port_is_down(chip: Pn532Sim) -> None:
    """No chip on the line, no line, and a port somebody else holds: READER_DOWN."""
    chip.plan(Fault("deaf", times=9))
    with pytest.raises(ReaderDownError):
        Pn532Reader(chip.port).open()
    with pytest.raises(ReaderDownError):
        Pn532Reader("/nonexistent/port").open()


def test_port_is_exclusive(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A second driver on the same port is refused."""
    with pytest.raises(ReaderDownError):
        Pn532Reader(chip.port).open()


def test_hang_up_while_idle(chip: Pn532Sim, reader: Pn532Reader) -> None:
    """A line that dies between cards: wait_card is READER_DOWN, close stays quiet."""
    chip.stop_line()
    with pytest.raises(ReaderDownError):
        reader.wait_card(100)
