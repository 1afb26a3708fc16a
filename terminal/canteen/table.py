"""The transition table of the till and the one function that uses it.

Every (state, event) pair is a handler, IGNORED, or impossible: then SESSION_STATE is raised and
nothing changes. docs/canteen-states.md is `describe()`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from terminal.canteen import session as s
from terminal.canteen.moves import (
    Back,
    Block,
    Cancel,
    CardHere,
    CardRead,
    Digits,
    Dot,
    Due,
    Enter,
    Event,
    Fatal,
    Menu,
    Session,
    ShiftKey,
    State,
    Step,
    TapCut,
    TapDoubt,
    TapOther,
    TapPaid,
    TapRefused,
    TapWithheld,
    Timer,
    Unblock,
    VoidKey,
)
from terminal.errors import StateError

EVENTS: tuple[type[Event], ...] = get_args(Event)
Handler = Callable[..., Step]
KEYS = (Digits, Dot, Back, Enter, Cancel, Menu, VoidKey, ShiftKey)


def ignored(session: Session, _: Event) -> Step:
    """A pair that means nothing."""
    return session, ()


def message_over(session: Session, event: Due) -> Step:
    """3 s are over."""
    return s.faded(session) if event.timer is Timer.MESSAGE else (session, ())


_ALWAYS: dict[type[Event], Handler] = {
    Block: s.block,
    Unblock: s.unblock,
    Fatal: s.fault,
}
_QUIET_KEYS: dict[type[Event], Handler] = dict.fromkeys(KEYS, ignored)
_ENTRY: dict[type[Event], Handler] = {
    Digits: s.key_amount,
    Dot: s.key_amount,
    Menu: s.key_amount,
}
_ACTS: dict[type[Event], Handler] = {VoidKey: s.void_key, ShiftKey: s.shift_key}
_DOUBT: dict[type[Event], Handler] = {
    **_QUIET_KEYS,
    Cancel: s.abandon,
    CardHere: s.card_in,
    Due: s.ask_served,
    **_ALWAYS,
}

TABLE: dict[State, dict[type[Event], Handler]] = {
    State.CLOSED_SHIFT: {**_QUIET_KEYS, CardHere: s.card_to_read, Due: ignored, **_ALWAYS},
    State.PAUSED: {
        **_QUIET_KEYS,
        ShiftKey: s.shift_key,
        CardHere: ignored,
        Due: ignored,
        **_ALWAYS,
    },
    State.IDLE: {
        **_QUIET_KEYS,
        **_ENTRY,
        **_ACTS,
        CardHere: s.card_no_amount,
        Due: ignored,
        **_ALWAYS,
    },
    State.AMOUNT: {
        **_QUIET_KEYS,
        **_ENTRY,
        Back: s.key_amount,
        Enter: s.enter_amount,
        Cancel: s.to_rest,
        CardHere: ignored,
        Due: ignored,
        **_ALWAYS,
    },
    State.ARMED: {
        **_QUIET_KEYS,
        **_ACTS,
        Cancel: s.to_rest,
        CardHere: s.card_in,
        Due: s.to_rest,
        **_ALWAYS,
    },
    State.AUTHORISE: {
        **_QUIET_KEYS,
        CardHere: ignored,
        TapPaid: s.paid,
        TapRefused: s.refused,
        TapCut: s.cut,
        TapDoubt: s.doubt,
        TapOther: s.other_card,
        TapWithheld: s.withheld,
        Due: s.ask_served,
        **_ALWAYS,
    },
    State.APPROVED: {**_QUIET_KEYS, Due: message_over, **_ALWAYS},
    State.DECLINED: {**_QUIET_KEYS, Due: message_over, **_ALWAYS},
    State.IN_DOUBT: _DOUBT,
    State.ASK_SERVED: {**_DOUBT, Enter: s.served},
    State.OPERATOR: {
        **_QUIET_KEYS,
        Cancel: s.to_rest,
        CardHere: s.card_to_read,
        Due: s.to_rest,
        **_ALWAYS,
    },
    State.READING: {
        **_QUIET_KEYS,
        CardHere: ignored,
        CardRead: s.card_read,
        TapCut: s.read_failed,
        TapRefused: s.read_failed,
        Due: ignored,
        **_ALWAYS,
    },
    State.VOID_ARM: {
        **_QUIET_KEYS,
        Cancel: s.to_rest,
        CardHere: s.card_to_read,
        Due: s.to_rest,
        **_ALWAYS,
    },
    State.FAULT: dict.fromkeys(EVENTS, ignored),
}
FADING = frozenset({State.APPROVED, State.DECLINED})


def step(session: Session, event: Event, now_ms: int) -> Step:
    """The next session and what to do, in order. Raises SESSION_STATE for an impossible pair."""
    if session.state in FADING and isinstance(event, (*KEYS, CardHere)):
        return _at_once(session, event, now_ms)
    handler = TABLE[session.state].get(type(event))
    if handler is None:
        raise StateError(state=session.state.value, event=type(event).__name__)
    if handler is s.doubt:
        assert isinstance(event, TapDoubt), event
        return s.doubt(session, event, now_ms)
    result: Step = handler(session, event)
    return result


def _at_once(session: Session, event: Any, now_ms: int) -> Step:
    """A message gives way to a key or the next card: both are handled in what stands behind it."""
    behind, shown = s.faded(session)
    then, actions = step(behind, event, now_ms)
    return then, (*shown, *actions)


def describe() -> str:
    """The table as Markdown: per state, what each event does; ignored pairs are summed up."""
    lines = []
    for state, row in TABLE.items():
        lines += [f"## {state.value}", "", "| event | does |", "|---|---|"]
        handled = {kind: act for kind, act in row.items() if act is not ignored}
        if state in FADING:
            lines.append("| any key, CardHere | handled at once in the state behind the message |")
            handled = {k: act for k, act in handled.items() if k not in KEYS}
        for kind, act in handled.items():
            lines.append(f"| {kind.__name__} | {(act.__doc__ or '').splitlines()[0]} |")
        quiet = [kind.__name__ for kind, act in row.items() if act is ignored]
        if quiet and state not in FADING:
            lines += ["", "ignored: " + ", ".join(quiet)]
        lines.append("")
    return "\n".join(lines)
