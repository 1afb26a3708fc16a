"""DL/T 645 frames of electricity meters: 2007 edition, and reading by the 1997 edition.

    68 A0..A5 68 C L data.. CS 16          each data byte + 33H on the line

CS is the sum from the first 68 mod 256; FE preambles are skipped. Control (1C) carries an expiry and
a password; a frame is dead after its expiry (terminals.md §8.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from protocols.bcd import decode_bcd
from protocols.bus.line import Splitter, sum8
from protocols.errors import BcdError, BusFrameError

START, END = 0x68, 0x16
HEAD = 10  # 68 A0..A5 68 C L
BODY_MAX = 200
OFFSET = 0x33
REPLY, ERROR = 0x80, 0x40
READ, READ_ADDRESS, CONTROL, READ_1997 = 0x11, 0x13, 0x1C, 0x01
TRIP, PERMIT = 0x1A, 0x1B
BROADCAST = b"\xaa" * 6
DI_ENERGY = 0x00010000
_CLAUSE = "DL/T 645-2007 5"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `body` is the data without the 33H offset."""

    address: bytes
    control: int
    body: bytes

    def encode(self) -> bytes:
        """The frame without preamble."""
        assert len(self.address) == 6, self.address
        assert len(self.body) <= BODY_MAX, len(self.body)
        data = bytes((octet + OFFSET) & 0xFF for octet in self.body)
        raw = bytes((START,)) + self.address + bytes((START, self.control, len(data))) + data
        return raw + bytes((sum8(raw), END))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """A frame from its bytes; FE preambles are skipped. Raises FRAME_BAD."""
        raw = raw.lstrip(b"\xfe")
        size = length_of(raw)
        if size is None or len(raw) != size:
            raise BusFrameError(field="length", offset=len(raw), clause=_CLAUSE)
        if raw[-1] != END:
            raise BusFrameError(field="end", offset=size - 1, clause=_CLAUSE)
        if raw[-2] != sum8(raw[:-2]):
            raise BusFrameError(field="checksum", offset=size - 2, clause=_CLAUSE)
        return cls(raw[1:7], raw[8], bytes((octet - OFFSET) & 0xFF for octet in raw[10:-2]))

    @property
    def is_reply(self) -> bool:
        """Whether it comes from the meter."""
        return bool(self.control & REPLY)

    @property
    def is_error(self) -> bool:
        """Whether the meter refused."""
        return self.is_reply and bool(self.control & ERROR)


def read_energy(address: bytes) -> Frame:
    """Ask for the total forward active energy."""
    return Frame(address, READ, DI_ENERGY.to_bytes(4, "little"))


def energy_kwh_x100(reply: Frame) -> int:
    """Energy of a read reply in 0.01 kWh. Raises FRAME_BAD."""
    fits = reply.control == READ | REPLY and len(reply.body) == 8
    if not fits or reply.body[:4] != DI_ENERGY.to_bytes(4, "little"):
        raise BusFrameError(field="reply", offset=8, clause=_CLAUSE)
    try:
        return int(decode_bcd(reply.body[4:8][::-1]))
    except BcdError as fault:
        raise BusFrameError(field="energy", offset=HEAD + 4, clause=_CLAUSE) from fault


def control(address: bytes, action: int, password: bytes, operator: bytes, expiry: bytes) -> Frame:
    """Trip or permit. `password` level and 3 bytes, `operator` 4, `expiry` BCD ss mm hh DD MM YY."""
    assert action in (TRIP, PERMIT), action
    assert (len(password), len(operator), len(expiry)) == (4, 4, 6), "fixed lengths"
    return Frame(address, CONTROL, password + operator + bytes((action, 0)) + expiry)


def length_of(raw: bytes) -> int | None:
    """Bytes of the whole frame once its head is here. Raises FRAME_BAD for no frame's head."""
    if raw[:1] and raw[0] != START:
        raise BusFrameError(field="start", offset=0, clause=_CLAUSE)
    if len(raw) < HEAD:
        return None
    if raw[7] != START:
        raise BusFrameError(field="start2", offset=7, clause=_CLAUSE)
    if raw[9] > BODY_MAX:
        raise BusFrameError(field="L", offset=9, clause=_CLAUSE)
    return HEAD + raw[9] + 2


def splitter() -> Splitter[Frame]:
    """A splitter for a line of these meters."""
    return Splitter(length_of, Frame.decode)
