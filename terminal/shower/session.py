"""The shower session: pure handlers of the table (terminals.md §5.3).

    IDLE --card, code--> AUTH --> DEBIT --CAPTURE--> RUN <--> PAUSE
    RUN --no water--> STOPPED     RUN, PAUSE, STOPPED, DEBIT --> CLOSING --settled--> IDLE
    LEAK, STUCK: until staff clears them    FAULT: until three good polls

`Shut` is first in its tuple; a Journal stands before what depends on it. A debit counts only while
it is the outstanding one: any other success is CAPTURE{late}, the holder's wallet's, and buys no
water. IDLE, STUCK and FAULT are never entered with a debit outstanding.
"""

from __future__ import annotations

from dataclasses import replace

from firmware.ports import Beep as Tone
from protocols.wire.record import Kind
from terminal.shower import moves as m
from terminal.shower.metering import debit_due, flow_impossible
from terminal.shower.moves import Action, Journal, Payer, Show, Shower, State, Step, Timer

CODE_DIGITS = 9
SETTLE_MS = 2_000
LEAK_MS = 60_000
DEBIT_MS = 3_000
METER_MS = 1_000
FINISHED = frozenset({"user_end", "pause_timeout", "exhausted", "revoked"})
CODES = {state: n for n, state in enumerate(State)}  # METER.state


def ignored(s: Shower, _: m.Event, __: int) -> Step:
    """A pair that means nothing."""
    return s, ()


def enter(s: Shower, state: State, now: int) -> Step:
    """Into a state: its timer replaces what ran, its windows start anew."""
    wait = {
        State.AUTH: (Timer.AUTH, 5_000),
        State.DEBIT: (Timer.DEBIT, DEBIT_MS),
        State.PAUSE: (Timer.PAUSE, s.rules.pause_ms),
        State.STOPPED: (Timer.STOPPED, s.rules.stopped_ms),
        State.LEAK: (Timer.SHUT, 5_000),
        State.STUCK: (Timer.SHUT, 5_000),
    }.get(state)
    moved = replace(
        s,
        state=state,
        armed=wait[0] if wait else None,
        window_ms=now,
        window_pulses=0,
        windows=0,
        end_until_ms=-1,
        shuts=0,
        good_polls=0,
        entry="",
    )
    return moved, (m.Arm(*wait) if wait else m.Disarm(),)


def idle(s: Shower, now: int, text: str, fen: int | None = None) -> Step:
    """Free for the next person; nothing of the last session stays."""
    assert s.outstanding is None, s
    fresh = Shower(s.rules, card_in=s.card_in, waiting=s.waiting, last_id=s.last_id)
    free, timer = enter(fresh, State.IDLE, now)
    return free, (*timer, Show(text, fen))


def meter(s: Shower, now: int) -> Step:
    """A METER checkpoint."""
    own = (
        ("state", CODES[s.state]),
        ("pulses", s.pulses),
        ("used_mfen", s.used_mfen),
        ("paid_fen", s.paid_fen),
    )
    marked = replace(s, metered_mfen=s.used_mfen, metered_ms=now)
    return marked, (Journal(Kind.METER, own=own),)


def doubted(s: Shower) -> Step:
    """What is outstanding becomes in doubt; no more is asked."""
    if s.outstanding is None:
        return s, ()
    record = Journal(Kind.DOUBT, s.outstanding_fen, s.outstanding, (("reason", "unknown"),))
    return replace(s, outstanding=None, outstanding_fen=0, asking=False), (record,)


def settled(s: Shower, reason: str) -> tuple[Action, ...]:
    """SETTLE: consumed is its amount; a card's residual is leased, a finished code is ended."""
    if s.payer is None or not s.started_ms:
        return ()
    own: list[tuple[str, int | str | bytes]] = [
        ("reason", reason),
        ("paid", s.paid_fen),
        ("residual", s.residual_fen),
    ]
    if s.payer is Payer.CARD and s.residual_fen:
        own.append(("lease_ms", s.rules.carry_ms))
    records = [Journal(Kind.SETTLE, s.consumed_fen, own=tuple(own))]
    if s.payer is Payer.CODE and reason in FINISHED:
        records.append(Journal(Kind.CODE_END, own=(("reason", reason),)))
    return tuple(records)


