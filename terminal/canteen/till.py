"""The canteen till: events in, journal, card, SAM and screen out; no thread, no clock of its own.

The same object runs in production, in the demo and in the simulator. It performs the session's
actions in their order and stops the list when an append fails: then nothing that stands behind the
record happens, and the till sells nothing until a person acts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from firmware.base.clock import Clock
from firmware.base.errors import JournalFailError
from firmware.ports import (
    CardIn,
    CardIo,
    CardOut,
    Display,
    Key,
    KeypadLost,
    ReaderState,
    Reply,
    SamPort,
    Trouble,
)
from protocols.card.apdu import SW
from protocols.card.card_profile import CardProfile
from protocols.wire.record import Kind, own_of
from terminal.canteen import outcome as outcomes
from terminal.canteen import session as sessions
from terminal.canteen.asks import Hold, Identified, Outcome, Paid, Refused, Serve
from terminal.canteen.drive import Drive
from terminal.canteen.facts import TillFacts
from terminal.canteen.keys import key_event
from terminal.canteen.moves import (
    Action,
    Arm,
    Block,
    CardHere,
    Disarm,
    Due,
    Event,
    Fatal,
    Mode,
    Session,
    Show,
    StartRead,
    StartTap,
    State,
    TapPaid,
    Timer,
    Unblock,
)
from terminal.canteen.news import News
from terminal.canteen.rules import PRODUCTION, TapRules
from terminal.canteen.screen import Status, picture
from terminal.canteen.table import step
from terminal.canteen.tap import read_only, tap
from terminal.canteen.wallet import write
from terminal.errors import JournalChainError
from terminal.ledger.patrol import Patrol
from terminal.ledger.store import KEEP_DAYS, ROLL_RECORDS, Journal
from terminal.policy.offline import Ceilings, outbox_pct, stop_code

MARK_EVERY_US = 3_600_000_000
CHECKPOINT_EVERY = 200
MISMATCHES = 3
WAITING = frozenset({State.ARMED, State.OPERATOR, State.VOID_ARM, State.IN_DOUBT, State.ASK_SERVED})
CALM = frozenset({State.CLOSED_SHIFT, State.PAUSED, State.IDLE, State.ARMED})


@dataclass(frozen=True, slots=True)
class TillConfig:
    """The till's own section of the configuration; amounts in fen."""

    mode: Mode = Mode.AMOUNT
    fixed_fen: int = 0
    max_sale_fen: int = 20_000
    cooldown_s: int = 5
    record_only_fen_max: int = 3_000
    ceilings: Ceilings = field(default_factory=Ceilings)
    roll_records: int = ROLL_RECORDS
    keep_days: int = KEEP_DAYS
    test_keys: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """Look at sync.db, and do what idle time is for."""


class Timers(Protocol):
    """The one session timer; when it is due the till gets `Due(timer)`."""

    def arm(self, timer: Timer, delay_ms: int) -> None:
        """Set it, replacing what ran."""

    def disarm(self) -> None:
        """Stop it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside the till."""

    journal: Journal
    cards: CardIo
    sam: SamPort
    news: News
    display: Display
    clock: Clock
    timers: Timers
    profile: CardProfile


TillEvent = Key | KeypadLost | CardIn | CardOut | Reply | Trouble | ReaderState | Due | Poll


