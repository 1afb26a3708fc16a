"""The till's table: complete, illegal pairs change nothing, records stand before what they guard."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminal.canteen import moves as m
from terminal.canteen.asks import Hold
from terminal.canteen.session import resting
from terminal.canteen.table import EVENTS, FADING, TABLE, describe, step
from terminal.errors import StateError
from terminal.ledger.replay import LastSale

CARD, OTHER = b"c" * 10, b"o" * 10
HOLD = Hold(7, CARD, 500, 0)
SALE = LastSale(9, CARD, 500, 3)
SAMPLES: dict[type[Any], list[Any]] = {
    m.Digits: [m.Digits("0"), m.Digits("5"), m.Digits("00")],
    m.Dot: [m.Dot()],
    m.Back: [m.Back()],
    m.Enter: [m.Enter()],
    m.Cancel: [m.Cancel()],
    m.Menu: [m.Menu("1", 100), m.Menu("9", None)],
    m.VoidKey: [m.VoidKey(SALE), m.VoidKey(None)],
    m.ShiftKey: [m.ShiftKey()],
    m.CardHere: [m.CardHere(b"uid")],
    m.TapPaid: [m.TapPaid(500, 100, recovered=False)],
    m.TapRefused: [m.TapRefused("INSUFFICIENT", held=True), m.TapRefused("CARD_MAC2", held=False)],
    m.TapCut: [m.TapCut("CARD_GONE", held=True), m.TapCut("CARD_GONE", held=False)],
    m.TapDoubt: [m.TapDoubt(7, CARD)],
    m.TapOther: [m.TapOther()],
    m.TapWithheld: [m.TapWithheld("CARD_MAC2")],
    m.CardRead: [m.CardRead(CARD, frozenset()), m.CardRead(OTHER, frozenset({"shift", "void"}))],
    m.Due: [m.Due(timer) for timer in m.Timer],
    m.Block: [m.Block("LIMIT_OFFLINE")],
    m.Unblock: [m.Unblock()],
    m.Fatal: [m.Fatal("JOURNAL_FAIL")],
}
MODES = [
    m.Session(m.Mode.AMOUNT, 20_000),
    m.Session(m.Mode.FIXED, 20_000, fixed_fen=300),
    m.Session(m.Mode.MENU, 20_000),
]
CARD_STATES = {
    m.TapPaid: {m.State.AUTHORISE},
    m.TapRefused: {m.State.AUTHORISE, m.State.READING},
    m.TapCut: {m.State.AUTHORISE, m.State.READING},
    m.TapDoubt: {m.State.AUTHORISE},
    m.TapOther: {m.State.AUTHORISE},
    m.TapWithheld: {m.State.AUTHORISE},
    m.CardRead: {m.State.READING},
}


def _in(state: m.State, base: m.Session) -> m.Session:
    """A session as it looks in that state."""
    held = state in (m.State.IN_DOUBT, m.State.ASK_SERVED)
    void = state in (m.State.READING, m.State.VOID_ARM, m.State.OPERATOR)
    return replace(
        base,
        state=state,
        entry="5" if state is m.State.AMOUNT else "",
        fen=500,
        hold=HOLD if held else None,
        purpose=m.Purpose.VOID if void else None,
        operator=OTHER if void else None,
        last=SALE if void else None,
        block="LIST_MISSING" if state is m.State.PAUSED else None,
    )


def test_every_event_has_samples() -> None:
    """The samples below speak of every event the session knows."""
    assert set(SAMPLES) == set(EVENTS)
    assert set(TABLE) == set(m.State)


@pytest.mark.parametrize("base", MODES, ids=lambda s: s.mode.value)
@pytest.mark.parametrize("state", m.State, ids=lambda s: s.value)
@pytest.mark.parametrize("kind", EVENTS, ids=lambda k: k.__name__)
def test_every_pair(state: m.State, kind: type[Any], base: m.Session) -> None:
    """Each pair is in the table or impossible; only outcomes without their tap are impossible."""
    session = _in(state, base)
    possible = state is m.State.FAULT or state in CARD_STATES.get(kind, set(m.State))
    for event in SAMPLES[kind]:
        if possible:
            after, _ = step(session, event, 10)
            assert isinstance(after, m.Session)
        else:
            with pytest.raises(StateError):
                step(session, event, 10)


def test_table_lists_nothing_impossible() -> None:
    """Every row names only events that can happen there."""
    for state, row in TABLE.items():
        for kind in row:
            assert state is m.State.FAULT or state in CARD_STATES.get(kind, set(m.State))
        listed = set(row) | ({m.CardHere} if state in FADING else set())
        missing = {k for k in EVENTS if k not in listed and state in CARD_STATES.get(k, {state})}
        assert not missing, (state, missing)


def test_fault_is_for_good() -> None:
    """No event leads out of FAULT and none does anything there."""
    session = _in(m.State.FAULT, MODES[0])
    for samples in SAMPLES.values():
        for event in samples:
            assert step(session, event, 0) == (session, ())


_EVENT = st.sampled_from([event for samples in SAMPLES.values() for event in samples])


@given(st.sampled_from(MODES), st.lists(_EVENT, max_size=60))
@settings(max_examples=400, deadline=None)
def test_walks_keep_the_invariants(base: m.Session, events: list[Any]) -> None:
    """Any walk: a hold exists iff a sale is in doubt, a tap starts only with an amount, and every
    writing action stands before everything else of its step."""
    session = base
    for event in events:
        try:
            session, actions = step(session, event, 10)
        except StateError:
            continue
        doubtful = session.state in (m.State.IN_DOUBT, m.State.ASK_SERVED)
        assert not doubtful or session.hold is not None
        if session.state not in (m.State.AUTHORISE, m.State.IN_DOUBT, m.State.ASK_SERVED):
            assert session.hold is None or session.state is m.State.FAULT
        for action in actions:
            if isinstance(action, m.StartTap):
                assert session.state is m.State.AUTHORISE
                assert action.fen > 0
        writes = [n for n, action in enumerate(actions) if isinstance(action, m.Write)]
        if writes:
            tail = actions[writes[0] + 1 :]
            assert not any(isinstance(action, m.StartTap | m.StartRead) for action in actions)
            assert any(isinstance(action, m.Show) for action in tail)
            shown = [n for n, a in enumerate(actions) if isinstance(a, m.Show) and a.beep]
            assert all(n > writes[0] for n in shown)


@pytest.mark.parametrize("base", MODES, ids=lambda s: s.mode.value)
@pytest.mark.parametrize("state", sorted(FADING, key=lambda s: s.value))
def test_nobody_waits_for_a_message(state: m.State, base: m.Session) -> None:
    """In APPROVED and DECLINED a key or card does at once what it does behind the message."""
    session = replace(_in(state, base), after=m.State.ARMED)
    behind = m.State.ARMED if state is m.State.DECLINED else resting(base)
    fen = 500 if state is m.State.DECLINED else base.fixed_fen
    fen = fen if behind is m.State.ARMED else 0
    plain = replace(base, state=behind, fen=fen, after=m.State.ARMED)
    for kind in (m.Digits, m.CardHere, m.Cancel, m.Menu):
        for event in SAMPLES[kind]:
            assert step(session, event, 0)[0] == step(plain, event, 0)[0]


def test_states_page_is_generated() -> None:
    """docs/canteen-states.md is what the table says."""
    page = Path(__file__).parents[3] / "docs" / "canteen-states.md"
    text = page.read_text("utf-8")
    assert text.partition("<!-- table -->\n")[2] == describe()