def close(s: Shower, now: int, reason: str, *extra: Action) -> Step:
    """Shut, checkpoint, and wait for quiet water and the outstanding debit."""
    moved, timer = enter(replace(s, reason=reason, asking=False), State.CLOSING, now)
    marked, record = meter(moved, now)
    return marked, (m.Shut(), *record, *extra, *timer, Show(reason))


def fail(s: Shower, now: int, state: State, code: str) -> Step:
    """Into LEAK, STUCK or FAULT: shut, doubt what is outstanding, settle if the disk allows."""
    plain, doubt = doubted(s)
    alarm = Journal(Kind.ALARM, own=(("code", code),))
    records = (*doubt, *settled(plain, s.reason or code.lower()), alarm)
    bare = Shower(s.rules, card_in=s.card_in, last_id=s.last_id, reason=code, disk_bad=s.disk_bad)
    moved, timer = enter(bare, state, now)
    return moved, (m.Shut(), *(() if s.disk_bad else records), *timer, Show(code))


def ask(s: Shower, fen: int, now: int) -> Step:
    """The next quantum, within the code's lease and the spend limit; one at a time."""
    if s.payer is Payer.CODE:
        fen = min(fen, s.allowance_fen)
    fen = min(fen, s.rules.max_spend_fen - s.paid_fen)
    if fen <= 0 or s.outstanding is not None:
        return s, ()
    name = s.last_id + 1
    asked = replace(s, outstanding=name, outstanding_fen=fen, asked_ms=now, last_id=name)
    return asked, (m.Debit(name, fen),)


def run(s: Shower, now: int) -> Step:
    """Into RUN, with a METER before the water."""
    moved, timer = enter(s, State.RUN, now)
    moved = replace(moved, confirmed_ms=now, pulse_ms=now, fast_polls=0)
    marked, record = meter(moved, now)
    return marked, (*record, m.Open(), *timer, Show("RUN"))


# ---- IDLE and AUTH


def card_in(s: Shower, _: m.Event, now: int) -> Step:
    """A card: 读卡中, check it."""
    moved, timer = enter(replace(s, card_in=True, waiting=False), State.AUTH, now)
    return replace(moved, payer=Payer.CARD), (Show("READING"), *timer, m.Authorise())


def card_seen(s: Shower, _: m.Event, __: int) -> Step:
    """A card comes at another time: in CLOSING it waits for IDLE, else it only is there."""
    return replace(s, card_in=True, waiting=s.state is State.CLOSING), ()


def card_gone(s: Shower, _: m.Event, __: int) -> Step:
    """The card goes where it pays nothing; the valve is told once more."""
    return replace(s, card_in=False, waiting=False), (m.Shut(),)


def digit(s: Shower, event: m.Digit, _: int) -> Step:
    """Up to nine digits; none with a card in the slot."""
    if s.card_in or len(s.entry) >= CODE_DIGITS:
        return s, ()
    typed = replace(s, entry=s.entry + event.text)
    if s.state is State.STOPPED:
        return typed, (Show("ENTRY"),)
    typed = replace(typed, armed=Timer.DIGITS)
    return typed, (Show("ENTRY"), m.Arm(Timer.DIGITS, 20_000))


def clear_entry(s: Shower, _: m.Event, __: int) -> Step:
    """The entry is cleared, by key or by time."""
    return replace(s, entry="", armed=None), (m.Disarm(), Show("IDLE"))


