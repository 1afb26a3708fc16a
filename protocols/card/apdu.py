"""Short APDUs and status words: the whole seam between a card and anything that talks to it.

Spec: ISO/IEC 7816-4 cases 1 to 4, short lengths only; status words of card.md §2.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from protocols.errors import ApduError

CLAUSE_COMMAND = "ISO 7816-4 §5.1"
CLAUSE_RESPONSE = "ISO 7816-4 §5.3"
RESPONSE_LEN_MAX = 258


@dataclass(frozen=True, slots=True)
class Command:
    """CLA INS P1 P2 [Lc body] [Le]; `le` is 1..256 (256 is written 00), None when absent."""

    cla: int
    ins: int
    p1: int
    p2: int
    body: bytes = b""
    le: int | None = None

    def __post_init__(self) -> None:
        header = (self.cla, self.ins, self.p1, self.p2)
        assert all(0 <= octet <= 0xFF for octet in header), header
        assert len(self.body) <= 0xFF, len(self.body)
        assert self.le is None or 1 <= self.le <= 256, self.le

    @property
    def header(self) -> bytes:
        """The four bytes CLA INS P1 P2."""
        return bytes((self.cla, self.ins, self.p1, self.p2))

    def encode(self) -> bytes:
        """The command's bytes."""
        lc_and_body = bytes((len(self.body),)) + self.body if self.body else b""
        le = b"" if self.le is None else bytes((self.le & 0xFF,))
        return self.header + lc_and_body + le

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read one command; raises ApduError (CARD_APDU). Extended lengths are refused."""
        if len(raw) < 4:
            raise ApduError(field="header", offset=len(raw), clause=CLAUSE_COMMAND)
        cla, ins, p1, p2 = raw[:4]
        if len(raw) == 4:
            return cls(cla, ins, p1, p2)
        if len(raw) == 5:
            return cls(cla, ins, p1, p2, le=raw[4] or 256)
        lc = raw[4]
        if lc == 0:
            raise ApduError(field="lc", offset=4, clause=CLAUSE_COMMAND)
        if len(raw) < 5 + lc:
            raise ApduError(field="body", offset=len(raw), clause=CLAUSE_COMMAND)
        if len(raw) > 6 + lc:
            raise ApduError(field="trailing", offset=6 + lc, clause=CLAUSE_COMMAND)
        le = (raw[-1] or 256) if len(raw) == 6 + lc else None
        return cls(cla, ins, p1, p2, raw[5 : 5 + lc], le)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: body and the two status bytes as one number."""

    body: bytes
    sw: int

    def __post_init__(self) -> None:
        assert len(self.body) <= RESPONSE_LEN_MAX - 2, len(self.body)
        assert 0 <= self.sw <= 0xFFFF, self.sw

    @property
    def ok(self) -> bool:
        """True for 9000 only."""
        return self.sw == SW.DONE

    def encode(self) -> bytes:
        """The answer's bytes."""
        return self.body + self.sw.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read one answer of 2 to 258 bytes; raises ApduError (CARD_APDU)."""
        if len(raw) < 2:
            raise ApduError(field="sw", offset=len(raw), clause=CLAUSE_RESPONSE)
        if len(raw) > RESPONSE_LEN_MAX:
            raise ApduError(field="body", offset=RESPONSE_LEN_MAX, clause=CLAUSE_RESPONSE)
        return cls(raw[:-2], int.from_bytes(raw[-2:], "big"))


class SW(IntEnum):
    """Status words with a meaning to us (card.md §2)."""

    DONE = 0x9000
    MEMORY_FAILED = 0x6581
    LENGTH = 0x6700
    NOT_ACCEPTED = 0x6901
    SECURITY_STATE = 0x6982
    AUTH_BLOCKED = 0x6983
    CONDITIONS = 0x6985
    SM_MISSING = 0x6987
    SM_WRONG = 0x6988
    NOT_SUPPORTED = 0x6A81
    FILE_NOT_FOUND = 0x6A82
    RECORD_NOT_FOUND = 0x6A83
    PARAMETERS = 0x6A86
    INS_UNKNOWN = 0x6D00
    CLA_UNKNOWN = 0x6E00
    MAC_WRONG = 0x9302
    LOCKED_FOR_GOOD = 0x9303
    INSUFFICIENT = 0x9401
    COUNTER_MAX = 0x9402
    KEY_INDEX = 0x9403
    NO_PROOF = 0x9406


_MEANINGS = {
    SW.DONE: "done",
    SW.MEMORY_FAILED: "EEPROM write failed",
    SW.LENGTH: "wrong length",
    SW.NOT_ACCEPTED: "not accepted in this state",
    SW.SECURITY_STATE: "security state not satisfied",
    SW.AUTH_BLOCKED: "authentication blocked",
    SW.CONDITIONS: "conditions not satisfied",
    SW.SM_MISSING: "secure messaging item missing",
    SW.SM_WRONG: "secure messaging item wrong",
    SW.NOT_SUPPORTED: "not supported, or card or application blocked",
    SW.FILE_NOT_FOUND: "file not found",
    SW.RECORD_NOT_FOUND: "record not found",
    SW.PARAMETERS: "wrong P1 P2",
    SW.INS_UNKNOWN: "instruction not supported",
    SW.CLA_UNKNOWN: "class not supported",
    SW.MAC_WRONG: "MAC wrong",
    SW.LOCKED_FOR_GOOD: "application locked for good",
    SW.INSUFFICIENT: "insufficient purse",
    SW.COUNTER_MAX: "counter at maximum",
    SW.KEY_INDEX: "key index not supported",
    SW.NO_PROOF: "MAC not available",
}


def tries_left(sw: int) -> int | None:
    """x of 63Cx, None for every other status word."""
    return sw & 0xF if sw & 0xFFF0 == 0x63C0 else None


def describe(sw: int) -> str:
    """One status word in words, e.g. `SW=0x6985 (conditions not satisfied)`."""
    tries = tries_left(sw)
    if tries is not None:
        meaning = f"{tries} tries left"
    elif sw >> 8 == 0x61:
        meaning = f"{sw & 0xFF} more bytes waiting"
    elif sw >> 8 == 0x6C:
        meaning = f"wrong Le, {sw & 0xFF} expected"
    elif sw in _MEANINGS:
        meaning = _MEANINGS[SW(sw)]
    else:
        meaning = "unknown"
    return f"SW=0x{sw:04X} ({meaning})"
