"""Typed errors of the protocols: data for the caller, prose only at the edge.

Each class has a stable `code`, unique in the product and never renamed (style.md §8).
"""

from __future__ import annotations

from typing import ClassVar

Fact = int | str | bytes | None


class OnecardError(Exception):
    """Base of every world error of the product: a stable code and facts, no prose."""

    code: ClassVar[str] = "ONECARD"

    def __init__(self, **facts: Fact) -> None:
        self.facts = facts
        super().__init__(facts)

    def __str__(self) -> str:
        shown = (f"{k}={v.hex() if isinstance(v, bytes) else v}" for k, v in self.facts.items())
        return " ".join([self.code, *shown])

    def as_json(self) -> dict[str, int | str | None]:
        """The error as one JSON-ready object; bytes become hex."""
        shown = {k: v.hex() if isinstance(v, bytes) else v for k, v in self.facts.items()}
        return {"code": self.code, **shown}


class MoneyTypeError(OnecardError):
    """An amount that is not an integer (bool and float included)."""

    code = "MONEY_TYPE"


class MoneyRangeError(OnecardError):
    """An amount outside the range of a record or of a balance."""

    code = "MONEY_RANGE"


class MoneyTextError(OnecardError):
    """A text that is not an amount in yuan with at most two decimals."""

    code = "MONEY_TEXT"


class FrameError(OnecardError):
    """Bytes that are not what they should be: field, offset, clause."""

    code = "FRAME_BAD"


class BcdError(FrameError):
    """A nibble above 9 or an odd number of digits."""

    code = "BCD"


class RecordError(FrameError):
    """A journal record that does not decode (ledger.md §3.3)."""

    code = "WIRE_RECORD"


class WireFormError(FrameError):
    """A message that is not deterministic CBOR of the shape in wire.cddl."""

    code = "WIRE_FORM"


class SignatureError(FrameError):
    """A COSE_Sign1 whose key is unknown or whose signature is wrong."""

    code = "WIRE_SIG"


class TopicError(FrameError):
    """A topic outside sync.md §4, or a name outside sync.md §2."""

    code = "WIRE_TOPIC"


class ListError(FrameError):
    """A list head, part or delta that does not fit (sync.md §7)."""

    code = "WIRE_LIST"


class ApduError(FrameError):
    """A command or an answer that is not a short APDU; an answer outside 2..258 bytes."""

    code = "CARD_APDU"


class CardAnswerError(FrameError):
    """The body of a purse or PSAM command or answer that does not have its fixed layout."""

    code = "CARD_ANSWER"


class CardFileError(FrameError):
    """An FCI or 0015 that does not have the layout of the profile: no card of ours."""

    code = "CARD_FILE"


class CardRecordError(FrameError):
    """A 0018 record that is not 23 bytes."""

    code = "CARD_RECORD"


class ProfileKeyError(OnecardError):
    """A card profile with a key that nothing reads."""

    code = "PROFILE_UNKNOWN_KEY"


class ProfileValueError(OnecardError):
    """A card profile that is not TOML, or a value of wrong type or outside its range."""

    code = "PROFILE_VALUE"


class Pn532FrameError(FrameError):
    """Bytes that are not one PN532 frame."""

    code = "PN532_FRAME"


class Pn532AnswerError(FrameError):
    """A PN532 answer to another command, or with another layout than its manual's."""

    code = "PN532_ANSWER"


class KatFormError(OnecardError):
    """A known-answer file of neither format, or a member's field that cannot be read."""

    code = "KAT_FORM"


class DecodeKindError(OnecardError):
    """A kind of bytes that `decode` does not know."""

    code = "DECODE_KIND"


class BusFrameError(FrameError):
    """A bus frame that is none: field, offset, clause (Modbus, CJ/T 188, DL/T 645)."""

    code = "BUS_FRAME"


class ModbusExceptionError(BusFrameError):
    """The board answered with a Modbus exception: function, exception."""

    code = "MODBUS_EXCEPTION"


class CodeError(OnecardError):
    """Base of what a keyed reservation code can be refused for (codes.md §2.5)."""

    code = "RESV"


class CodeLengthError(CodeError):
    """Not nine digits: no guess."""

    code = "RESV_LENGTH"


class CodeTypoError(CodeError):
    """The check digit does not fit: a typing fault, no guess."""

    code = "RESV_TYPO"


class LeaseError(CodeError):
    """The lease is not in a state for this: reason."""

    code = "LEASE_STATE"


class LeaseForgedError(CodeError):
    """A grant for another stall or another epoch, or not signed by a stall of this bathhouse."""

    code = "LEASE_FORGED"
