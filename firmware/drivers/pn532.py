"""Contactless reader on a PN532 chip over a serial line: our own driver, the default reader.

One InDataExchange per APDU: the chip does anticollision, RATS and ISO-DEP blocks. A command is
written once. An answer with a bad checksum is asked for again once (NACK repeats the chip's
answer, never the card's command); anything further is LINK_LOST. Spec: card.md §8.2.
"""

from __future__ import annotations

import time

from firmware.base.clock import Clock, SystemClock
from firmware.drivers.serial_link import SerialLink
from firmware.errors import (
    CardGoneError,
    CardMuteError,
    LinkLostError,
    ReaderBusyError,
    ReaderDownError,
)
from firmware.ports import CardSession
from protocols.errors import FrameError
from protocols.reader import pn532 as wire

START_BAUD = 115_200
ACK_MS = 100
COMMAND_MS = 300
POLL_RETRIES = 20  # finite, so that one poll ends by itself (card.md §8.2)
POLL_MS = 2_000
FIELD_OFF_S = 0.010
DIAGNOSE = 0x00
CARD_PRESENCE = b"\x06"  # Diagnose test 6: R(NAK) to an ISO-DEP card, no card state moves
CHIP = 0x32
APDU_MAX = wire.BODY_LEN_MAX - 1  # the target number goes before the APDU


