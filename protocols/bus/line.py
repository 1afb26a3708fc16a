"""What the bus codecs share: checksums, bad frames, and resynchronisation on a noisy line.

Any bytes yield frames or bad frames, in bounded time and memory (terminals.md T12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocols.errors import BusFrameError

F = TypeVar("F")
BUFFER_MAX = 512


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Bytes that looked like a frame and were none: which field, and the bytes (at most 64)."""

    field: str
    raw: bytes


def crc16_modbus(raw: bytes) -> int:
    """CRC-16, polynomial A001 reflected, start FFFF (Modbus over serial line 1.02 §2.5.1.2)."""
    crc = 0xFFFF
    for octet in raw:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def sum8(raw: bytes) -> int:
    """Sum of all bytes mod 256."""
    return sum(raw) & 0xFF


class Splitter(Generic[F]):
    """Cuts a stream of `68 … 16` frames; resynchronises after noise by looking for the next 68.

    `length` gives the whole frame's length once it is known, None while more bytes are needed, and
    raises FRAME_BAD for a head that cannot be one.
    """

    def __init__(self, length: Callable[[bytes], int | None], decode: Callable[[bytes], F]) -> None:
        self._length = length
        self._decode = decode
        self._buffer = b""

    def feed(self, raw: bytes) -> list[F | BadFrame]:
        """The frames and bad frames that these bytes complete."""
        found: list[F | BadFrame] = []
        for start in range(0, len(raw), BUFFER_MAX):
            self._buffer += raw[start : start + BUFFER_MAX]
            self._drain(found)
        return found

    def _drain(self, found: list[F | BadFrame]) -> None:
        while True:
            at = self._buffer.find(b"\x68")
            if at < 0:
                self._buffer = b""
                return
            self._buffer = self._buffer[at:]
            try:
                size = self._length(self._buffer)
                if size is None or len(self._buffer) < size:
                    return
                found.append(self._decode(self._buffer[:size]))
                self._buffer = self._buffer[size:]
            except BusFrameError as fault:
                found.append(BadFrame(str(fault.facts["field"]), self._buffer[:64]))
                self._buffer = self._buffer[1:]
