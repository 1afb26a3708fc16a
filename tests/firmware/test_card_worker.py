"""The worker turns a blocking reader into events, repeats nothing, and outlives a stuck reader."""

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from firmware.card_worker import CardWorker, Rhythm
from firmware.drivers.pn532 import Pn532Reader
from firmware.errors import (
    CardGoneError,
    CardMuteError,
    LinkLostError,
    ReaderDownError,
    ReaderError,
)
from firmware.ports import (
    CardIn,
    CardOut,
    CardSession,
    Event,
    ReaderState,
    Reply,
    Trouble,
)
from sim.card import SimCard
from sim.card_memory import Masters
from sim.pn532 import Pn532Sim
from sim.seeded import SeededRng

SELECT = bytes.fromhex("00A4040009A00000000386980701")
FAST = Rhythm(wait_ms=20, presence_ms=10, reopen_ms=20)


class ScriptedReader:
    """A reader whose card and answers a test sets."""

    def __init__(self) -> None:
        self.card = threading.Event()
        self.sent: list[bytes] = []
        self.opened = 0
        self.closed = 0
        self.fault: ReaderError | None = None
        self.open_fault: ReaderError | None = None
        self.hang: threading.Event | None = None

    def open(self) -> None:
        self.opened += 1
        if self.open_fault is not None:
            raise self.open_fault

    def close(self) -> None:
        self.closed += 1

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        found = self.card.wait(timeout_ms / 1000)
        return CardSession(b"\x01\x02\x03\x04", b"", "iso-dep") if found else None

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        self.sent.append(apdu)
        if self.hang is not None:
            self.hang.wait(30)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return apdu[:2] + b"\x90\x00"

    def present(self) -> bool:
        return self.card.is_set()

    def reset(self) -> None:
        if not self.card.is_set():
            raise CardGoneError(step="reset")


class Desk:
    """A worker over a scripted reader, and the events it posted."""

    def __init__(self, reader: ScriptedReader, renew: Callable[[], ScriptedReader] | None) -> None:
        self.reader = reader
        self.events: queue.Queue[Event] = queue.Queue()
        self.worker = CardWorker(reader, self.events.put, renew=renew, rhythm=FAST)

    def expect(self, *wanted: Event) -> None:
        for event in wanted:
            assert self.events.get(timeout=5) == event

    def card_in(self) -> None:
        self.worker.start()
        self.expect(ReaderState(None))
        self.reader.card.set()
        self.expect(CardIn(b"\x01\x02\x03\x04", "iso-dep"))


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(ScriptedReader(), None)
    yield made
    made.worker.stop()
    assert made.reader.closed >= 1


def test_card_comes_answers_and_goes(desk: Desk) -> None:
    """CardIn, one Reply per request in order with its token, CardOut."""
    desk.card_in()
    desk.worker.transmit(7, b"\x00\xa4", 100)
    desk.worker.transmit(8, b"\x80\x50", 100)
    desk.worker.reset(9)
    desk.expect(Reply(7, b"\x00\xa4\x90\x00"), Reply(8, b"\x80\x50\x90\x00"), Reply(9, b""))
    desk.reader.card.clear()
    desk.expect(CardOut())
    assert desk.reader.sent == [b"\x00\xa4", b"\x80\x50"]


@pytest.mark.parametrize("fault", [CardGoneError(), CardMuteError(), LinkLostError()])
def test_lost_answer_is_trouble_and_never_repeated(desk: Desk, fault: ReaderError) -> None:
    """A failed transmit posts its code once, marked as sent; the reader saw the APDU once."""
    desk.card_in()
    desk.reader.fault = fault
    desk.worker.transmit(7, b"\x80\x54", 100)
    trouble = Trouble(7, fault.code)
    assert trouble.sent
    desk.expect(trouble)
    assert desk.reader.sent == [b"\x80\x54"]
    if isinstance(fault, CardGoneError):
        desk.expect(CardOut(), CardIn(b"\x01\x02\x03\x04", "iso-dep"))
    if isinstance(fault, LinkLostError):
        desk.expect(CardOut(), ReaderState("LINK_LOST"), ReaderState(None))
        assert desk.reader.opened == 2


def test_request_without_card_was_not_sent(desk: Desk) -> None:
    """Without a card a request ends as READER_BUSY: nothing was sent."""
    desk.worker.start()
    desk.expect(ReaderState(None))
    desk.worker.transmit(1, SELECT, 100)
    trouble = Trouble(1, "READER_BUSY")
    assert not trouble.sent
    desk.expect(trouble)
    assert desk.reader.sent == []


def test_reader_down_is_told_once_and_retried(desk: Desk) -> None:
    """A reader that cannot be opened is reported once, requests meanwhile were not sent."""
    desk.reader.open_fault = ReaderDownError()
    desk.worker.start()
    desk.expect(ReaderState("READER_DOWN"))
    desk.worker.transmit(1, SELECT, 100)
    desk.expect(Trouble(1, "READER_DOWN"))
    desk.reader.open_fault = None
    desk.expect(ReaderState(None))


