"""What a PN532 does with each command: enough for our driver and for nfcpy, stricter than the chip.

Commands before SAMConfiguration, unknown commands and short bodies get the error frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from protocols.reader import pn532 as wire
from sim.field import Field, FieldCard
from sim.iso_dep import IsoDep

AUTO_RATS = 0x10
RETRY_S = 0.005  # one passive activation without a card; the real time is unverified
APDU_LIMIT_S = 30.0
FIFO_DATA = 0x6339
CONTEXT, TIMEOUT = b"\x27", b"\x01"
SENS_RES, SEL_RES = b"\x00\x04", 0x20


class Chip:
    """The command set; `pause` waits for a change in the field or for the host, up to seconds."""

    def __init__(self, field: Field, pause: Callable[[float], bool]) -> None:
        self.field = field
        self.next_baud: int | None = None
        self._pause = pause  # True: the host has sent something, give up
        self._configured = False
        self._auto_rats = True
        self._retries = 0xFF
        self._thru_s = 0.05
        self._target: FieldCard | None = None
        self._laid = 0  # which laying on of a card `_target` was selected at
        self._blocks = IsoDep(self._run_thru)
        self._registers: dict[int, int] = {}
        self._card_left = False
        self._commands: dict[int, Callable[[bytes], bytes | None]] = {
            0x00: self._diagnose,
            wire.GET_FIRMWARE_VERSION: lambda _: bytes.fromhex("32010607"),
            0x06: self._read_registers,
            0x08: self._write_registers,
            wire.SET_BAUD: self._set_baud,
            0x12: self._parameters,
            wire.SAM_CONFIGURATION: self._sam,
            0x16: self._power_down,
            wire.RF_CONFIGURATION: self._rf,
            wire.LIST_PASSIVE_TARGET: self._list,
            wire.DATA_EXCHANGE: self._exchange,
            wire.COMMUNICATE_THRU: self._thru,
            wire.RELEASE: self._release,
        }

    asleep = False

    def answer(self, frame: wire.Frame) -> wire.Frame | wire.ErrorFrame | None:
        """The answer, or None when the host broke in."""
        command = self._commands.get(frame.code)
        early = frame.code in (0x00, 0x02, wire.SAM_CONFIGURATION)
        if frame.tfi != wire.TO_CHIP or command is None or not (self._configured or early):
            return wire.ErrorFrame()
        try:
            body = command(frame.body)
        except IndexError:
            return wire.ErrorFrame()
        return None if body is None else wire.Frame(wire.FROM_CHIP, frame.code + 1, body)

    def _sam(self, body: bytes) -> bytes:
        if body[0] != 1 or len(body) > 3:
            raise IndexError
        self._configured = True
        return b""

    def _diagnose(self, body: bytes) -> bytes:
        if body[0] == 0:
            return body
        if body[0] != 6 or self._target is None:
            return TIMEOUT
        return b"\x00" if self._still_there() else TIMEOUT

    def _read_registers(self, body: bytes) -> bytes:
        if len(body) % 2:
            raise IndexError
        addresses = [int.from_bytes(body[n : n + 2], "big") for n in range(0, len(body), 2)]
        return bytes(self._registers.get(address, 0) for address in addresses)

    def _write_registers(self, body: bytes) -> bytes:
        if len(body) % 3:
            raise IndexError
        for n in range(0, len(body), 3):
            self._registers[int.from_bytes(body[n : n + 2], "big")] = body[n + 2]
        return b""

    def _set_baud(self, body: bytes) -> bytes:
        self.next_baud = {code: baud for baud, code in wire.BAUD_CODES.items()}[body[0]]
        return b""

    def _parameters(self, body: bytes) -> bytes:
        self._auto_rats = bool(body[0] & AUTO_RATS)
        return b""

    def _power_down(self, body: bytes) -> bytes:
        self._drop()
        self.field.switch(on=False)
        self._configured = False
        self.asleep = True
        return b"\x00"

    def _rf(self, body: bytes) -> bytes:
        item, values = body[0], body[1:]
        if item == 0x01:
            on = bool(values[0] & 1)
            if not on:
                self._drop()
            self.field.switch(on=on)
        elif item == 0x02:
            self._thru_s = 0.0001 * 2 ** (values[2] - 1) if values[2] else 10.0
        elif item == 0x05:
            self._retries = values[2]
        return b""

    def _list(self, body: bytes) -> bytes | None:
        if body[0] not in (1, 2):
            raise IndexError
        self._drop()
        self.field.switch(on=True)
        if body[1] != 0:
            return b"\x00"
        ends = time.monotonic() + (self._retries + 1) * RETRY_S
        while True:
            card = self.field.activate()
            left_s = ends - time.monotonic()
            if card is not None:
                return self._selected(card)
            if left_s <= 0 and self._retries != 0xFF:
                self._registers[FIFO_DATA] = 0x26  # nfcpy looks for its unanswered SENS_REQ
                return b"\x00"
            if self._pause(max(left_s, 0.0)):
                return None

    def _selected(self, card: FieldCard) -> bytes:
        self._target, self._laid = card, self.field.laid
        self._blocks = IsoDep(self._run_thru)
        ats = card.ats[1:] if self._auto_rats else b""
        head = b"\x01\x01" + SENS_RES + bytes((SEL_RES, len(card.uid))) + card.uid
        return head + (bytes((len(ats) + 1,)) + ats if self._auto_rats else b"")

    def _exchange(self, body: bytes) -> bytes | None:
        if self._target is None or body[0] != 1 or not self._auto_rats:
            return CONTEXT
        if not self._still_there():
            self._target = None
            return TIMEOUT
        stopped = self._host_spoke
        answer, there = self.field.run(body[1:], APDU_LIMIT_S, stopped)
        if not there:
            self._target = None
            return TIMEOUT
        return None if answer is None else b"\x00" + answer

    def _thru(self, body: bytes) -> bytes:
        if self._target is None or not self._still_there():
            return TIMEOUT
        self._card_left = False
        block = self._blocks.feed(body, self._target.ats)
        return TIMEOUT if block is None or self._card_left else b"\x00" + block

    def _run_thru(self, apdu: bytes | None) -> bytes | None:
        """One APDU for the block layer; None as APDU asks a busy card again."""
        stopped = self._host_spoke
        if apdu is None:
            answer, there = self.field.wait(self._thru_s, stopped)
        else:
            answer, there = self.field.run(apdu, self._thru_s, stopped)
        self._card_left = not there
        return answer

    def _release(self, body: bytes) -> bytes:
        if len(body) != 1:
            raise IndexError
        self._drop()
        return b"\x00"

    def _drop(self) -> None:
        target, self._target = self._target, None
        if target is not None and self._laid == self.field.laid and target is self.field.card:
            self.field.settle()
            target.power_off()

    def _still_there(self) -> bool:
        """Whether the selected card never left: back after an instant it is without power."""
        return self._target is self.field.card and self._laid == self.field.laid

    def _host_spoke(self) -> bool:
        return self._pause(0.0)