def run_idle(s: Shower, _: m.Event, now: int) -> Step:
    """Nine digits are checked; fewer are RESV_LENGTH."""
    if len(s.entry) < CODE_DIGITS:
        return s, (Show("RESV_LENGTH"), m.Beep(Tone.REFUSED))
    moved, timer = enter(s, State.AUTH, now)
    moved = replace(moved, payer=Payer.CODE, code=s.entry)
    return moved, (Show("CHECKING"), *timer, m.Authorise(s.entry))


def flow_idle(s: Shower, event: m.Flow, now: int) -> Step:
    """Water at rest is a leak; a card that waited is read."""
    total = s.window_pulses + event.pulses
    if total > s.rules.drip_pulses:
        return fail(s, now, State.LEAK, "LEAK")
    if s.waiting:
        return card_in(s, event, now)
    if now - s.window_ms >= LEAK_MS:
        return replace(s, window_ms=now, window_pulses=0), ()
    return replace(s, window_pulses=total), ()


def auth_ok(s: Shower, event: m.AuthOk, now: int) -> Step:
    """SESSION; a residual runs at once without a debit, else the first quantum is asked."""
    ready = replace(
        s,
        subject=event.subject,
        allowance_fen=event.allowance_fen,
        asking=True,
        started_ms=max(now, 1),
    )
    version = (("tariff_version", s.rules.tariff.version),)
    record = Journal(Kind.SESSION, own=version)
    if event.residual_fen >= 1:
        kind = Kind.RESIDUAL_USE if s.payer is Payer.CARD else Kind.QUANTUM
        own = (("session", event.source),) if s.payer is Payer.CARD else ()
        paid = replace(ready, paid_fen=event.residual_fen)
        going, actions = run(paid, now)
        return going, (record, Journal(kind, event.residual_fen, own=own), *actions)
    asked, debit = ask(ready, s.rules.first_fen, now)
    if not debit:
        return close(asked, now, "exhausted", record)
    moved, timer = enter(asked, State.DEBIT, now)
    return moved, (record, *timer, *debit)


def auth_no(s: Shower, event: m.AuthNo, now: int) -> Step:
    """Refused: its reason."""
    return idle(s, now, event.reason)


def auth_late(s: Shower, _: m.Event, now: int) -> Step:
    """No answer in time."""
    return idle(s, now, "AUTH_TIMEOUT")


def auth_out(s: Shower, _: m.Event, now: int) -> Step:
    """The card went before it paid; a code does not mind."""
    gone = replace(s, card_in=False)
    if s.payer is Payer.CODE:
        return gone, ()
    free, actions = idle(gone, now, "CARD_GONE")
    return free, (m.Shut(), *actions)


# ---- RUN, PAUSE, STOPPED


def flow_run(s: Shower, event: m.Flow, now: int) -> Step:
    """Count, look for what ends the water, else renew it and ask for the next quantum."""
    tariff, rules = s.rules.tariff, s.rules
    fast = flow_impossible(
        event.pulses, event.span_ms, tariff.pulses_per_litre, rules.max_flow_l_min
    )
    if fast:
        counted = replace(s, fast_polls=s.fast_polls + 1)
        return (
            fail(counted, now, State.FAULT, "FLOW_IMPOSSIBLE")
            if counted.fast_polls > 1
            else (counted, (m.Open(),))
        )
    counted = replace(
        s,
        fast_polls=0,
        pulses=s.pulses + event.pulses,
        open_ms=s.open_ms + (event.span_ms if event.open_fb else 0),
        confirmed_ms=now if event.open_fb else s.confirmed_ms,
        pulse_ms=now if event.pulses else s.pulse_ms,
    )
    stop = _stop(counted, event, now)
    return stop if stop is not None else _on(counted, event, now)