def test_too_many_requests(desk: Desk) -> None:
    """A fifth waiting request is refused at once, unsent."""
    desk.reader.hang = threading.Event()
    desk.card_in()
    for token in range(6):
        desk.worker.transmit(token, b"\x00\x84", 100)
    first = desk.events.get(timeout=5)
    assert first in (Trouble(4, "READER_BUSY"), Trouble(5, "READER_BUSY"))
    desk.reader.hang.set()


def test_what_was_asked_before_a_card_never_reaches_it(desk: Desk) -> None:
    """A request left over from the card before is not carried out on the next card."""
    desk.card_in()
    desk.reader.card.clear()
    desk.expect(CardOut())
    desk.worker.transmit(1, b"\x80\x54", 100)
    desk.expect(Trouble(1, "READER_BUSY"))
    desk.reader.card.set()
    desk.expect(CardIn(b"\x01\x02\x03\x04", "iso-dep"))
    desk.worker.transmit(2, b"\x00\xa4", 100)
    desk.expect(Reply(2, b"\x00\xa4\x90\x00"))
    assert desk.reader.sent == [b"\x00\xa4"]


def test_stuck_reader_is_replaced() -> None:
    """A reader that misses its deadline by a second: LINK_LOST, a new reader, no late event."""
    clock_us = [0]

    class HandClock:
        def mono_us(self) -> int:
            return clock_us[0]

        def wall_us(self) -> int:
            return clock_us[0]

        def trust(self) -> object:
            raise NotImplementedError

    stuck, fresh = ScriptedReader(), ScriptedReader()
    stuck.hang = threading.Event()
    events: queue.Queue[Event] = queue.Queue()
    worker = CardWorker(stuck, events.put, HandClock(), renew=lambda: fresh, rhythm=FAST)  # type: ignore[arg-type]
    worker.start()
    stuck.card.set()
    assert events.get(timeout=5) == ReaderState(None)
    assert isinstance(events.get(timeout=5), CardIn)
    worker.transmit(7, b"\x80\x54", 100)
    while not stuck.sent:
        threading.Event().wait(0.005)
    clock_us[0] = 1_100_000
    worker.check()
    assert events.empty(), "not overdue yet"
    clock_us[0] += 1
    worker.check()
    assert events.get(timeout=5) == Trouble(7, "LINK_LOST")
    assert events.get(timeout=5) == ReaderState("LINK_LOST")
    assert events.get(timeout=5) == ReaderState(None)
    fresh.card.set()
    assert isinstance(events.get(timeout=5), CardIn)
    stuck.hang.set()
    worker.transmit(8, b"\x00\xa4", 100)
    assert events.get(timeout=5) == Reply(8, b"\x00\xa4\x90\x00")
    worker.stop()
    assert events.empty(), "the given-up thread posts nothing any more"


def test_worker_over_the_pn532() -> None:
    """The real driver in the worker: card in, SELECT answered, card out, card in again."""
    masters = Masters(*(bytes([n]) * 16 for n in range(4)))
    card = SimCard.issue(bytes(10), masters, SeededRng(1), balance_fen=100)
    events: queue.Queue[Event] = queue.Queue()
    with Pn532Sim() as chip:
        worker = CardWorker(Pn532Reader(chip.port), events.put, rhythm=FAST)
        worker.start()
        assert events.get(timeout=5) == ReaderState(None)
        for token in range(2):
            chip.insert(card)
            assert events.get(timeout=5) == CardIn(card.uid, "iso-dep")
            worker.transmit(token, SELECT, 1000)
            reply = events.get(timeout=5)
            assert isinstance(reply, Reply)
            assert (reply.token, reply.raw[:1], reply.raw[-2:]) == (token, b"\x6f", b"\x90\x00")
            chip.remove()
            assert events.get(timeout=5) == CardOut()
        worker.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("where", ["transmit", "present"])
def test_a_reader_that_breaks_its_contract_is_replaced(where: str) -> None:
    """A driver's bug ends the thread, not the till: what waits is answered, a new reader comes."""
    broken, fresh = ScriptedReader(), ScriptedReader()
    events: queue.Queue[Event] = queue.Queue()
    worker = CardWorker(broken, events.put, renew=lambda: fresh, rhythm=FAST)
    gone = threading.Event()

    def bug(*_: object) -> bytes:
        gone.set()
        raise ZeroDivisionError

    setattr(broken, where, bug)
    worker.start()
    broken.card.set()
    assert events.get(timeout=5) == ReaderState(None)
    assert isinstance(events.get(timeout=5), CardIn)
    if where == "transmit":
        worker.transmit(1, b"\x00\x84", 100)
    assert gone.wait(5)
    for thread in threading.enumerate():
        if thread.name == "card-reader":
            thread.join(5)
    worker.check()
    if where == "transmit":
        assert events.get(timeout=5) == Trouble(1, "LINK_LOST")
    assert events.get(timeout=5) == ReaderState("LINK_LOST")
    assert events.get(timeout=5) == ReaderState(None)
    worker.check()
    worker.stop()
    assert (broken.closed, fresh.opened) == (1, 1)
