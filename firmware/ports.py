"""What the board offers to a session: small ports, and the events that drivers post.

Readers are blocking and live in one worker thread (card_worker); a reader may repeat blocks on
its wire, never an APDU (card.md §1 rule 3). Every port has at most six methods (style.md §7).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from firmware.errors import UNSENT_CODES
from protocols.money import Fen


@dataclass(frozen=True, slots=True)
class CardSession:
    """A card that answered: UID and ATS or ATR are never identity (card.md §1 rule 7)."""

    uid: bytes
    ats: bytes
    kind: str


class CardReader(Protocol):
    """One card slot. Raises the errors of firmware.errors; see there which mean *unknown*."""

    def open(self) -> None:
        """Claim the device. Raises READER_DOWN."""

    def close(self) -> None:
        """Release card and device; never raises a world error."""

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        """The card in the field, powered and ready, or None after the time. READER_DOWN."""

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        """Send one APDU once; body and status word as the card gave them."""

    def present(self) -> bool:
        """Whether the card of the last wait_card still answers; moves no card state."""

    def reset(self) -> None:
        """Cold start for the card: release and field off 10 ms, or warm reset. CARD_GONE."""


@dataclass(frozen=True, slots=True)
class SamInfo:
    """The SAM's terminal number (6 bytes) and whether it holds development keys."""

    tid: bytes
    development: bool
    name: str


@dataclass(frozen=True, slots=True)
class Mac1Ask:
    """What the SAM needs for MAC1: the card's INIT answer and the debit's fields (card.md §3)."""

    asn8: bytes
    rnd: bytes
    offseq: int
    fen: Fen
    type: int
    date: bytes
    time: bytes
    keyver: int
    alg: int


@dataclass(frozen=True, slots=True)
class Mac1Answer:
    """MAC1 with its terminal serial; the software SAM also tells the MAC2 to expect."""

    termseq: int
    mac1: bytes
    exp_mac2: bytes | None


class SamPort(Protocol):
    """The secure module with the purchase keys. Raises SAM_FAIL."""

    def info(self) -> SamInfo:
        """Terminal number and nature of the SAM."""

    def mac1(self, ask: Mac1Ask) -> Mac1Answer:
        """MAC1 under the next terminal serial, which is never used again."""

    def check_mac2(self, mac2: bytes) -> bool:
        """Whether the MAC2 belongs to the last mac1 of this session."""


class Beep(Enum):
    """What the buzzer says."""

    PAID = "paid"
    REFUSED = "refused"
    ATTENTION = "attention"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Screen:
    """Lines for the cashier, lines for the customer, and a sound."""

    operator: tuple[str, ...]
    customer: tuple[str, ...]
    beep: Beep | None = None


class Display(Protocol):
    """Operator display, customer display and buzzer as one output."""

    def show(self, screen: Screen) -> None:
        """Replace both pictures, then sound the buzzer."""


KEY_NAMES = (*"0123456789", "00", ".", "ENTER", "CANCEL", "BACK", "VOID", "SHIFT")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the keypad, by its name in KEY_NAMES."""

    name: str


@dataclass(frozen=True, slots=True)
class KeypadLost:
    """The keypad's stream ended; cards go on (terminals.md T9)."""


@dataclass(frozen=True, slots=True)
class CardIn:
    """A card was activated."""

    uid: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class CardOut:
    """The card went away while no exchange was running."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The card's whole answer to the APDU sent under `token`; empty raw for a reset."""

    token: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Trouble:
    """The request under `token` failed with this error code."""

    token: int
    code: str

    @property
    def sent(self) -> bool:
        """True if the APDU may have reached the card: then its outcome is unknown."""
        return self.code not in UNSENT_CODES


@dataclass(frozen=True, slots=True)
class ReaderState:
    """The reader works (code None) or is out of order with this code."""

    code: str | None


Event = Key | KeypadLost | CardIn | CardOut | Reply | Trouble | ReaderState


class CardIo(Protocol):
    """How the loop asks for card work; the outcome arrives as Reply or Trouble with the token."""

    def transmit(self, token: int, apdu: bytes, deadline_ms: int) -> None:
        """Ask for one APDU."""

    def reset(self, token: int) -> None:
        """Ask for a cold start of the card."""
