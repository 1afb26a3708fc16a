"""The till's states, what can happen in them, and what the till may be told to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from firmware.ports import Beep
from terminal.canteen.asks import Hold
from terminal.ledger.replay import LastSale


class State(Enum):
    """terminals.md §6.1; PAUSED is its CLOSED_SHIFT that reopens by itself."""

    CLOSED_SHIFT = "closed_shift"
    PAUSED = "paused"
    IDLE = "idle"
    AMOUNT = "amount"
    ARMED = "armed"
    AUTHORISE = "authorise"
    APPROVED = "approved"
    DECLINED = "declined"
    IN_DOUBT = "in_doubt"
    ASK_SERVED = "ask_served"
    OPERATOR = "operator"
    READING = "reading"
    VOID_ARM = "void_arm"
    FAULT = "fault"


class Mode(Enum):
    """How an amount comes about."""

    AMOUNT = "amount"
    FIXED = "fixed"
    MENU = "menu"


class Purpose(Enum):
    """Why a card is only read."""

    OPEN = "open"
    CLOSE = "close"
    VOID = "void"
    PAYER = "payer"


class Timer(Enum):
    """What the one session timer is for."""

    ARM = "arm"
    MESSAGE = "message"
    DOUBT = "doubt"


@dataclass(frozen=True, slots=True)
class Session:
    """The whole state of the till's conversation; amounts in fen."""

    mode: Mode
    max_fen: int
    fixed_fen: int = 0
    state: State = State.CLOSED_SHIFT
    entry: str = ""  # what was keyed
    fen: int = 0  # ARMED and later: the amount
    hold: Hold | None = None
    asked: bool = False  # the 20 s of this doubt are over
    purpose: Purpose | None = None
    operator: bytes | None = None
    last: LastSale | None = None  # the sale being voided
    after: State = State.IDLE  # where DECLINED fades to
    block: str | None = None  # why nothing is sold


# ---- events: keys


@dataclass(frozen=True, slots=True)
class Digits:
    """0-9 or 00."""

    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    """The decimal point."""


@dataclass(frozen=True, slots=True)
class Back:
    """退格."""


@dataclass(frozen=True, slots=True)
class Enter:
    """确认, and yes."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """取消, and no."""


@dataclass(frozen=True, slots=True)
class Menu:
    """A menu key with the price in force, None if it sells nothing."""

    key: str
    fen: int | None


@dataclass(frozen=True, slots=True)
class VoidKey:
    """撤销, with the sale it would reverse."""

    last: LastSale | None


@dataclass(frozen=True, slots=True)
class ShiftKey:
    """班次."""


# ---- events: cards


@dataclass(frozen=True, slots=True)
class CardHere:
    """A card was put on the reader."""

    uid: bytes


@dataclass(frozen=True, slots=True)
class TapPaid:
    """CAPTURE is durable; announce it."""

    fen: int
    balance_fen: int
    recovered: bool


@dataclass(frozen=True, slots=True)
class TapRefused:
    """`held`: the sale in doubt is still unsettled."""

    code: str
    held: bool


@dataclass(frozen=True, slots=True)
class TapCut:
    """The card went before a DEBIT."""

    code: str
    held: bool


@dataclass(frozen=True, slots=True)
class TapDoubt:
    """A DEBIT is in doubt."""

    intent: int
    asn: bytes


@dataclass(frozen=True, slots=True)
class TapOther:
    """Another card within the 5 s of the one in doubt."""


@dataclass(frozen=True, slots=True)
class TapWithheld:
    """Committed or forged, but no service here."""

    code: str


@dataclass(frozen=True, slots=True)
class CardRead:
    """A card that was only read, with its rights as an operator."""

    asn: bytes
    rights: frozenset[str]


# ---- events: the rest


@dataclass(frozen=True, slots=True)
class Due:
    """The session timer ran out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Block:
    """Nothing may be sold, for this reason."""

    code: str


@dataclass(frozen=True, slots=True)
class Unblock:
    """The reason is gone."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """The journal cannot be written, or the SAM does not fit: no sale until a person acts."""

    code: str


Event = (
    Digits
    | Dot
    | Back
    | Enter
    | Cancel
    | Menu
    | VoidKey
    | ShiftKey
    | CardHere
    | TapPaid
    | TapRefused
    | TapCut
    | TapDoubt
    | TapOther
    | TapWithheld
    | CardRead
    | Due
    | Block
    | Unblock
    | Fatal
)


# ---- actions


@dataclass(frozen=True, slots=True)
class Show:
    """A text by id (terminal.canteen.screen) or an error code, with its numbers."""

    text: str
    fen: int | None = None
    balance_fen: int | None = None
    beep: Beep | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """Set the session timer, replacing what ran."""

    timer: Timer
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """Stop the session timer."""


@dataclass(frozen=True, slots=True)
class StartTap:
    """Begin a purchase with the card on the reader."""

    fen: int
    uid: bytes
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class StartRead:
    """Only read the card on the reader."""


@dataclass(frozen=True, slots=True)
class WriteShift:
    """SHIFT, with totals when it closes."""

    opened: bool
    operator: bytes


@dataclass(frozen=True, slots=True)
class WriteAbandon:
    """ABANDON: no service was given; the money, if it was debited, is the holder's."""

    intent: int


@dataclass(frozen=True, slots=True)
class WriteServed:
    """已出餐: the sale in doubt is the merchant's."""

    intent: int


@dataclass(frozen=True, slots=True)
class WriteReversal:
    """REVERSAL of a sale."""

    sale: LastSale
    operator: bytes


Write = WriteShift | WriteAbandon | WriteServed | WriteReversal
Action = Show | Arm | Disarm | StartTap | StartRead | Write
Step = tuple[Session, tuple[Action, ...]]
