"""A strict PSAM: purchase keys only, its own terminal number and serial, no command that outputs keys.

Same shape as SimCard (`power_on`, `power_off`, `exchange`), so it sits behind the same vpcd.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.card.card_profile import PsamProfile
from protocols.card.suite import Pboc3Des, Suite, purchase_mac1_message, same_mac
from protocols.money import Fen
from sim.errors import CardTornError

MAC2_TRIES = 10
ATR = bytes.fromhex("3B80800101")
TERMSEQ_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Owed:
    """A MAC1 given out whose MAC2 may be checked once."""

    mac2: bytes


class SimPsam:
    """One PSAM; serial and try counter survive power_off."""

    def __init__(
        self,
        mpk: bytes,
        tid: bytes,
        *,
        termseq: int = 0,
        profile: PsamProfile | None = None,
        suite: Suite | None = None,
    ) -> None:
        assert len(tid) == 6, tid
        self.atr = ATR
        self.uid = self.ats = b""  # a contact card has neither
        self.tid = tid
        self.termseq = termseq
        self.tries = MAC2_TRIES
        self._mpk = mpk
        self._profile = profile or PsamProfile()
        self._suite: Suite = suite or Pboc3Des()
        self._owed: _Owed | None = None
        self._powered = False

    def power_on(self) -> bytes:
        """Activate; an open session is gone."""
        self._powered = True
        self._owed = None
        return self.atr

    def power_off(self) -> None:
        """Lose the session."""
        self._powered = False
        self._owed = None

    def exchange(self, apdu: bytes) -> bytes:
        """One APDU. Raises CardTornError without power."""
        if not self._powered:
            raise CardTornError(at="no-power")
        return self._answer(apdu)

    def _answer(self, apdu: bytes) -> bytes:
        commands = {(0x80, 0x70): self._mac1, (0x80, 0x72): self._mac2, (0x00, 0xB0): self._read}
        if len(apdu) < 5:
            return b"\x67\x00"
        found = commands.get((apdu[0], apdu[1]))
        if found is None:
            return b"\x6d\x00" if apdu[0] in (0x00, 0x80) else b"\x6e\x00"
        return found(apdu)

    def _read(self, apdu: bytes) -> bytes:
        file = bytes(self._profile.tid_offset) + self.tid
        if len(apdu) != 5:
            return b"\x67\x00"
        if apdu[2] != 0x80 | self._profile.tid_file:
            return b"\x6a\x82"
        rest = file[apdu[3] :]
        if not rest:
            return b"\x6b\x00"
        if apdu[4] > len(rest):
            return bytes((0x6C, len(rest)))
        return rest[: apdu[4] or len(rest)] + b"\x90\x00"

    def _mac1(self, apdu: bytes) -> bytes:
        self._owed = None
        lc = 0x1C + 8 * (self._profile.levels - 1)
        if apdu[2:4] != b"\0\0":
            return b"\x6a\x86"
        if (
            apdu[4] != lc
            or len(apdu) not in (5 + lc, 6 + lc)
            or apdu[5 + lc :] not in (b"", b"\x08")
        ):
            return b"\x67\x00"
        if self.tries == 0:
            return b"\x69\x83"
        if self.termseq >= TERMSEQ_MAX:
            return b"\x94\x02"
        body = apdu[5 : 5 + lc]
        self.termseq += 1
        return self._compute(body)

    def _compute(self, body: bytes) -> bytes:
        rnd, offseq = body[:4], int.from_bytes(body[4:6], "big")
        fen, kind = Fen(int.from_bytes(body[6:10], "big")), body[10]
        date, time = body[11:15], body[15:18]
        dpk = self._mpk
        for start in reversed(range(20, len(body), 8)):  # the farthest level first
            dpk = self._suite.diversify(dpk, body[start : start + 8])
        ses = self._suite.purchase_session(dpk, rnd, offseq, self.termseq)
        message = purchase_mac1_message(fen, kind, self.tid, date, time)
        self._owed = _Owed(self._suite.mac2_purchase(ses, fen))
        mac1 = self._suite.mac1_purchase(ses, message)
        return self.termseq.to_bytes(4, "big") + mac1 + b"\x90\x00"

    def _mac2(self, apdu: bytes) -> bytes:
        owed, self._owed = self._owed, None
        if owed is None:
            return b"\x69\x85"
        if apdu[2:5] != b"\0\0\x04" or len(apdu) != 9:
            return b"\x67\x00"
        if not same_mac(owed.mac2, apdu[5:]):
            self.tries -= 1
            return b"\x93\x02" if self.tries else b"\x69\x83"
        self.tries = MAC2_TRIES
        return b"\x90\x00"
