"""The shower's table: complete, golden walks, and invariants over random events with mutants."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.wire.record import Kind
from terminal.errors import StateError
from terminal.shower import debits, session, table
from terminal.shower import moves as m
from terminal.shower.metering import Tariff
from terminal.shower.moves import Shower, State
from terminal.shower.table import EVENTS, TABLE, describe, step

RULES = m.Rules(Tariff(3, fen_per_m3=2500))
STORMY = replace(RULES, no_flow_ms=1_000)  # so that water stops are met often
CODE = b"k" * 12
WATER = m.Flow(30, 500, open_fb=True, shut_fb=False)
DRY = m.Flow(0, 500, open_fb=True, shut_fb=False)
QUIET = m.Flow(0, 2_000, open_fb=False, shut_fb=True)


def kinds(actions: tuple[m.Action, ...]) -> list[Kind]:
    """What is journalled, in order."""
    return [a.kind for a in actions if isinstance(a, m.Journal)]


class Walk:
    """A stall driven event by event, 500 ms apart."""

    def __init__(self) -> None:
        self.s, self.now = Shower(RULES), 1_000
        self.said: list[Kind] = []
        self.last: tuple[m.Action, ...] = ()

    def go(self, *events: m.Event, gap: int = 500) -> State:
        """Feed them; the state that results."""
        for event in events:
            self.now += gap
            self.s, self.last = step(self.s, event, self.now)
            self.said += kinds(self.last)
        return self.s.state

    def card(self) -> None:
        """A card that has paid its first quantum."""
        self.go(m.CardIn(), m.AuthOk(b"c" * 10, 0, 0), m.DebitOk(1, 10))
        assert self.s.state is State.RUN

    def code(self) -> None:
        """A code of 30 fen that runs."""
        self.go(*[m.Digit("1")] * 9, m.KeyRun(), m.AuthOk(CODE, 0, 30), m.DebitOk(1, 10))
        assert self.s.state is State.RUN


def test_every_pair_is_listed() -> None:
    """No (state, event) pair is forgotten, and an unlisted one is SESSION_STATE."""
    assert all(set(TABLE[state]) == set(EVENTS) for state in State)
    with pytest.raises(StateError):
        step(Shower(RULES), object(), 0)  # type: ignore[arg-type]


def test_the_page_is_the_table() -> None:
    """docs/shower-states.md is what the table says."""
    page = Path(__file__).parents[3] / "docs" / "shower-states.md"
    assert page.read_text().endswith(describe())


def test_card_pause_resume_pull() -> None:
    """In, water, pause, resume, pull: one CAPTURE, one SETTLE, floor of what ran."""
    w = Walk()
    w.card()
    assert w.go(WATER, m.KeyRun()) is State.PAUSE
    assert w.last[0] == m.Shut()
    assert w.go(m.Flow(5, 500, open_fb=False, shut_fb=True), m.KeyRun(), WATER) is State.RUN
    assert w.s.pulses == 60
    assert w.go(m.CardOut()) is State.CLOSING
    assert w.last[0] == m.Shut()
    assert w.go(QUIET, gap=2_000) is State.IDLE
    assert w.said.count(Kind.CAPTURE) == w.said.count(Kind.SETTLE) == 1


def test_code_ends_by_two_presses() -> None:
    """END twice within 3 s finishes the code; two presses far apart do not."""
    w = Walk()
    w.code()
    assert w.go(m.KeyEnd()) is State.RUN
    assert w.go(m.KeyEnd(), gap=3_001) is State.RUN
    assert w.go(m.KeyEnd(), QUIET, gap=2_000) is State.IDLE
    assert w.said[-2:] == [Kind.SETTLE, Kind.CODE_END]
    assert Kind.CAPTURE not in w.said


def test_water_stop_and_back() -> None:
    """No pulse for 8 s stops; the card's residual runs again without a debit."""
    w = Walk()
    w.card()
    assert w.go(WATER, *[DRY] * 16) is State.STOPPED
    assert w.go(m.CardOut(), QUIET, gap=2_000) is State.IDLE
    assert w.go(m.CardIn(), m.AuthOk(b"c" * 10, 10, 0, 5)) is State.RUN
    assert w.said[-3:] == [Kind.SESSION, Kind.RESIDUAL_USE, Kind.METER]
    assert w.s.outstanding is None


def test_exhausted() -> None:
    """After a refusal the remainder runs out, then the water is shut."""
    w = Walk()
    w.card()
    while w.s.outstanding is None:
        w.go(WATER)
    w.go(m.DebitNo(2, "INSUFFICIENT"))
    while w.s.state is State.RUN:
        w.go(WATER)
    assert (w.s.state, w.s.reason, w.s.residual_fen) == (State.CLOSING, "exhausted", 0)


def test_leak_needs_clear() -> None:
    """Water at rest: LEAK, which a lost bus does not cure; staff does."""
    w = Walk()
    assert w.go(m.Flow(10, 500, open_fb=False, shut_fb=True)) is State.LEAK
    assert w.go(m.BusLost(), QUIET, QUIET, QUIET) is State.LEAK
    assert w.go(m.Clear(b"s", shut_ok=False)) is State.LEAK
    assert w.go(m.Clear(b"s", shut_ok=True)) is State.IDLE


def test_stuck_valve_doubts_what_is_outstanding() -> None:
    """Water in PAUSE after 2 s: STUCK, the debit asked before is in doubt, late success is late."""
    w = Walk()
    w.card()
    while w.s.outstanding is None:
        w.go(WATER)
    w.go(m.KeyRun(), QUIET, gap=2_000)
    assert w.go(m.Flow(10, 500, open_fb=False, shut_fb=True)) is State.STUCK
    assert kinds(w.last) == [Kind.DOUBT, Kind.SETTLE, Kind.ALARM]
    w.go(m.DebitOk(2, 20))
    assert w.last == (m.Journal(Kind.CAPTURE, 20, 2, (("late", 1),)),)


