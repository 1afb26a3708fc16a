"""A canteen terminal from configuration to its loop, and what it does when it may not sell.

Start order of terminals.md §4. A journal that cannot be used keeps the process alive with its code
on the screen: a restart is a person's act, and a verified grant of a new epoch leads on by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from firmware.base.clock import SystemClock, Trust
from firmware.base.config import Section
from firmware.base.errors import JournalFailError, SqliteOldError
from firmware.base.log import event, failure, setup
from firmware.base.rng import SystemRng
from firmware.card_worker import CardWorker
from firmware.errors import SamError, SamInsecureError
from firmware.notify import notify
from firmware.ports import Screen
from firmware.reactor import Reactor, Timer
from protocols.card.card_profile import CardProfile
from protocols.errors import OnecardError
from protocols.texts import TEXTS
from protocols.wire.messages import Grant
from terminal.acks import CentreWord
from terminal.canteen import moves
from terminal.canteen.news import CLOCK_AHEAD_US, News
from terminal.canteen.till import Poll, Ports, Till
from terminal.errors import (
    IdentityError,
    JournalBusyError,
    JournalChainError,
    JournalEpochError,
    JournalForkError,
    JournalRollbackError,
    JournalVersionError,
    TestKeysError,
)
from terminal.identity import Identity
from terminal.inbox import InboxFile
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal
from terminal.lists import ListDesk
from terminal.setup import Setup, declare

logger = logging.getLogger("onecard.terminal")
VERSIONS = ("onecard 0.1.0",)
PING_EVERY = 30  # polls
STOPPERS = (
    JournalChainError,
    JournalEpochError,
    JournalFailError,
    JournalForkError,
    JournalRollbackError,
    JournalVersionError,
    SqliteOldError,
)


def read_setup(config: Path) -> tuple[Setup, Section]:
    """The checked configuration. Raises CONFIG."""
    root = Section.load(config)
    made = declare(root)
    root.close()
    return made, root


def run(config: Path, *, demo: bool) -> int:
    """Run until told to stop; a granted new epoch starts the terminal again. Raises typed errors.

    CONFIG, IDENTITY, SAM_INSECURE, PROFILE_*, JOURNAL_BUSY end the process: exit 2, no restart.
    """
    while True:
        made, _ = read_setup(config)
        _start_log(made)
        with locked(made.folder):
            if not Terminal(made, demo=demo).live():
                return 0


def _start_log(made: Setup) -> None:
    setup(made.log_level, sys.stderr, as_json=made.log_json)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's journal: a second writer is never allowed. Raises JOURNAL_BUSY."""
    journal = folder / "journal"
    try:
        journal.mkdir(parents=True, exist_ok=True)
        handle = os.open(journal / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as fault:
        raise JournalFailError(path=str(journal), reason=fault.strerror) from fault
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        os.close(handle)
        raise JournalBusyError(path=str(journal)) from fault
    try:
        yield
    finally:
        os.close(handle)


class Terminal:
    """One life of the process: everything built, run and released once."""

    def __init__(self, made: Setup, *, demo: bool) -> None:
        self._made = made
        self._clock = SystemClock()
        self._reactor = Reactor(self._clock)
        self._inbox = InboxFile(made.folder / "sync.db")
        self._identity = identity_of(made)
        self._word = CentreWord(self._identity.terminal, self._identity.ring)
        self._profile, self._test_keys = judge_keys(made, demo=demo)
        self._till: Till | None = None
        self._worker: CardWorker | None = None
        self._polls = 0
        self._again = False

    def live(self) -> bool:
        """Run the loop; True if the terminal should start again at once."""
        console = self._made.console
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.stop())
        journal = self._open_journal()
        try:
            if journal is not None:
                self._build(journal)
            self._reactor.call_later(0, self._first_turn)
            self._reactor.run()
        finally:
            console.stop()
            if self._worker is not None:
                self._worker.stop()
            if journal is not None:
                journal.close()
            self._inbox.close()
        return self._again

    def _open_journal(self) -> Journal | None:
        """The journal, or None with the fault on the screen: nothing is sold then."""
        word = self._word.take(self._inbox)
        self._granted = newest_grant(self._identity.grant, word.grant)
        try:
            journal = open_journal(
                self._made.folder / "journal",
                self._granted,
                self._clock,
                SystemRng().token(8),
                acked=word.acked,
                versions=VERSIONS,
                before_boot=self._trust_clock,
            )
        except STOPPERS as fault:
            failure(logger, "journal_refused", fault)
            zh, en = TEXTS[fault.code]
            self._made.console.show(Screen((f"{zh} [{fault.code}]", en), (zh, en)))
            return None
        return journal

    def _trust_clock(self, journal: Journal) -> None:
        """HELD while the wall clock lies within 14 days after the journal (codes.md §2.8)."""
        high_us, wall_us = journal.state.hw_us, self._clock.wall_us()
        if high_us <= wall_us + 1_000_000 <= high_us + CLOCK_AHEAD_US:
            self._clock.believe(Trust.HELD)

    def _build(self, journal: Journal) -> None:
        made = self._made
        worker = CardWorker(made.reader, self._reactor.post, self._clock)
        desk = ListDesk(self._identity.ring)
        news = News(self._inbox, self._word, desk, journal, self._clock, self._granted.hw0_us)
        timers = LoopTimers(self._reactor)
        ports = Ports(
            journal, worker, made.sam, news, made.console, self._clock, timers, self._profile
        )
        till = Till(ports, replace(made.till, test_keys=self._test_keys))
        timers.deliver = till.on_event
        self._reactor.deliver_to(till.on_event)  # type: ignore[arg-type]  # only TillEvents are posted
        made.console.start(self._reactor.watch, self._reactor.unwatch, self._reactor.post)
        till.start()
        worker.start()
        self._till, self._worker = till, worker

    def _first_turn(self) -> None:
        state = "selling" if self._till is not None else "out_of_service"
        event(logger, logging.INFO, "READY", terminal=self._identity.terminal, state=state)
        notify("READY=1")
        self._poll()

    def _poll(self) -> None:
        """Every 100 ms: news, idle work, the watchdog's ping."""
        if self._till is None:
            self._wait_for_grant()
        else:
            self._till.on_event(Poll())
            self._again = self._till.restart_wanted
        if self._worker is not None:
            self._worker.check()
        self._polls += 1
        if self._polls % PING_EVERY == 0:
            notify("WATCHDOG=1")
        if self._again:
            event(logger, logging.INFO, "new_epoch", terminal=self._identity.terminal)
            self._reactor.stop()
        self._reactor.call_later(self._made.poll_ms, self._poll)

    def _wait_for_grant(self) -> None:
        if self._inbox.changed():
            grant = self._word.take(self._inbox).grant
            self._again = grant is not None and grant.epoch > self._granted.epoch


