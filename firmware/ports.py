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


KEY_NAMES = (
    *"0123456789",
    *("00", ".", "ENTER", "CANCEL", "BACK", "VOID", "SHIFT"),
    *("RUN", "END"),  # the two keys of a shower: 开始/暂停 and 结束
)


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


class ValveState(Enum):
    """What the valve's feedback said at the last poll."""

    OPEN = "open"
    SHUT = "shut"
    MOVING = "moving"
    CONTRARY = "contrary"  # both feedbacks at once
    UNKNOWN = "unknown"


class Valve(Protocol):
    """A normally shut valve behind a timed relay; whoever wants water keeps asking for it."""

    def open_for(self, ms: int) -> None:
        """Let water run for at most `ms` from now; asked again in time it runs on."""

    def shut(self) -> None:
        """Shut now, and keep trying until the board has confirmed it."""

    def state(self) -> ValveState:
        """The feedback of the last poll; UNKNOWN while the bus is lost."""


@dataclass(frozen=True, slots=True)
class MeterSample:
    """One reading: `pulses` and `volume_ml` since the driver started, never going back."""

    at_ms: int
    pulses: int
    volume_ml: int
    flow_ml_min: int


class Meter(Protocol):
    """Counts water."""

    def read(self) -> MeterSample | None:
        """The newest sample, None before the first one; does not wait."""


class Polled(Protocol):
    """A bus device that is asked in turn."""

    def poll_every(self, ms: int) -> None:
        """The time from one poll to the next."""

    def poll_now(self) -> None:
        """Poll as soon as the line is free, before the polls in turn."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One poll: new pulses, feedbacks, switches; COUNTER_REBASED or FLOW_IMPOSSIBLE in `fault`."""

    at_ms: int
    pulses: int
    open_fb: bool
    shut_fb: bool
    flow_ml_min: int
    slot: bool
    sensor: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class BusLost:
    """No good reply for `lost_ms` (BUS_LOST), or the port is gone (LINK_LOST)."""

    code: str


@dataclass(frozen=True, slots=True)
class BusOk:
    """The board answers, and its valve was written shut and read back."""


@dataclass(frozen=True, slots=True)
class Tamper:
    """The board's lid was opened (`on`) or shut again."""

    on: bool


BusEvent = Flow | BusLost | BusOk | Tamper


@dataclass(frozen=True, slots=True)
class KeyStuck:
    """KEY_STUCK: this key is held for half a minute and is ignored until it is let go."""

    name: str
