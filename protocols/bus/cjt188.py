"""CJ/T 188-2004 frames of water meters with a valve.

    68 T A0..A6 C L DI0 DI1 SER data.. CS 16      (FE preambles before it are skipped)

T 10 cold, 11 hot water, 20 heat, 30 gas. Address BCD, low byte first. L counts from DI0; CS is the sum
from 68 mod 256; no 33H offset. Devices disagree on the order of DI and on the control code of a valve
reply: profile data, not a reason to accept anything (terminals.md §8.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from protocols.bcd import decode_bcd
from protocols.bus.line import Splitter, sum8
from protocols.errors import BcdError, BusFrameError

START, END = 0x68, 0x16
HEAD = 11  # 68 T A0..A6 C L
BODY_MAX = 100
REPLY = 0x80
ERROR = 0x40
READ, READ_ADDRESS, WRITE, SET_ADDRESS = 0x01, 0x03, 0x04, 0x15
BROADCAST = b"\xaa" * 7
DI_READ = 0x901F
DI_VALVE = 0xA017
DI_ADDRESS = 0x810A
VALVE_OPEN, VALVE_CLOSE, FREE_OPEN, FREE_CLOSE = 0x55, 0x99, 0x66, 0x77
UNITS_ML = {0x2C: 10_000, 0x29: 1_000, 0x2B: 1_000, 0x2E: 1_000_000}  # of the last digit
_CLAUSE = "CJ/T 188-2004 5"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `body` is everything that L counts: DI0 DI1 SER data."""

    meter_type: int
    address: bytes
    control: int
    body: bytes

    def encode(self) -> bytes:
        """The frame without preamble."""
        assert len(self.address) == 7, self.address
        assert len(self.body) <= BODY_MAX, len(self.body)
        head = bytes((START, self.meter_type)) + self.address
        raw = head + bytes((self.control, len(self.body))) + self.body
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
        return cls(raw[1], raw[2:9], raw[9], raw[11:-2])

    @property
    def is_reply(self) -> bool:
        """Whether it comes from the meter."""
        return bool(self.control & REPLY)

    @property
    def identifiers(self) -> tuple[int, int]:
        """DI in both byte orders: vendors disagree, sometimes within one device."""
        first, second = self.body[0:1], self.body[1:2]
        return int.from_bytes(first + second, "big"), int.from_bytes(second + first, "big")

    def concerns(self, identifier: int) -> bool:
        """Whether the frame is about this DI, in either order."""
        return len(self.body) >= 2 and identifier in self.identifiers


@dataclass(frozen=True, slots=True)
class MeterProfile:
    """What differs between meters: data, not code."""

    low_first: bool = True  # DI sent as 1F 90
    valve_replies: tuple[int, ...] = (WRITE | REPLY, 0xAA)
    valve_mask: int = 0x03  # in the first status byte


@dataclass(frozen=True, slots=True)
class Reading:
    """Volume in ml, and the two status bytes."""

    volume_ml: int
    status: bytes


def request(address: bytes, control: int, identifier: int, serial: int, profile: MeterProfile,
            tail: bytes = b"", meter_type: int = 0x10) -> Frame:  # fmt: skip
    """A request about one DI, in the order the profile wants."""
    order = "little" if profile.low_first else "big"
    di = identifier.to_bytes(2, "little" if order == "little" else "big")
    return Frame(meter_type, address, control, di + bytes((serial,)) + tail)


def reading_of(reply: Frame, profile: MeterProfile) -> Reading:
    """The current volume of a read reply. Raises FRAME_BAD."""
    if reply.control != READ | REPLY or not reply.concerns(DI_READ) or len(reply.body) < 10:
        raise BusFrameError(field="reply", offset=9, clause=_CLAUSE)
    unit_ml = UNITS_ML.get(reply.body[7])
    if unit_ml is None:
        raise BusFrameError(field="unit", offset=HEAD + 7, clause=_CLAUSE)
    try:
        digits = decode_bcd(reply.body[3:7][::-1])
    except BcdError as fault:
        raise BusFrameError(field="volume", offset=HEAD + 3, clause=_CLAUSE) from fault
    return Reading(int(digits) * unit_ml, reply.body[-2:])


def length_of(raw: bytes) -> int | None:
    """Bytes of the whole frame once its head is here. Raises FRAME_BAD for no frame's head."""
    if raw[:1] and raw[0] != START:
        raise BusFrameError(field="start", offset=0, clause=_CLAUSE)
    if len(raw) < HEAD:
        return None
    if raw[10] > BODY_MAX:
        raise BusFrameError(field="L", offset=10, clause=_CLAUSE)
    return HEAD + raw[10] + 2


def splitter() -> Splitter[Frame]:
    """A splitter for a line of these meters."""
    return Splitter(length_of, Frame.decode)
