"""The shower's states, what can happen in them, and what the loop may be told to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from firmware.ports import Beep as Tone
from protocols.wire.record import Kind
from terminal.shower.metering import Tariff, consumed_fen, residual_fen


class State(Enum):
    """terminals.md §5.3."""

    IDLE = "idle"
    AUTH = "auth"
    DEBIT = "debit"
    RUN = "run"
    PAUSE = "pause"
    STOPPED = "stopped"
    CLOSING = "closing"
    LEAK = "leak"
    STUCK = "stuck"
    FAULT = "fault"


class Payer(Enum):
    """Who pays: a card in the slot or a reservation code."""

    CARD = "card"
    CODE = "code"


class Timer(Enum):
    """What the one session timer is for."""

    DIGITS = "digits"
    AUTH = "auth"
    DEBIT = "debit"
    PAUSE = "pause"
    STOPPED = "stopped"
    SHUT = "shut"


@dataclass(frozen=True, slots=True)
class Rules:
    """Configured limits (terminals.md §9) with the tariff in force."""

    tariff: Tariff
    first_fen: int = 10
    quantum_fen: int = 20
    low_water_ms: int = 3_000
    no_flow_ms: int = 8_000
    stopped_ms: int = 60_000
    pause_ms: int = 300_000
    end_ms: int = 3_000
    max_session_ms: int = 1_800_000
    max_litres: int = 200
    max_spend_fen: int = 500
    carry_ms: int = 600_000
    max_flow_l_min: int = 30
    drip_pulses: int = 9


@dataclass(frozen=True, slots=True)
class Shower:
    """The whole state of one stall; `rules` are frozen while a session lasts."""

    rules: Rules
    state: State = State.IDLE
    payer: Payer | None = None
    subject: bytes = b""
    entry: str = field(default="", repr=False)
    code: str = field(default="", repr=False)  # what was typed for this session
    card_in: bool = False
    waiting: bool = False  # a card was put in while CLOSING
    paid_fen: int = 0
    pulses: int = 0
    open_ms: int = 0
    metered_mfen: int = 0  # used at the last METER
    metered_ms: int = 0
    allowance_fen: int = 0
    asking: bool = False  # further quanta may be asked
    outstanding: int | None = None
    outstanding_fen: int = 0
    asked_ms: int = 0
    last_id: int = 0
    started_ms: int = 0
    confirmed_ms: int = 0  # open_fb was last seen, or Open was told
    pulse_ms: int = 0
    fast_polls: int = 0
    window_ms: int = 0
    window_pulses: int = 0
    windows: int = 0  # full windows since the valve was shut
    end_until_ms: int = -1
    reason: str = ""
    good_polls: int = 0
    shuts: int = 0
    disk_bad: bool = False
    armed: Timer | None = None

    @property
    def used_mfen(self) -> int:
        """By the totals of the session."""
        return self.rules.tariff.used_mfen(self.pulses, self.open_ms)

    @property
    def residual_fen(self) -> int:
        """Paid and not used."""
        return residual_fen(self.paid_fen, self.used_mfen)

    @property
    def consumed_fen(self) -> int:
        """Paid and used; what ran beyond the payment is not charged."""
        return min(self.paid_fen, consumed_fen(self.used_mfen))


# ---- events


@dataclass(frozen=True, slots=True)
class CardIn:
    """A card was put into the slot."""


@dataclass(frozen=True, slots=True)
class CardOut:
    """The presence poll failed."""


@dataclass(frozen=True, slots=True)
class Digit:
    """0-9."""

    text: str


@dataclass(frozen=True, slots=True)
class KeyRun:
    """开始/暂停."""


@dataclass(frozen=True, slots=True)
class KeyEnd:
    """结束."""


@dataclass(frozen=True, slots=True)
class AuthOk:
    """May wash: what is left here from before, and what a code may still spend."""

    subject: bytes
    residual_fen: int
    allowance_fen: int
    source: int = 0  # the session that left the residual


@dataclass(frozen=True, slots=True)
class AuthNo:
    """May not, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class DebitOk:
    """The debit is proved (a code's QUANTUM is durable)."""

    id: int
    fen: int


@dataclass(frozen=True, slots=True)
class DebitNo:
    """Nothing was debited."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class DebitUnknown:
    """In doubt."""

    id: int


@dataclass(frozen=True, slots=True)
class Flow:
    """One poll of the board: new pulses in `span_ms`, and what the valve says."""

    pulses: int
    span_ms: int
    open_fb: bool
    shut_fb: bool


@dataclass(frozen=True, slots=True)
class BusLost:
    """The board did not answer for lost_ms."""


@dataclass(frozen=True, slots=True)
class BusOk:
    """It answers again."""


@dataclass(frozen=True, slots=True)
class Tamper:
    """The case or the sensor was touched."""


@dataclass(frozen=True, slots=True)
class DiskFault:
    """The journal cannot be written."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """A code was revoked."""

    subject: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    """Staff or a signed command cleared the stall; the shut test passed or not."""

    staff: bytes
    shut_ok: bool


@dataclass(frozen=True, slots=True)
class Due:
    """The session timer ran out."""

    timer: Timer


Event = (
    CardIn
    | CardOut
    | Digit
    | KeyRun
    | KeyEnd
    | AuthOk
    | AuthNo
    | DebitOk
    | DebitNo
    | DebitUnknown
    | Flow
    | BusLost
    | BusOk
    | Tamper
    | DiskFault
    | Revoke
    | Clear
    | Due
)


# ---- actions


@dataclass(frozen=True, slots=True)
class Shut:
    """Shut the valve; always the first action."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open for dead_ms, or renew."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Append and commit. `own` holds facts by name; lease_ms is made an instant by the loop."""

    kind: Kind
    fen: int = 0
    debit: int | None = None
    own: tuple[tuple[str, int | str | bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Authorise:
    """Check the card in the slot, or the nine digits."""

    code: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Debit:
    """Ask the purchase machine, or the code's lease, for a quantum."""

    id: int
    fen: int


@dataclass(frozen=True, slots=True)
class Show:
    """A text by id or an error code, with an amount."""

    text: str
    fen: int | None = None


@dataclass(frozen=True, slots=True)
class Beep:
    """The buzzer."""

    tone: Tone = Tone.ATTENTION


@dataclass(frozen=True, slots=True)
class Arm:
    """Set the session timer, replacing what ran."""

    timer: Timer
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """Stop the session timer."""


Action = Shut | Open | Journal | Authorise | Debit | Show | Beep | Arm | Disarm
Step = tuple[Shower, tuple[Action, ...]]