def test_disk_fault_is_for_good() -> None:
    """Nothing is written any more, and good polls do not cure it."""
    w = Walk()
    w.card()
    assert w.go(m.DiskFault(), QUIET, QUIET, QUIET, QUIET) is State.FAULT
    assert w.s.disk_bad


def draw(rng: random.Random, s: Shower) -> m.Event:
    """A random event, more often one that leads somewhere."""
    name = s.last_id - rng.choice((0, 0, 0, 1, 2))
    timer = s.armed or rng.choice(list(m.Timer))
    pick = rng.random()
    if pick < 0.45:
        n = rng.choice((0, 0, 20, 100, 100, 110, 110, 110, 400))
        return m.Flow(n, 500, open_fb=rng.random() < 0.9, shut_fb=rng.random() < 0.8)
    events: tuple[m.Event, ...] = (
        m.DebitOk(name, s.outstanding_fen or 20),
        m.DebitOk(name, s.outstanding_fen or 20),
        m.DebitNo(name, "INSUFFICIENT"),
        m.DebitUnknown(name),
        m.CardIn(),
        m.CardIn(),
        m.CardOut(),
        m.KeyRun(),
        m.KeyRun(),
        m.KeyEnd(),
        m.Digit("1"),
        m.Digit("1"),
        m.AuthOk(CODE, rng.choice((0, 0, 7)), 60),
        m.AuthOk(CODE, 0, 60),
        m.AuthNo("CARD_LOST"),
        m.Clear(b"s", shut_ok=True),
        m.Clear(b"s", shut_ok=True),
    )
    rare = (m.BusLost(), m.BusOk(), m.Tamper(), m.Revoke(CODE), m.Due(timer))
    return rng.choice(rare) if pick > 0.97 else rng.choice(events)


def check(old: Shower, event: m.Event, new: Shower, actions: tuple[m.Action, ...]) -> None:
    """What may never be otherwise (T1, T5-T7)."""
    assert m.Shut not in map(type, actions[1:]), "Shut first"
    if m.Open() in actions:
        assert new.state is State.RUN
    if new.state is State.RUN:
        assert new.used_mfen < new.paid_fen * 1_000, "open without pay"
    elif old.state is State.RUN:
        assert actions[0] == m.Shut(), "left RUN open"
    if isinstance(event, m.CardOut) and old.payer is m.Payer.CARD:
        assert actions[0] == m.Shut()
        assert new.state is not State.RUN
    check_money(old, event, new, actions)


def check_money(old: Shower, event: m.Event, new: Shower, actions: tuple[m.Action, ...]) -> None:
    """Every fen has one place, and a debit one end."""
    assert new.consumed_fen + new.residual_fen == new.paid_fen
    if isinstance(event, m.DebitOk):
        credit = event.fen if event.id == old.outstanding else 0
        assert new.paid_fen == old.paid_fen + credit, "credit of a foreign debit"
    if old.state is not State.RUN and new.payer is not None and old.payer is not None:
        assert new.used_mfen == old.used_mfen, "charged outside RUN"
    debits = [a for a in actions if isinstance(a, m.Debit)]
    assert len(debits) <= (old.outstanding is None)
    if new.state in (State.IDLE, State.LEAK, State.STUCK, State.FAULT):
        assert new.outstanding is None, "debit outstanding"
        if old.outstanding is not None and not isinstance(event, m.DebitOk | m.DebitNo):
            assert Kind.DOUBT in kinds(actions), "debit forgotten"


def storm(seed: int, events: int) -> set[State]:
    """A seeded stream of events under the invariants; the states it saw."""
    rng, s, now, seen = random.Random(seed), Shower(STORMY), 1_000, set()
    for _ in range(events):
        now += rng.choice((100, 500, 500, 2_000))
        event = draw(rng, s)
        new, actions = step(s, event, now)
        check(s, event, new, actions)
        s = new
        seen.add(s.state)
    return seen


def test_invariants_hold_in_a_storm() -> None:
    """200,000 random events: every state is met, no invariant broken."""
    assert set().union(*(storm(seed, 50_000) for seed in range(4))) == set(State)


def any_credit(s: Shower, event: Any, now: int) -> m.Step:
    """Mutant: every success is credited."""
    return debits.debit_ok(replace(s, outstanding=event.id), event, now)


def pause_charged(s: Shower, event: Any, now: int) -> m.Step:
    """Mutant: water in PAUSE is charged."""
    new, actions = session.flow_pause(s, event, now)
    return replace(new, pulses=new.pulses + event.pulses), actions


def idle_early(s: Shower, _: Any, __: int) -> m.Step:
    """Mutant: CLOSING gives way at once."""
    return replace(s, state=State.IDLE), ()


@pytest.mark.parametrize(
    ("state", "kind", "mutant"),
    [
        (State.RUN, m.DebitOk, any_credit),
        (State.PAUSE, m.Flow, pause_charged),
        (State.CLOSING, m.Flow, idle_early),
    ],
)
def test_mutants_are_caught(
    monkeypatch: pytest.MonkeyPatch, state: State, kind: Any, mutant: Callable[..., m.Step]
) -> None:
    """Credit on any DEBIT_OK, charge in PAUSE, IDLE with a debit outstanding: all are seen."""
    monkeypatch.setitem(table.TABLE[state], kind, mutant)
    with pytest.raises(AssertionError):
        storm(1, 50_000)
