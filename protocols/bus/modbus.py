"""Modbus RTU as the relay boards speak it: one request, one reply, CRC low byte first.

Spec: Modbus application protocol 1.1b3 §6, Modbus over serial line 1.02 §2.5. A reply is valid only
if unit, function, length, CRC and (for writes) the echo match its request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from protocols.bus.line import crc16_modbus
from protocols.errors import BusFrameError, ModbusExceptionError

READ_COILS, READ_DISCRETES, READ_HOLDINGS, READ_INPUTS = 1, 2, 3, 4
WRITE_COIL, WRITE_HOLDING = 5, 6
READS = (READ_COILS, READ_DISCRETES, READ_HOLDINGS, READ_INPUTS)
BITS = (READ_COILS, READ_DISCRETES)
WRITES = (WRITE_COIL, WRITE_HOLDING)
EXCEPTION_BIT = 0x80
ADU_BYTES_MAX = 256
UNIT_MAX = 247
_CLAUSE = "Modbus serial line 1.02 2.5.1"


@dataclass(frozen=True, slots=True)
class Frame:
    """One RTU frame: unit 0..247, function, and its bytes without CRC."""

    unit: int
    function: int
    body: bytes

    def encode(self) -> bytes:
        """unit function body CRC."""
        assert 0 <= self.unit <= UNIT_MAX, self.unit
        assert 0 < self.function <= 0xFF, self.function
        raw = bytes((self.unit, self.function)) + self.body
        assert len(raw) + 2 <= ADU_BYTES_MAX, len(raw)
        return raw + crc16_modbus(raw).to_bytes(2, "little")

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """A frame from exactly its bytes. Raises FRAME_BAD."""
        if not 4 <= len(raw) <= ADU_BYTES_MAX:
            raise BusFrameError(field="length", offset=len(raw), clause=_CLAUSE)
        if crc16_modbus(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            raise BusFrameError(field="crc", offset=len(raw) - 2, clause=_CLAUSE)
        if raw[0] > UNIT_MAX or raw[1] == 0:
            raise BusFrameError(field="unit", offset=0, clause=_CLAUSE)
        return cls(raw[0], raw[1], raw[2:-2])


def read(unit: int, function: int, address: int, count: int) -> Frame:
    """A read request of `count` bits or registers."""
    assert function in READS, function
    assert 1 <= count <= (2000 if function in BITS else 125), count
    return Frame(unit, function, address.to_bytes(2, "big") + count.to_bytes(2, "big"))


def write(unit: int, function: int, address: int, value: int) -> Frame:
    """A write request of one coil or register; `value` is the 16-bit wire value."""
    assert function in WRITES, function
    return Frame(unit, function, address.to_bytes(2, "big") + value.to_bytes(2, "big"))


def reply_length(request: Frame, head: bytes) -> int | None:
    """Bytes of the whole reply, as soon as its first three tell; None before."""
    if len(head) < 3:
        return None
    if head[1] & EXCEPTION_BIT:
        return 5
    return 5 + head[2] if request.function in READS else 8


def check_reply(request: Frame, raw: bytes) -> bytes:
    """What the reply says to this request: data bytes of a read, the echo of a write.

    Raises FRAME_BAD naming the field, MODBUS_EXCEPTION with the exception code.
    """
    reply = Frame.decode(raw)
    if reply.unit != request.unit:
        raise BusFrameError(field="unit", offset=0, clause=_CLAUSE)
    if reply.function == request.function | EXCEPTION_BIT and len(reply.body) == 1:
        raise ModbusExceptionError(function=request.function, exception=reply.body[0])
    if reply.function != request.function:
        raise BusFrameError(field="function", offset=1, clause=_CLAUSE)
    if request.function in WRITES:
        if reply.body != request.body:
            raise BusFrameError(field="echo", offset=2, clause=_CLAUSE)
        return reply.body
    count = int.from_bytes(request.body[2:4], "big")
    wanted = (count + 7) // 8 if request.function in BITS else 2 * count
    if len(reply.body) != wanted + 1 or reply.body[0] != wanted:
        raise BusFrameError(field="count", offset=2, clause=_CLAUSE)
    return reply.body[1:]


def bits_of(raw: bytes, count: int) -> tuple[bool, ...]:
    """The first `count` bits, least significant first."""
    return tuple(bool(raw[n // 8] >> n % 8 & 1) for n in range(count))


def words_of(raw: bytes) -> tuple[int, ...]:
    """Registers as unsigned 16-bit words."""
    return tuple(int.from_bytes(raw[n : n + 2], "big") for n in range(0, len(raw), 2))
