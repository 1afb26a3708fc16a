"""The purchase SAM's two commands: MAC1 for a debit, and the check of the card's MAC2.

Spec: card.md §3 PSAM. The PSAM owns termseq and puts its own terminal number into MAC1.
"""

from dataclasses import dataclass
from typing import Self

from protocols.card.apdu import Command
from protocols.card.layout import Layout, cut, uint
from protocols.card.suite import MAC_LEN
from protocols.errors import CardAnswerError
from protocols.money import Fen, fen

CLAUSE = "card.md §3 PSAM"

_MAC1_ASK: Layout = (
    ("rnd", 4),
    ("offseq", 2),
    ("fen", 4),
    ("type", 1),
    ("date", 4),
    ("time", 3),
    ("keyver", 1),
    ("alg", 1),
    ("asn8", 8),
)


@dataclass(frozen=True, slots=True)
class PsamMac1Ask:
    """Body of 70: rnd4 offseq2 amt4 type1 date4 time3 keyver1 alg1 ASN8 (Lc 1C).

    `levels` carries further diversification factors of 8 bytes each (one city: one more, Lc 24).
    """

    rnd: bytes
    offseq: int
    fen: Fen
    type: int
    date: bytes
    time: bytes
    keyver: int
    alg: int
    asn8: bytes
    levels: bytes = b""

    def encode(self) -> bytes:
        """28 bytes, 8 more for each further level."""
        asked = self.rnd + self.offseq.to_bytes(2, "big") + self.fen.to_bytes(4, "big")
        when = bytes((self.type,)) + self.date + self.time
        raw = asked + when + bytes((self.keyver, self.alg)) + self.asn8 + self.levels
        assert len(raw) == 28 + len(self.levels), len(raw)
        assert len(self.levels) % 8 == 0, len(self.levels)
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        if len(raw) > 28 and (len(raw) - 28) % 8:
            raise CardAnswerError(field="levels", offset=28, clause=CLAUSE)
        rnd, seq, amount, kind, date, time, keyver, alg, asn8 = cut(
            raw[:28], _MAC1_ASK, CardAnswerError, CLAUSE
        )
        return cls(
            rnd=rnd,
            offseq=uint(seq),
            fen=fen(uint(amount)),
            type=kind[0],
            date=date,
            time=time,
            keyver=keyver[0],
            alg=alg[0],
            asn8=asn8,
            levels=raw[28:],
        )


@dataclass(frozen=True, slots=True)
class PsamMac1Answer:
    """Answer of 70: termseq4 MAC1(4)."""

    termseq: int
    mac1: bytes

    def encode(self) -> bytes:
        """8 bytes."""
        assert len(self.mac1) == MAC_LEN, self.mac1
        return self.termseq.to_bytes(4, "big") + self.mac1

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        layout = (("termseq", 4), ("mac1", MAC_LEN))
        termseq, mac1 = cut(raw, layout, CardAnswerError, CLAUSE)
        return cls(uint(termseq), mac1)


def psam_mac1(ask: PsamMac1Ask) -> Command:
    """INIT SAM FOR PURCHASE (70): the PSAM takes the next termseq and computes MAC1."""
    return Command(0x80, 0x70, 0x00, 0x00, ask.encode(), le=8)


def psam_check_mac2(mac2: bytes) -> Command:
    """CREDIT SAM FOR PURCHASE (72): 9000 only if the card's MAC2 is right."""
    assert len(mac2) == MAC_LEN, mac2
    return Command(0x80, 0x72, 0x00, 0x00, mac2)
