"""The terminal's side of the sync protocol, pure (sync.md §5): when to say hello, what to send, whom
to believe.

No socket, no clock, no storage: every method takes `now_ms` (monotonic) and returns actions for the
daemon, in order. The journal is seen through `JournalView`. Messages given to `received` are already
verified against the centre's pinned keys.

Rule: only an acknowledgement that carries our own hash moves `acked`; a PUBACK means nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from firmware.base.rng import Rng
from protocols.wire import SEGMENT_RECORDS_MAX
from protocols.wire.chain import ZERO_HASH, Position
from protocols.wire.messages import Ack, Down, Grant, Halt, Need, Reject, Welcome

HELLO_EVERY_MS = 600_000
HELLO_ANSWER_MS, HELLO_ANSWER_MAX_MS = 10_000, 300_000  # doubles while nobody answers
ACK_AFTER_PUBACK_MS = 10_000
ACK_AFTER_SEND_MS = 30_000
RETRY_HOLD_MS = 3_600_000
CREDIT_DEFAULT, CREDIT_MAX = 4, 16
FLUSH_DEFAULT_MS, FLUSH_MAX_MS = 2_000, 30_000
BACKOFF_MAX_MS = 300_000
STABLE_MS = 60_000
REFUSALS_BEFORE_STATUS = 5
SPREAD_DEFAULT_S = 30
BRANCH_SEGMENTS_MAX = 16  # of a forked journal; more stays in its volumes


class Phase(Enum):
    """Where the protocol stands."""

    OFFLINE = "offline"
    HELLO = "hello"
    STREAM = "stream"
    HOLD = "hold"
    FORKED = "forked"
    REVOKED = "revoked"


class JournalView(Protocol):
    """What the core may know of the journal; read-only."""

    def tip(self) -> Position:
        """The last record of the newest epoch; seq 0 with h(0) when it is empty."""

    def hash_at(self, seq: int) -> bytes | None:
        """h(seq) in the newest epoch; h(0) for 0; None when that volume is gone."""

    def fit(self, first: int, last: int) -> int:
        """The last seq <= last such that first..it fits one segment; at least `first`."""


@dataclass(frozen=True, slots=True)
class SendHello:
    """Publish a hello; its t1 must be told to `hello_sent`."""


@dataclass(frozen=True, slots=True)
class SendSegment:
    """Publish records first..last as one signed segment."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Store the message being handled, as received, under this name; durable before going on."""

    name: str


