"""Contactless reader through nfcpy: an independent peer of our own PN532 driver.

nfcpy is unmaintained, so it stays behind this file and is imported when the reader opens. Its
traps are listed in card.md §8.3: the device is built past its own path discovery, APDUs go through
`transceive` (`send_apdu` raises on a status word), and it runs ISO-DEP itself.
"""

from __future__ import annotations

import time
from typing import Any

from firmware.errors import (
    CardGoneError,
    LinkLostError,
    ReaderBusyError,
    ReaderDownError,
)
from firmware.ports import CardSession

POLL_S = 0.05
FIELD_OFF_S = 0.010
BLOCK_REPEATS = 1  # R(NAK) and R(ACK) repeats of blocks; the library's five outlast any deadline


class NfcpyReader:
    """CardReader; a card that falls silent is reported as CARD_GONE, the library cannot tell."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._frontend: Any = None
        self._tag: Any = None

    def open(self) -> None:
        """Build the frontend on the port."""
        import nfc.clf
        import nfc.clf.pn532
        import nfc.clf.transport
        import nfc.tag

        self._tag = None
        transport = None
        try:
            transport = nfc.clf.transport.TTY(self._port)
            device = nfc.clf.pn532.init(transport)
        except (OSError, ValueError, nfc.clf.pn532.Chipset.Error) as fault:
            if transport is not None and transport.tty is not None:
                transport.close()
            raise ReaderDownError(port=self._port, reason=str(fault)[:120]) from fault
        self._frontend = nfc.ContactlessFrontend()
        self._frontend.device = device

    def close(self) -> None:
        """Let go of the card and the port."""
        import nfc.clf.pn53x

        self._tag = None
        frontend, self._frontend = self._frontend, None
        if frontend is None:
            return
        transport = frontend.device.chipset.transport
        try:
            frontend.close()
        except (OSError, nfc.clf.pn53x.Chipset.Error):
            transport.close()  # the chip did not answer its last commands

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        """Poll for a type A card."""
        due = time.monotonic() + timeout_ms / 1000
        while True:
            found = self._sense()
            if found is not None or time.monotonic() >= due:
                return found
            time.sleep(POLL_S)

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        """Send one APDU once; the library may repeat a block, never the APDU."""
        if self._tag is None:
            raise ReaderBusyError(reason="no card activated")
        import nfc.clf
        import nfc.tag.tt4

        share_s = deadline_ms / 1000 / (BLOCK_REPEATS + 1)
        try:
            return bytes(self._tag.transceive(bytearray(apdu), share_s))
        except (nfc.tag.tt4.Type4TagCommandError, nfc.clf.CommunicationError) as fault:
            self._tag = None
            raise CardGoneError(reason=str(fault)[:120]) from fault
        except OSError as fault:
            self._tag = None
            raise LinkLostError(port=self._port, reason=str(fault)[:120]) from fault

    def present(self) -> bool:
        """Whether the card answers an R(NAK)."""
        if self._tag is None:
            return False
        try:
            return bool(self._tag.is_present)
        except OSError as fault:
            raise LinkLostError(port=self._port, reason=str(fault)[:120]) from fault

    def reset(self) -> None:
        """Field off for 10 ms, activate again."""
        self._tag = None
        try:
            self._opened().device.mute()
        except OSError as fault:
            raise LinkLostError(port=self._port, reason=str(fault)[:120]) from fault
        time.sleep(FIELD_OFF_S)
        if self._sense() is None:
            raise CardGoneError(step="reset")

    def _sense(self) -> CardSession | None:
        import nfc.clf
        import nfc.clf.pn53x
        import nfc.tag

        frontend = self._opened()
        try:
            target = frontend.sense(nfc.clf.RemoteTarget("106A"))
            tag = None if target is None else nfc.tag.activate(frontend, target)
        except (OSError, nfc.clf.pn53x.Chipset.Error) as fault:
            raise ReaderDownError(port=self._port, reason=str(fault)[:120]) from fault
        if tag is None:
            return None
        if tag.type != "Type4Tag":
            return CardSession(bytes(tag.identifier), b"", "other")
        blocks = tag._dep
        blocks.n_retry_ack = blocks.n_retry_nak = BLOCK_REPEATS
        self._tag = tag
        return CardSession(bytes(tag.identifier), b"", "iso-dep")

    def _opened(self) -> Any:
        if self._frontend is None:
            raise ReaderDownError(port=self._port, reason="not open")
        return self._frontend
