"""The transition table of the shower and the one function that uses it.

Every (state, event) pair is a handler, IGNORED, or impossible: then SESSION_STATE is raised and
nothing changes. docs/shower-states.md is `describe()`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from terminal.errors import StateError
from terminal.shower import debits as d
from terminal.shower import ending as e
from terminal.shower import moves as m
from terminal.shower import session as s
from terminal.shower.moves import Event, Shower, State, Step

EVENTS: tuple[type[Event], ...] = get_args(Event)
Handler = Callable[[Shower, Any, int], Step]
Row = dict[type[Event], Handler]

_BASE: Row = {
    **dict.fromkeys(EVENTS, s.ignored),
    m.CardIn: s.card_seen,
    m.CardOut: s.card_gone,
    m.DebitOk: d.debit_ok,
    m.DebitNo: d.debit_no,
    m.DebitUnknown: d.debit_unknown,
    m.BusLost: e.bus_lost,
    m.Tamper: e.tamper,
    m.DiskFault: e.disk,
    m.Revoke: e.revoke,
}
_HELD: Row = {
    **_BASE,
    m.BusLost: e.held,
    m.Tamper: e.held,
    m.DiskFault: e.held,
    m.Revoke: s.ignored,
    m.Clear: e.cleared,
    m.Due: e.shut_again,
}
TABLE: dict[State, Row] = {
    State.IDLE: {
        **_BASE,
        m.CardIn: s.card_in,
        m.Digit: s.digit,
        m.KeyEnd: s.clear_entry,
        m.KeyRun: s.run_idle,
        m.Flow: s.flow_idle,
        m.Due: s.clear_entry,
    },
    State.AUTH: {
        **_BASE,
        m.CardOut: s.auth_out,
        m.AuthOk: s.auth_ok,
        m.AuthNo: s.auth_no,
        m.Due: s.auth_late,
    },
    State.DEBIT: {**_BASE, m.CardOut: d.debit_out, m.Due: d.debit_lost},
    State.RUN: {
        **_BASE,
        m.CardOut: s.pulled,
        m.KeyRun: s.pause,
        m.KeyEnd: s.end_key,
        m.Flow: s.flow_run,
    },
    State.PAUSE: {
        **_BASE,
        m.CardOut: s.pulled,
        m.KeyRun: s.resume,
        m.KeyEnd: s.end_key,
        m.Flow: s.flow_pause,
        m.Due: s.pause_over,
    },
    State.STOPPED: {
        **_BASE,
        m.CardOut: s.pulled,
        m.Digit: s.digit,
        m.KeyRun: s.run_stopped,
        m.Due: s.stopped_over,
    },
    State.CLOSING: {**_BASE, m.Flow: e.flow_closing, m.Revoke: s.ignored},
    State.LEAK: _HELD,
    State.STUCK: _HELD,
    State.FAULT: {**_BASE, m.Flow: e.flow_fault, m.Revoke: s.ignored},
}


def step(shower: Shower, event: Event, now_ms: int) -> Step:
    """The next state and what to do, in order. Raises SESSION_STATE for an unlisted pair."""
    handler = TABLE[shower.state].get(type(event))
    if handler is None:
        raise StateError(state=shower.state.value, event=type(event).__name__)
    if isinstance(event, m.Due) and event.timer is not shower.armed:
        return shower, ()
    return handler(shower, event, now_ms)


def describe() -> str:
    """The table as Markdown: per state, what each event does; ignored pairs are summed up."""
    lines = []
    for state, row in TABLE.items():
        lines += [f"## {state.value}", "", "| event | does |", "|---|---|"]
        for kind, act in row.items():
            if act is not s.ignored:
                lines.append(f"| {kind.__name__} | {(act.__doc__ or '').splitlines()[0]} |")
        quiet = [kind.__name__ for kind, act in row.items() if act is s.ignored]
        lines += ["", "ignored: " + ", ".join(quiet), ""]
    return "\n".join(lines)