class LoopTimers:
    """The session timer on the reactor."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._running: Timer | None = None
        self.deliver: Callable[[moves.Due], None] = lambda due: None

    def arm(self, timer: moves.Timer, delay_ms: int) -> None:
        """Set it, replacing what ran."""
        self.disarm()
        self._running = self._reactor.call_later(delay_ms, lambda: self.deliver(moves.Due(timer)))

    def disarm(self) -> None:
        """Stop it."""
        if self._running is not None:
            self._reactor.cancel(self._running)
        self._running = None


def identity_of(made: Setup) -> Identity:
    """The enrolment, which must be the one the configuration names. Raises IDENTITY."""
    identity = Identity.load(made.folder / "identity")
    if made.terminal_id not in ("", identity.terminal):
        raise IdentityError(reason="terminal_id", configured=made.terminal_id)
    return identity


def judge_keys(made: Setup, *, demo: bool) -> tuple[CardProfile, bool]:
    """The card profile, and whether test keys are in use; production refuses them.

    Raises SAM_INSECURE, PROFILE_TEST_KEYS, PROFILE_*.
    """
    profile = made.profile()
    try:
        development = made.sam.info().development
    except SamError:
        development = False  # SAM_FAIL: the till shows it and asks again
    if development and not demo:
        raise SamInsecureError(allowed="--demo")
    if profile.test_keys and not demo:
        raise TestKeysError(allowed="--demo")
    return profile, development or profile.test_keys


def newest_grant(enrolled: Grant, heard: Grant | None) -> Grant:
    """The grant of the newest epoch known; both are verified."""
    return heard if heard is not None and heard.epoch > enrolled.epoch else enrolled


def explain(config: Path) -> list[dict[str, object]]:
    """Every option with value, default, range and meaning. Raises CONFIG."""
    _, root = read_setup(config)
    return [
        {
            "key": option.key,
            "value": option.value,
            "default": option.default,
            "allowed": option.allowed,
            "help": option.help,
        }
        for option in root.explain()
    ]


def selftest(config: Path) -> list[dict[str, object]]:
    """Devices, keys, SAM and journal, one line each with a code or ok. Raises CONFIG."""
    made, _ = read_setup(config)
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("identity", lambda: identity_of(made)),
        ("profile", made.profile),
        ("sam", made.sam.info),
        ("reader", lambda: _open_reader(made)),
        ("journal", lambda: _journal_checks(made.folder / "journal")),
    )
    return [_checked(name, check) for name, check in checks]


def _checked(name: str, check: Callable[[], object]) -> dict[str, object]:
    try:
        check()
    except OnecardError as fault:
        return {"check": name, "ok": False, **fault.as_json()}
    return {"check": name, "ok": True}


def _open_reader(made: Setup) -> None:
    made.reader.open()
    made.reader.close()


def _journal_checks(folder: Path) -> None:
    from terminal.ledger.audit import demand_clean

    if folder.is_dir():
        demand_clean(folder)