class Till:
    """One canteen terminal behind its ports."""

    def __init__(self, ports: Ports, config: TillConfig, rules: TapRules = PRODUCTION) -> None:
        self._ports = ports
        self._config = config
        self._rules = rules
        self._facts = TillFacts(ports, config)
        self._drive = Drive(ports.cards, ports.sam, ports.journal, self._serve, self._done)
        self._queue: deque[TillEvent] = deque()
        self._busy = False
        self._card: CardIn | None = None  # on the reader and not used by a tap yet
        self._reader: str | None = None
        self._mismatched: set[bytes] = set()
        self._checkpoint_seq = ports.journal.tip.seq
        self._patrol = Patrol(ports.journal, ports.clock.mono_us())
        self.session = Session(config.mode, config.max_sale_fen, config.fixed_fen)

    # ---- from outside

    def start(self) -> None:
        """The first screen; a sale that the last process left open is asked about first."""
        self._guarded(self._resume)

    def on_event(self, event: TillEvent) -> None:
        """One event; those that arrive meanwhile wait their turn. Never raises a world error."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._guarded(partial(self._take, self._queue.popleft()))
        finally:
            self._busy = False

    @property
    def restart_wanted(self) -> bool:
        """A new epoch was granted and no sale runs: the process should start again."""
        return self._ports.news.new_epoch and self._is_calm()

    # ---- events

    def _take(self, event: TillEvent) -> None:
        if isinstance(event, Key):
            found = key_event(event, self.session, self._ports)
            if found is not None:
                self._step(found)
        elif isinstance(event, Reply):
            self._drive.on_reply(event)
        elif isinstance(event, Trouble):
            self._drive.on_trouble(event)
        elif isinstance(event, CardIn):
            self._card = event
            self._card_waits(always=True)
        else:
            self._take_quiet(event)
        self._check_block()

    def _take_quiet(self, event: TillEvent) -> None:
        if isinstance(event, CardOut):
            self._card = None
        elif isinstance(event, ReaderState):
            self._reader = event.code
        elif isinstance(event, Due):
            self._step(event)
        elif isinstance(event, Poll):
            self._ports.news.poll()
            self._facts.ask_sam()
            self._use_idle_time()

    def _resume(self) -> None:
        self._ports.news.poll()
        self._facts.ask_sam()
        state = self._ports.journal.state
        intent = None if state.hold is None else state.intents.get(state.hold)
        hold = None
        if intent is not None:
            hold = Hold(intent.seq, intent.asn, intent.fen, since_ms=self._facts.now_ms())
        self.session, actions = sessions.resume(
            self.session, hold, open_shift=state.shift is not None
        )
        self._perform(actions)
        self._check_block()

    def _card_waits(self, *, always: bool) -> None:
        """A card on the reader that no tap has used yet meets a state that wants one."""
        card = self._card
        if card is None or self._drive.running or not (always or self.session.state in WAITING):
            return
        self._step(CardHere(card.uid))

    # ---- the session

    def _step(self, event: Event) -> None:
        before = self.session.state
        self.session, actions = step(self.session, event, self._facts.now_ms())
        self._perform(actions)
        if self.session.state is not before:
            self._card_waits(always=False)

    def _perform(self, actions: tuple[Action, ...]) -> None:
        """In order; an append that fails raises and ends the list."""
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        if isinstance(action, Show):
            self._ports.display.show(picture(self.session, action, self._status()))
        elif isinstance(action, Arm):
            self._ports.timers.arm(action.timer, action.delay_ms)
        elif isinstance(action, Disarm):
            self._ports.timers.disarm()
        elif isinstance(action, StartTap):
            self._card = None
            order = outcomes.order_of(action, self.session, self._ports)
            self._drive.start(tap(order, self._facts, self._rules))
        elif isinstance(action, StartRead):
            self._card = None
            self._drive.start(read_only(self._facts))
        else:
            write(action, self._ports.journal)

    def _serve(self, serve: Serve) -> None:
        self._facts.paid(serve.asn)
        self._step(TapPaid(serve.fen, serve.purse_after, serve.recovered))

    def _done(self, outcome: Outcome) -> None:
        self._count_mismatch(outcome)
        if isinstance(outcome, Paid):
            return  # announced already, CAPTURE before it
        rights: frozenset[str] = frozenset()
        if isinstance(outcome, Identified):
            rights = self._facts.rights(outcome.asn)
        held = self.session.hold
        still = held is not None and self._ports.journal.state.hold == held.intent
        if self.session.state is not State.FAULT:
            self._step(outcomes.event_of(outcome, rights, held=still))

    def _count_mismatch(self, outcome: Outcome) -> None:
        """9302 on three different cards in a row: the SAM's keys are not the cards' (§5.4)."""
        if isinstance(outcome, Paid):
            self._mismatched.clear()
        if not isinstance(outcome, Refused) or outcome.sw != SW.MAC_WRONG:
            return
        if outcome.asn is not None:
            self._mismatched.add(outcome.asn)
        if len(self._mismatched) >= MISMATCHES:
            own = own_of(Kind.ALARM, code="SAM_KEY_MISMATCH")
            self._ports.journal.append(Kind.ALARM, own=own)
            self._step(Fatal("SAM_KEY_MISMATCH"))

    # ---- guards

    def _guarded(self, act: Callable[[], None]) -> None:
        """Run; a journal that fails puts the till out of service with nothing behind the record."""
        try:
            act()
        except (JournalFailError, JournalChainError) as fault:
            self._drive.drop()
            self._queue.clear()
            self.session, actions = step(self.session, Fatal(fault.code), self._facts.now_ms())
            self._perform(actions)

    def _check_block(self) -> None:
        code = self._block_code()
        if code == self.session.block or self.session.state is State.FAULT:
            return
        self._step(Unblock() if code is None else Block(code))

    def _block_code(self) -> str | None:
        news, state = self._ports.news, self._ports.journal.state
        lists = news.desk.current
        if news.stop is not None:
            return news.stop
        if lists.missing(state.versions) is not None or lists.policy is None:
            return "LIST_MISSING"
        if self._reader is not None or self._facts.sam_fault is not None:
            return self._reader or self._facts.sam_fault
        return stop_code(
            lists.policy,
            state,
            self._config.ceilings,
            news.silence.quiet_ms(self._facts.now_ms()),
            self._outbox_pct(),
        )

    def _outbox_pct(self) -> int:
        journal = self._ports.journal
        return outbox_pct(journal.tip.seq, journal.acked.seq, self._config.ceilings)

    def _status(self) -> Status:
        pct, ceilings = self._outbox_pct(), self._config.ceilings
        warning = "OUTBOX_WARN" if pct >= ceilings.warn_pct else None
        warning = "OUTBOX_ALARM" if pct >= ceilings.alarm_pct else warning
        unsynced = len(self._ports.journal.state.unsynced)
        return Status(unsynced, warning, self._config.test_keys)

    def _is_calm(self) -> bool:
        return not self._drive.running and self.session.state in CALM

    def _use_idle_time(self) -> None:
        """Roll, prune, checkpoint and mark when nobody waits."""
        journal = self._ports.journal
        if not self._is_calm() or journal.failed is not None:
            return
        self._ports.news.obey()
        self._patrol.step(self._ports.clock.mono_us())
        if journal.roll(self._config.roll_records):
            self._checkpoint_seq = journal.tip.seq
        elif journal.tip.seq - self._checkpoint_seq >= CHECKPOINT_EVERY:
            self._checkpoint_seq = journal.tip.seq
            journal.checkpoint()
        if self._facts.wall_us() - journal.state.hw_us >= MARK_EVERY_US:
            journal.append(Kind.MARK)
            journal.prune(self._config.keep_days)