@dataclass(frozen=True, slots=True)
class KeepDseq:
    """Store the highest dseq seen."""

    dseq: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must see."""

    code: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect again after a delay."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class AskStatus:
    """POST /status: five refusals in a row, perhaps revoked."""


Action = SendHello | SendSegment | Keep | KeepDseq | Alarm | Dial | AskStatus


@dataclass(slots=True)
class _Flight:
    last: int
    sent_ms: int
    puback_ms: int | None = None


class SyncCore:
    """One lane's uplink: `acked` only follows signed positions that match our own chain."""

    def __init__(
        self,
        view: JournalView,
        rng: Rng,
        acked: Position,
        dseq: int = 0,
        spread_s: int = SPREAD_DEFAULT_S,
    ) -> None:
        self.phase = Phase.OFFLINE
        self.acked = acked
        self.dseq = dseq
        self.credit = CREDIT_DEFAULT
        self.flush_ms = FLUSH_DEFAULT_MS
        self.spread_s = spread_s
        self.fork_code: str | None = None
        self._theirs: Position | None = None  # the centre's position that is not ours
        self._view = view
        self._rng = rng
        self._cursor = acked.seq + 1
        self._flights: deque[_Flight] = deque()
        self._unsent_since_ms: int | None = None
        self._hello_t1_us: int | None = None
        self._hello_due_ms: int | None = None
        self._connected_ms: int | None = None
        self._tries = 0
        self._refusals = 0
        self._unanswered = 0  # hellos since the last welcome

    # --- link ---------------------------------------------------------------------------------

    def start(self) -> list[Action]:
        """First connect after boot: spread, so that a power cut does not end in a stampede."""
        return [Dial(self._rng.uniform_ms(0, self.spread_s * 1000))]

    def connected(self, now_ms: int) -> list[Action]:
        """The broker accepted us: say hello; no segment before welcome."""
        self._connected_ms = now_ms
        self._refusals = self._unanswered = 0
        self._flights.clear()
        if self.phase not in (Phase.FORKED, Phase.REVOKED):
            self.phase = Phase.HELLO
        return self._hello(now_ms)

    def disconnected(self, now_ms: int, *, refused: bool = False) -> list[Action]:
        """The link fell or was refused: back off with full jitter."""
        if self._connected_ms is not None and now_ms - self._connected_ms >= STABLE_MS:
            self._tries = 0
        self._connected_ms = None
        self._hello_due_ms = self._hello_t1_us = None
        self._flights.clear()
        if self.phase not in (Phase.FORKED, Phase.REVOKED):
            self.phase = Phase.OFFLINE
        ceiling_ms = min(BACKOFF_MAX_MS, 1000 * 2 ** min(self._tries, 20))
        self._tries += 1
        actions: list[Action] = [Dial(self._rng.uniform_ms(0, ceiling_ms))]
        self._refusals += refused  # paho tells a refused session twice: refused, then lost
        if self._refusals == REFUSALS_BEFORE_STATUS:
            self._refusals = 0
            actions.append(AskStatus())
        return actions

    def positions(self) -> tuple[Position, Position]:
        """(tip, acked) of a hello; while FORKED our own and the centre's that contradict it.

        An acked position above the tip, or another hash at one place, proves the second journal.
        """
        tip, theirs = self._view.tip(), self._theirs
        if self.phase is not Phase.FORKED or theirs is None or theirs.epoch != tip.epoch:
            return tip, self.acked
        own = self._view.hash_at(theirs.seq) if theirs.seq <= tip.seq else None
        return (tip if own is None else Position(tip.epoch, theirs.seq, own)), theirs

    def hello_sent(self, t1_us: int) -> None:
        """The daemon stamped the hello: only a welcome with this t1 counts."""
        self._hello_t1_us = t1_us

    def puback(self, last: int, now_ms: int) -> list[Action]:
        """The broker has the segment ending at `last`; starts a time-out and nothing else."""
        for flight in self._flights:
            if flight.last == last:
                flight.puback_ms = now_ms
        return []

    # --- journal ------------------------------------------------------------------------------

    def appended(self, now_ms: int) -> list[Action]:
        """The journal may have grown, or a new epoch begun."""
        tip = self._view.tip()
        if tip.epoch != self.acked.epoch:
            return self._new_epoch(tip, now_ms)
        if self._unsent_since_ms is None and tip.seq >= self._cursor:
            self._unsent_since_ms = now_ms
        return self._pump(now_ms)

    def _new_epoch(self, tip: Position, now_ms: int) -> list[Action]:
        h0 = self._view.hash_at(0)  # None: pruned, and our notebook lost; the welcome tells
        self.acked = Position(tip.epoch, 0, h0 or ZERO_HASH)
        self._rewind(1, now_ms)
        self.fork_code = None
        if self._connected_ms is None:
            self.phase = Phase.OFFLINE
            return []
        self.phase = Phase.HELLO
        return self._hello(now_ms)

    # --- messages -----------------------------------------------------------------------------

    def received(self, message: Down, now_ms: int) -> list[Action]:
        """A verified message of the centre."""
        match message:
            case Welcome():
                return self._welcome(message, now_ms)
            case Ack():
                return self._ack(message, now_ms)
            case Need() | Reject() | Grant() | Halt():
                return self._numbered(message, now_ms)
            case _:
                return []  # lists, commands and answers are the daemon's

    def _welcome(self, message: Welcome, now_ms: int) -> list[Action]:
        if self._hello_t1_us is None or message.t1_us != self._hello_t1_us:
            return []  # a replayed welcome
        if message.pos.epoch != self._view.tip().epoch:
            return []  # the grant of that epoch follows or was replayed
        self._hello_t1_us = None
        self._unanswered = 0
        fault = self._fault(message.pos)
        if fault is not None:
            return [Keep("welcome"), *self._fork(fault, message.pos, now_ms)]
        self.acked = message.pos
        self.credit = min(max(message.credit, 1), CREDIT_MAX)
        self.flush_ms = min(message.flush_ms, FLUSH_MAX_MS)
        self.spread_s = message.spread_s
        self.phase = Phase.STREAM
        self.fork_code = None
        self._hello_due_ms = now_ms + HELLO_EVERY_MS
        self._rewind(message.pos.seq + 1, now_ms)
        return [Keep("welcome"), *self._pump(now_ms)]

    def _ack(self, message: Ack, now_ms: int) -> list[Action]:
        if message.epoch != self.acked.epoch or self.phase is Phase.FORKED:
            return []
        pos = Position(message.epoch, message.seq, message.hash)
        if pos.seq <= self.acked.seq and self._view.hash_at(pos.seq) in (pos.hash, None):
            return []
        fault = self._fault(pos)
        if fault is not None:
            return [Keep("ack"), *self._fork(fault, pos, now_ms)]
        self.acked = pos
        self.credit = min(max(message.credit, 1), CREDIT_MAX)
        while self._flights and self._flights[0].last <= pos.seq:
            self._flights.popleft()
        self._cursor = max(self._cursor, pos.seq + 1)
        if self.phase is Phase.HOLD:
            self.phase = Phase.STREAM
        return [Keep("ack"), *self._pump(now_ms)]

    def _fault(self, pos: Position) -> str | None:
        """Why a position of the centre cannot be ours, or None (ledger.md §3.2)."""
        if pos.seq > self._view.tip().seq:
            return "JOURNAL_ROLLBACK"
        if self._view.hash_at(pos.seq) != pos.hash:
            return "JOURNAL_FORK"
        return None

    def _numbered(self, message: Need | Reject | Grant | Halt, now_ms: int) -> list[Action]:
        if message.dseq <= self.dseq:
            return []  # replayed
        self.dseq = message.dseq
        return [KeepDseq(message.dseq), *self._obey(message, now_ms)]

    def _obey(self, message: Need | Reject | Grant | Halt, now_ms: int) -> list[Action]:
        if isinstance(message, Grant):
            return [Keep("grant")] if message.epoch > self.acked.epoch else []
        if message.epoch != self.acked.epoch:
            return []
        if isinstance(message, Halt):
            return [Keep("halt"), Alarm(message.code)]
        if isinstance(message, Reject):
            if message.first <= self.acked.seq:
                return []
            self.phase = Phase.HOLD
            self._flights.clear()
            self._hello_due_ms = now_ms + RETRY_HOLD_MS
            return [Keep("reject"), Alarm(message.code)]
        theirs = Position(message.epoch, max(message.start - 1, 0), message.prev)
        ours = 1 <= message.start <= self._view.tip().seq + 1
        if not ours or self._view.hash_at(message.start - 1) != message.prev:
            return self._fork("JOURNAL_FORK", theirs, now_ms)
        self._rewind(message.start, now_ms)
        return self._pump(now_ms)

    # --- time ---------------------------------------------------------------------------------

    def timer(self, now_ms: int) -> list[Action]:
        """Whatever is due by now; call at `deadline_ms` or later."""
        if self._connected_ms is None:
            return []
        if self._hello_due_ms is not None and now_ms >= self._hello_due_ms:
            return self._hello(now_ms)
        if self.phase is Phase.STREAM and self._flights and now_ms >= self._ack_due_ms():
            self._flights.clear()  # the welcome says where to go on
            self._cursor = self.acked.seq + 1
            self.phase = Phase.HELLO
            return self._hello(now_ms)
        return self._pump(now_ms)

    def deadline_ms(self) -> int | None:
        """When `timer` wants to be called next; None: not before the next event."""
        if self._connected_ms is None:
            return None
        due = [] if self._hello_due_ms is None else [self._hello_due_ms]
        if self.phase is Phase.STREAM:
            if self._flights:
                due.append(self._ack_due_ms())
            if self._unsent_since_ms is not None and len(self._flights) < self.credit:
                due.append(self._unsent_since_ms + self.flush_ms)
        return min(due, default=None)

    def _ack_due_ms(self) -> int:
        first = self._flights[0]
        if first.puback_ms is None:
            return first.sent_ms + ACK_AFTER_SEND_MS
        return min(first.sent_ms + ACK_AFTER_SEND_MS, first.puback_ms + ACK_AFTER_PUBACK_MS)

    # --- inside -------------------------------------------------------------------------------

    def _hello(self, now_ms: int) -> list[Action]:
        waits = self.phase in (Phase.FORKED, Phase.REVOKED)
        patience_ms = min(HELLO_ANSWER_MS << min(self._unanswered, 8), HELLO_ANSWER_MAX_MS)
        self._unanswered += 1
        self._hello_due_ms = now_ms + (RETRY_HOLD_MS if waits else patience_ms)
        return [SendHello()]

    def _fork(self, code: str, theirs: Position, now_ms: int) -> list[Action]:
        """Stop, and tell the centre at once with both positions: only it can fence the lane."""
        fresh = self.phase is not Phase.FORKED
        self.phase = Phase.FORKED
        self.fork_code = code
        self._theirs = theirs
        self._flights.clear()
        self._hello_due_ms = now_ms + RETRY_HOLD_MS
        return [Alarm(code), SendHello(), *self._branch()] if fresh else [Alarm(code)]

    def _branch(self) -> list[SendSegment]:
        """Our records behind the last common position, once: evidence, and perhaps the only one."""
        found: list[SendSegment] = []
        tip, first = self._view.tip().seq, self.acked.seq + 1
        while first <= tip and len(found) < BRANCH_SEGMENTS_MAX:
            found.append(self._cut(first, tip))
            first = found[-1].last + 1
        return found

    def _cut(self, first: int, tip: int) -> SendSegment:
        last = self._view.fit(first, min(tip, first + SEGMENT_RECORDS_MAX - 1))
        assert first <= last <= tip, (first, last, tip)
        return SendSegment(first, last)

    def _rewind(self, cursor: int, now_ms: int) -> None:
        self._cursor = cursor
        self._flights.clear()
        self._unsent_since_ms = None if self._view.tip().seq < cursor else now_ms - self.flush_ms

    def _pump(self, now_ms: int) -> list[Action]:
        if self.phase is not Phase.STREAM or self._unsent_since_ms is None:
            return []
        tip = self._view.tip().seq
        actions: list[Action] = []
        while len(self._flights) < self.credit and self._cursor <= tip:
            waiting = tip - self._cursor + 1
            due = now_ms >= self._unsent_since_ms + self.flush_ms
            if waiting < SEGMENT_RECORDS_MAX and not due:
                break
            actions.append(sent := self._cut(self._cursor, tip))
            self._flights.append(_Flight(sent.last, now_ms))
            self._cursor = sent.last + 1
        if self._cursor > tip:
            self._unsent_since_ms = None
        return actions