class Pn532Reader:
    """CardReader; one object serves one port from one thread."""

    def __init__(self, port: str, baud: int = START_BAUD, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._link = SerialLink(port, self._clock)
        self._port = port
        self._baud = baud
        self._splitter = wire.Splitter()
        self._target: wire.Target | None = None

    def open(self) -> None:
        """Wake the chip, check that it is a PN532, set speed, retries and field."""
        self._target = None
        try:
            self._wake()
            if self._baud != START_BAUD:
                self._command(wire.set_baud(self._baud), COMMAND_MS)
                self._write(wire.Ack().encode())
                time.sleep(0.002)
                self._link.set_baud(self._baud)
            self._command(wire.rf_retries(POLL_RETRIES), COMMAND_MS)
            self._command(wire.rf_field(on=True), COMMAND_MS)
        except (LinkLostError, CardMuteError) as fault:
            self._link.close()
            raise ReaderDownError(port=self._port, reason=str(fault)) from fault

    def close(self) -> None:
        """Let the card go if the chip still listens, then close the port."""
        try:
            if self._target is not None:
                self._command(wire.release(), COMMAND_MS)
        except (LinkLostError, CardMuteError, ReaderDownError):
            self._target = None  # the line is dead; nothing is left to release
        self._target = None
        self._link.close()

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        """Activate the first type A card; one chip poll lasts about 0.1 s."""
        due_us = self._clock.mono_us() + timeout_ms * 1000
        try:
            if self._target is not None:
                self._release()
            while True:
                found = self._activate()
                if found is not None or self._clock.mono_us() >= due_us:
                    return found
        except (LinkLostError, CardMuteError) as fault:
            raise ReaderDownError(port=self._port, reason=str(fault)) from fault

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        """Send one APDU once. CARD_GONE, CARD_MUTE, LINK_LOST: the outcome is unknown."""
        target = self._target
        if target is None or not target.speaks_apdu or len(apdu) > APDU_MAX:
            raise ReaderBusyError(reason="no card that takes this APDU", size=len(apdu))
        try:
            raw = self._command(wire.data_exchange(apdu, target.number), deadline_ms)
            answer = wire.ExchangeAnswer.decode(raw)
        except FrameError as fault:
            self._target = None
            raise LinkLostError(reason=fault.code) from fault
        except (CardMuteError, LinkLostError):
            self._target = None  # whatever comes later belongs to no one
            raise
        if answer.error or answer.more:
            self._target = None
            raise CardGoneError(status=answer.status)
        return answer.body

    def present(self) -> bool:
        """Whether the card still answers an R(NAK)."""
        if self._target is None:
            return False
        try:
            status = self._command(wire.ask(DIAGNOSE, CARD_PRESENCE), COMMAND_MS)
        except CardMuteError as fault:
            raise LinkLostError(reason="chip does not answer") from fault
        if status != b"\x00":
            self._target = None
            return False
        return True

    def reset(self) -> None:
        """Release, field off for 10 ms, activate again."""
        self._target = None
        try:
            self._command(wire.release(), COMMAND_MS)
            self._command(wire.rf_field(on=False), COMMAND_MS)
            time.sleep(FIELD_OFF_S)
            self._command(wire.rf_field(on=True), COMMAND_MS)
            found = self._activate()
        except CardMuteError as fault:
            raise LinkLostError(reason="chip does not answer") from fault
        if found is None:
            raise CardGoneError(step="reset")

    def _wake(self) -> None:
        """The chip starts at 115200, or still runs at our speed after a crash of ours."""
        last = ""
        for baud in dict.fromkeys((START_BAUD, self._baud)):
            self._link.open(baud)
            self._splitter = wire.Splitter()
            try:
                self._write(wire.WAKE_UP)
                self._command(wire.sam_configuration(), COMMAND_MS)
                version = self._command(wire.get_firmware_version(), COMMAND_MS)
                chip = wire.FirmwareVersion.decode(version).ic
            except (LinkLostError, CardMuteError, FrameError) as fault:
                last = str(fault)
                continue
            if chip != CHIP:
                raise ReaderDownError(port=self._port, reason=f"chip {chip:02X}, not a PN532")
            return
        raise LinkLostError(reason=last)

    def _release(self) -> None:
        self._target = None
        self._command(wire.release(), COMMAND_MS)

    def _activate(self) -> CardSession | None:
        raw = self._command(wire.list_passive_target(), POLL_MS)
        try:
            targets = wire.decode_targets(raw)
        except FrameError as fault:
            raise LinkLostError(reason=fault.code) from fault
        if not targets:
            return None
        self._target = targets[0]
        kind = "iso-dep" if self._target.speaks_apdu else "other"
        return CardSession(self._target.uid, self._target.ats, kind)

    def _command(self, frame: wire.Frame, deadline_ms: int) -> bytes:
        """Write one command, see its ACK, return the body of its answer.

        Raises LINK_LOST (no ACK, bad frames), CARD_MUTE (acknowledged, no answer in time).
        """
        if self._link.drain():
            self._splitter = wire.Splitter()  # a late answer of an aborted command
        self._write(frame.encode())
        due_us = self._clock.mono_us() + deadline_ms * 1000
        waiting = self._acknowledged(min(due_us, self._clock.mono_us() + ACK_MS * 1000))
        answer = self._answer(waiting, due_us)
        try:
            return wire.expect(answer, frame.code)
        except FrameError as fault:
            raise LinkLostError(reason=fault.code, got=answer.code) from fault

    def _acknowledged(self, due_us: int) -> list[wire.Event]:
        """Skip to our ACK; what followed it. Anything before it is not ours."""
        while events := self._read(due_us):
            for at, event in enumerate(events):
                if isinstance(event, wire.Ack):
                    return events[at + 1 :]
        raise LinkLostError(reason="no ACK from the chip")

    def _answer(self, waiting: list[wire.Event], due_us: int) -> wire.Frame:
        """The next information frame; one bad frame is asked for again."""
        asked_again = False
        while True:
            for event in waiting:
                if isinstance(event, wire.Frame):
                    return event
                if isinstance(event, wire.ErrorFrame):
                    raise LinkLostError(reason="chip refused the command")
                if isinstance(event, wire.BadFrame) and asked_again:
                    raise LinkLostError(reason="two bad frames", field=event.field)
                if isinstance(event, wire.BadFrame):
                    asked_again = True
                    self._write(wire.Nack().encode())
                    break  # what came with the bad frame is as doubtful
            waiting = self._read(due_us)
            if not waiting:
                self._write(wire.Ack().encode())  # abort: the chip drops a late answer
                raise CardMuteError(reason="no answer in time")

    def _read(self, due_us: int) -> list[wire.Event]:
        """Events of the next bytes; empty once the deadline is over."""
        while raw := self._link.read(due_us):
            if events := self._splitter.feed(raw):
                return events
        return []

    def _write(self, raw: bytes) -> None:
        self._link.write(raw, self._clock.mono_us() + COMMAND_MS * 1000)
