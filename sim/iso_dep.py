"""The card's side of ISO 14443-4: blocks, numbers, chaining, and repeats that repeat no command.

Used where a reader library does the blocks itself (nfcpy through InCommunicateThru).
"""

from __future__ import annotations

from collections.abc import Callable

FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
R_ACK, R_NAK = 0xA2, 0xB2
S_DESELECT, S_WTX = 0xC2, 0xF2


class IsoDep:
    """Takes blocks without their CRC, gives blocks; `run` carries out one APDU.

    `run` returns None while the card is still busy; a R(NAK) then gets no answer either.
    """

    def __init__(self, run: Callable[[bytes | None], bytes | None]) -> None:
        self._run = run
        self._ats = b""
        self._frame_size = 16
        self._number = 1
        self._command = b""
        self._rest = b""  # of an answer that is being chained out
        self._last = b""  # the block that a R(NAK) makes us repeat
        self._busy = False

    def feed(self, block: bytes, ats: bytes) -> bytes | None:
        """The card's next block, or None for silence."""
        if block[:1] == b"\xe0" and len(block) == 2:
            self._ats = ats
            self._frame_size = FRAME_SIZES[min(block[1] >> 4, 8)]
            self._number = 1
            return ats
        if not self._ats or not block:
            return None
        pcb = block[0]
        if pcb & 0xE2 == 0x02:
            return self._information(pcb, block[1:])
        if pcb & 0xE6 == 0xA2:
            return self._acknowledge(pcb)
        if pcb == S_DESELECT:
            self._ats = b""
            return block[:1]
        return None

    def _information(self, pcb: int, part: bytes) -> bytes | None:
        self._number = pcb & 1
        self._command += part
        if pcb & 0x10:
            self._last = bytes((R_ACK | self._number,))
            return self._last
        command, self._command = self._command, b""
        return self._answered(self._run(command))

    def _answered(self, answer: bytes | None) -> bytes | None:
        self._busy = answer is None
        if answer is None:
            return None
        self._rest = answer
        return self._chain()

    def _chain(self) -> bytes:
        room = self._frame_size - 3
        part, self._rest = self._rest[:room], self._rest[room:]
        self._last = bytes((0x02 | (0x10 if self._rest else 0) | self._number,)) + part
        return self._last

    def _acknowledge(self, pcb: int) -> bytes | None:
        if self._busy:  # only a R(NAK) comes here: the reader waited too long
            return self._answered(self._run(None))
        if pcb & 1 == self._number:
            return self._last
        if pcb & 0x10:  # R(NAK) with the other number: presence check
            return bytes((R_ACK | self._number,))
        self._number ^= 1
        return self._chain() if self._rest else None
