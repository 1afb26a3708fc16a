"""What the card pipeline asks of the world, what it is told, and how it may end.

The pipeline is a generator: it yields an Ask and is sent an Answer. It touches no port, so the till,
the simulator and a test drive the same code.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from firmware.ports import Mac1Answer, Mac1Ask
from protocols.card.card_profile import CardProfile
from protocols.wire.record import Kind
from terminal.ledger.replay import State

APDU_MS = 1_000
MONEY_MS = 2_000


# ---- asks


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send one APDU once. `money`: after this, silence means in doubt."""

    apdu: bytes
    deadline_ms: int = APDU_MS
    money: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """Cold start of the card."""


@dataclass(frozen=True, slots=True)
class AskSam:
    """MAC1 and the next terminal serial."""

    ask: Mac1Ask


@dataclass(frozen=True, slots=True)
class CheckMac2:
    """Does this MAC2 belong to the last MAC1?"""

    mac2: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Write one record; the answer comes after it is durable."""

    kind: Kind
    ref: int | None = None
    inst: bytes | None = None
    ctr: int | None = None
    fen: int = 0
    own: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Serve:
    """Announce the sale: beep, screen, receipt. CAPTURE stands before it."""

    asn: bytes
    fen: int
    purse_after: int
    recovered: bool


Ask = Transmit | Reset | AskSam | CheckMac2 | Append | Serve


# ---- answers


@dataclass(frozen=True, slots=True)
class CardReply:
    """What the card answered; empty after a reset."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class CardTrouble:
    """No answer; `sent` says whether the card may have received the APDU."""

    code: str
    sent: bool


@dataclass(frozen=True, slots=True)
class SamTrouble:
    """The SAM does not answer or refuses."""

    code: str


@dataclass(frozen=True, slots=True)
class Appended:
    """The record is durable under this seq."""

    seq: int


@dataclass(frozen=True, slots=True)
class Served:
    """The announcement was made."""


Answer = CardReply | CardTrouble | Mac1Answer | SamTrouble | bool | Appended | Served | None


# ---- outcomes


@dataclass(frozen=True, slots=True)
class Paid:
    """CAPTURE is durable and the sale was announced."""

    asn: bytes
    fen: int
    purse_after: int
    capture: int
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was debited by this tap; `code` says why."""

    code: str
    asn: bytes | None = None
    sw: int | None = None


@dataclass(frozen=True, slots=True)
class CutOff:
    """The card went before a DEBIT was handed over; nothing is in doubt by this tap."""

    code: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A DEBIT was handed over and its outcome is not known; DOUBT is durable."""

    intent: int
    asn: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class OtherCard:
    """Another card while the one in doubt still has its 5 s."""

    asn: bytes


@dataclass(frozen=True, slots=True)
class Withheld:
    """The debit is in the books, but it buys nothing here: to the card office."""

    code: str
    asn: bytes


@dataclass(frozen=True, slots=True)
class Identified:
    """A card that was only read."""

    asn: bytes


Outcome = Paid | Refused | CutOff | InDoubt | OtherCard | Withheld | Identified
Tap = Generator[Ask, Answer, Outcome]


# ---- order and facts


@dataclass(frozen=True, slots=True)
class Hold:
    """The sale in doubt in front of the cashier: its INTENT, its card, since when."""

    intent: int
    asn: bytes
    fen: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Order:
    """One sale asked of a card. `sale`: [id, mode, digest, lines, tariff version] of INTENT."""

    fen: int
    sale: tuple[Any, ...]
    uid: bytes = b""
    hold: Hold | None = None


class Facts(Protocol):
    """What the pipeline reads from the till; every call gives the value of now."""

    profile: CardProfile
    record_only_fen_max: int

    @property
    def sam_known(self) -> bool:
        """Whether the SAM has told its terminal number; without it no INITIALIZE can be made."""

    @property
    def tid(self) -> bytes:
        """The SAM's terminal number."""

    @property
    def state(self) -> State:
        """What the journal says."""

    def wall_us(self) -> int:
        """Wall time for stamps: never behind the journal."""

    def now_ms(self) -> int:
        """Monotonic time for durations."""

    def blocked(self, asn: bytes) -> bool:
        """Whether the denylist in force now names this card."""

    def just_paid(self, asn: bytes) -> bool:
        """Whether this card paid here within the cool-down."""

    def sale_refusal(self, asn: bytes, fen: int) -> str | None:
        """The code by which policy refuses this sale, or None."""
