"""The PSAM in a second card slot: it owns the keys, the terminal number and the terminal serial.

The slot is any CardReader (in practice a PC/SC one), so that this driver needs no other driver.
After any trouble the PSAM is powered anew before the next MAC1: a session that broke is never
asked about its MAC2 (card.md §3).
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware.errors import ReaderError, SamError
from firmware.ports import CardReader, Mac1Answer, Mac1Ask, SamInfo
from protocols.card.apdu import SW, Command, Response, describe
from protocols.card.psam import PsamMac1Answer, PsamMac1Ask, psam_check_mac2, psam_mac1
from protocols.card.purse import read_binary, select_aid
from protocols.errors import FrameError

APDU_MS = 1000
CARD_WAIT_MS = 1000
TID_LEN = 6


@dataclass(frozen=True, slots=True)
class TidPlace:
    """Where the terminal number lies in the PSAM (profile; unverified on hardware)."""

    sfi: int
    offset: int


class PsamSlot:
    """SamPort over a PSAM. Raises SAM_FAIL for every trouble."""

    def __init__(self, slot: CardReader, tid: TidPlace, aid: bytes = b"") -> None:
        self._slot = slot
        self._place = tid
        self._aid = aid
        self._info: SamInfo | None = None
        self._ready = False

    def info(self) -> SamInfo:
        """The terminal number read from the PSAM."""
        self._wake()
        assert self._info is not None, "waking reads the terminal number"
        return self._info

    def mac1(self, ask: Mac1Ask) -> Mac1Answer:
        """70: MAC1 under the PSAM's next serial; it does not tell the MAC2 to expect."""
        self._wake()
        asked = PsamMac1Ask(
            rnd=ask.rnd,
            offseq=ask.offseq,
            fen=ask.fen,
            type=ask.type,
            date=ask.date,
            time=ask.time,
            keyver=ask.keyver,
            alg=ask.alg,
            asn8=ask.asn8,
        )
        response = self._ask(psam_mac1(asked))
        try:
            answer = PsamMac1Answer.decode(self._done(response).body)
        except FrameError as fault:
            self._ready = False
            raise SamError(step="mac1", reason=fault.code) from fault
        return Mac1Answer(answer.termseq, answer.mac1, exp_mac2=None)

    def check_mac2(self, mac2: bytes) -> bool:
        """72: True for 9000, False for 9302. A PSAM woken since its mac1 cannot tell: SAM_FAIL."""
        if not self._ready:
            raise SamError(step="mac2", reason="PSAM session ended")
        response = self._ask(psam_check_mac2(mac2))
        if response.sw == SW.MAC_WRONG:
            return False
        self._done(response)
        return True

    def close(self) -> None:
        """Power the PSAM down."""
        self._ready = False
        self._slot.close()

    def _wake(self) -> None:
        """Power the PSAM if it is not, and read its terminal number."""
        if self._ready:
            return
        try:
            self._slot.close()
            self._slot.open()
            found = self._slot.wait_card(CARD_WAIT_MS)
        except ReaderError as fault:
            raise SamError(step="power", reason=fault.code) from fault
        if found is None:
            raise SamError(step="power", reason="no PSAM in the slot")
        if self._aid:
            self._done(self._ask(select_aid(self._aid)))
        tid = self._done(self._ask(read_binary(self._place.sfi, self._place.offset, TID_LEN))).body
        if len(tid) != TID_LEN:
            raise SamError(step="tid", reason=f"{len(tid)} bytes")
        self._info = SamInfo(tid, development=False, name="psam_slot")
        self._ready = True

    def _ask(self, command: Command) -> Response:
        try:
            return Response.decode(self._slot.transmit(command.encode(), APDU_MS))
        except (ReaderError, FrameError) as fault:
            self._ready = False
            raise SamError(step="transmit", reason=fault.code) from fault

    def _done(self, response: Response) -> Response:
        if not response.ok:
            self._ready = False
            raise SamError(step="answer", reason=describe(response.sw))
        return response
