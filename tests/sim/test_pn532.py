"""The simulated PN532 is stricter than the chip: checksums, wake-up, order, wire time."""

import os
import select
import time
from collections.abc import Iterator

import pytest

from protocols.reader import pn532 as wire
from sim.card import ATS, SimCard
from sim.card_memory import Masters
from sim.iso_dep import IsoDep
from sim.pn532 import Pn532Sim
from sim.seeded import SeededRng

ERROR = wire.ErrorFrame().encode()
ACK = wire.Ack().encode()


class Line:
    """The host's end of the line, byte by byte."""

    def __init__(self, chip: Pn532Sim) -> None:
        self.chip = chip
        self.descriptor = os.open(chip.port, os.O_RDWR | os.O_NOCTTY)

    def send(self, raw: bytes, wait_s: float = 2.0) -> bytes:
        """Write, then collect until the line is quiet; wait_s for the first byte."""
        os.write(self.descriptor, raw)
        heard = b""
        while select.select([self.descriptor], [], [], 0.05 if heard else wait_s)[0]:
            heard += os.read(self.descriptor, 4096)
        return heard

    def wake(self) -> None:
        self.send(wire.WAKE_UP + wire.sam_configuration().encode())


@pytest.fixture
def line() -> Iterator[Line]:
    with Pn532Sim() as chip:
        made = Line(chip)
        yield made
        os.close(made.descriptor)


def test_asleep_until_woken(line: Line) -> None:
    """Without a long preamble the chip hears nothing; with it, it answers."""
    version = wire.get_firmware_version().encode()
    assert line.send(version, 0.1) == b""
    assert (
        line.send(wire.WAKE_UP + version) == ACK + wire.Frame(0xD5, 3, b"\x32\x01\x06\x07").encode()
    )


@pytest.mark.parametrize("at", [3, 4, 5, 7])
def test_bad_frames_are_not_acknowledged(line: Line, at: int) -> None:
    """A flipped length, its checksum, TFI or data: no ACK, no execution."""
    line.wake()
    raw = bytearray(wire.rf_retries(20).encode())
    raw[at] ^= 0x40
    assert line.send(bytes(raw), 0.1) == b""
    assert line.chip.commands == [wire.SAM_CONFIGURATION]


def test_order_is_enforced(line: Line) -> None:
    """Before SAMConfiguration only version and diagnose are answered."""
    listing = wire.list_passive_target().encode()
    assert line.send(wire.WAKE_UP + listing) == ACK + ERROR
    line.send(wire.sam_configuration().encode())
    line.send(wire.rf_retries(1).encode())
    assert line.send(listing) == ACK + wire.Frame(0xD5, 0x4B, b"\0").encode()


@pytest.mark.parametrize(
    "raw", [b"\xd4\x44\x01", b"\xd4\x32\x05", b"\xd4\x4a\x03\x00", b"\xd5\x02"]
)
def test_nonsense_gets_the_error_frame(line: Line, raw: bytes) -> None:
    """Unknown commands, short bodies, three targets, a frame towards the host: error frame."""
    line.wake()
    frame = wire.Frame(raw[0], raw[1], raw[2:])
    assert line.send(frame.encode()) == ACK + ERROR


def test_exchange_without_target(line: Line) -> None:
    """InDataExchange without an activated card is refused with status 27."""
    line.wake()
    answer = line.send(wire.data_exchange(b"\x00\x84\x00\x00\x04").encode())
    assert answer == ACK + wire.Frame(0xD5, 0x41, b"\x27").encode()


def test_nack_repeats_the_answer_not_the_command(line: Line) -> None:
    """After NACK the last answer comes again; the card has seen the APDU once."""
    card = SimCard.issue(bytes(10), Masters(*(bytes(16),) * 4), SeededRng(1), balance_fen=1)
    line.wake()
    line.chip.insert(card)
    line.send(wire.list_passive_target().encode())
    answer = line.send(wire.data_exchange(bytes.fromhex("0084000008")).encode())
    assert line.send(wire.Nack().encode()) == answer[len(ACK) :]
    assert card.sent_count == 1


def test_a_card_put_back_is_no_longer_selected(line: Line) -> None:
    """Taken away and put back within an instant: the chip has lost it, whoever looks in between."""
    card = SimCard.issue(bytes(10), Masters(*(bytes(16),) * 4), SeededRng(1), balance_fen=1)
    line.wake()
    line.chip.insert(card)
    line.send(wire.list_passive_target().encode())
    there = wire.ask(0, b"\x06").encode()
    assert line.send(there) == ACK + wire.Frame(0xD5, 1, b"\x00").encode()
    line.chip.remove()
    line.chip.insert(card)
    assert line.send(there) == ACK + wire.Frame(0xD5, 1, b"\x01").encode()
    answer = line.send(wire.data_exchange(bytes.fromhex("0084000008")).encode())
    assert answer == ACK + wire.Frame(0xD5, 0x41, b"\x01").encode()
    assert card.sent_count == 0


def test_wire_time_is_paced() -> None:
    """A paced chip takes at least the wire time of all bytes, both ways."""
    with Pn532Sim(paced=True) as chip:
        line = Line(chip)
        start = time.monotonic()
        line.wake()
        for _ in range(5):
            line.send(wire.ask(0, b"\x00" + bytes(100)).encode())
        assert chip.byte_count > 1000
        assert time.monotonic() - start >= chip.byte_count * 10 / 115_200
        os.close(line.descriptor)


def ran(log: list[bytes]) -> IsoDep:
    def run(apdu: bytes | None) -> bytes | None:
        assert apdu is not None
        log.append(apdu)
        return apdu[:1] * 40 + b"\x90\x00"

    return IsoDep(run)


def test_iso_dep_chains_and_repeats_blocks_only() -> None:
    """Chained command in, chained answer out; R(NAK) repeats the block, never the command."""
    log = list[bytes]()
    card = ran(log)
    assert card.feed(b"\xe0\x10", ATS) == ATS  # frames of 24 bytes: 21 of content
    assert card.feed(b"\x12\x00\xa4", ATS) == b"\xa2"
    first = card.feed(b"\x03\x00\x00", ATS)
    assert first == b"\x13" + b"\x00" * 21
    assert card.feed(b"\xb3", ATS) == first
    assert card.feed(b"\xb2", ATS) == b"\xa3"
    assert card.feed(b"\xa2", ATS) == b"\x02" + b"\x00" * 19 + b"\x90\x00"
    assert log == [b"\x00\xa4\x00\x00"]


def test_iso_dep_is_silent_where_a_card_is() -> None:
    """Before RATS, after DESELECT, and for unknown blocks there is no answer."""
    card = ran([])
    assert card.feed(b"\x02\x00", ATS) is None
    card.feed(b"\xe0\x80", ATS)
    assert card.feed(b"\xff\x00", ATS) is None
    assert card.feed(b"\xc2", ATS) == b"\xc2"
    assert card.feed(b"\x02\x00", ATS) is None