def _stop(s: Shower, event: m.Flow, now: int) -> Step | None:
    if s.used_mfen >= s.paid_fen * 1_000:
        return close(s, now, "exhausted")
    if now - s.confirmed_ms >= SETTLE_MS:
        return close(
            s, now, "VALVE_NOT_OPEN", Journal(Kind.ALARM, own=(("code", "VALVE_NOT_OPEN"),))
        )
    litres = s.pulses // s.rules.tariff.pulses_per_litre
    if now - s.started_ms >= s.rules.max_session_ms or litres >= s.rules.max_litres:
        return close(s, now, "limit")
    if event.open_fb and now - s.pulse_ms >= s.rules.no_flow_ms:
        moved, timer = enter(s, State.STOPPED, now)
        marked, record = meter(moved, now)
        return marked, (m.Shut(), *record, *timer, Show("STOPPED"))
    return None


def _on(s: Shower, event: m.Flow, now: int) -> Step:
    soon = s.rules.tariff.use_in_mfen(s.rules.low_water_ms, event.pulses, event.span_ms)
    actions: tuple[Action, ...] = ()
    if s.used_mfen - s.metered_mfen >= 1_000 and now - s.metered_ms >= METER_MS:
        s, actions = meter(s, now)
    actions = (*actions, m.Open())
    if s.asking and debit_due(s.paid_fen, s.used_mfen, s.rules.quantum_fen, soon):
        s, debit = ask(s, s.rules.quantum_fen, now)
        actions = (*actions, *debit)
    return s, actions


def pause(s: Shower, _: m.Event, now: int) -> Step:
    """Shut; the card or code stays bound, nothing is charged."""
    moved, timer = enter(s, State.PAUSE, now)
    marked, record = meter(moved, now)
    return marked, (m.Shut(), *record, *timer, Show("PAUSE"))


def resume(s: Shower, _: m.Event, now: int) -> Step:
    """Water again."""
    return run(s, now)


def flow_pause(s: Shower, event: m.Flow, now: int) -> Step:
    """Not charged; water that goes on after 2 s is STUCK."""
    watched, verdict = watch(s, event, now)
    if verdict is False:
        return fail(watched, now, State.STUCK, "VALVE_STUCK")
    return watched, ()


def watch(s: Shower, event: m.Flow, now: int) -> tuple[Shower, bool | None]:
    """Windows of 2 s with the valve shut: quiet, still running after the first, or not over."""
    total = s.window_pulses + event.pulses
    over = total > s.rules.drip_pulses
    if s.windows and over:
        return s, False
    if now - s.window_ms < SETTLE_MS:
        return replace(s, window_pulses=total), None
    fresh = replace(s, window_ms=now, window_pulses=0, windows=s.windows + 1)
    return fresh, None if over else True


def pulled(s: Shower, _: m.Event, now: int) -> Step:
    """The card is pulled: the normal end, or an interruption when water stopped."""
    gone = replace(s, card_in=False)
    if s.payer is Payer.CODE:
        return gone, (m.Shut(),) if s.state is not State.RUN else ()
    return close(gone, now, "interrupted" if s.state is State.STOPPED else "user_end")


def end_key(s: Shower, _: m.Event, now: int) -> Step:
    """A code ends by END twice within 3 s; a card by pulling it."""
    if s.payer is Payer.CARD:
        return s, (Show("PULL_CARD"),)
    if now < s.end_until_ms:
        return close(s, now, "user_end")
    return replace(s, end_until_ms=now + s.rules.end_ms), (m.Beep(), Show("END_AGAIN"))


def pause_over(s: Shower, _: m.Event, now: int) -> Step:
    """Paused for too long."""
    return close(s, now, "pause_timeout")


def stopped_over(s: Shower, _: m.Event, now: int) -> Step:
    """Nobody came back after the water stop."""
    return close(s, now, "interrupted")


def run_stopped(s: Shower, _: m.Event, now: int) -> Step:
    """The same code goes on without a new hold; anything else is asked again."""
    if s.payer is Payer.CODE and s.entry == s.code:
        return run(s, now)
    return replace(s, entry=""), (Show("CODE_AGAIN"),)
