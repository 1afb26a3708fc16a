"""How a shower session ends: CLOSING, the faults, and the ways back to IDLE (terminals.md §5.3)."""

from __future__ import annotations

from dataclasses import replace

from protocols.wire.record import Kind
from terminal.shower import moves as m
from terminal.shower.moves import Action, Journal, Payer, Show, Shower, State, Step, Timer
from terminal.shower.session import DEBIT_MS, close, doubted, fail, idle, settled, watch

GOOD_POLLS = 3


def flow_closing(s: Shower, event: m.Flow, now: int) -> Step:
    """Quiet, shut and nothing outstanding: SETTLE and IDLE; still running after 2 s: STUCK."""
    doubt: tuple[Action, ...] = ()
    if s.outstanding is not None and now - max(s.asked_ms, 0) >= DEBIT_MS:
        s, doubt = doubted(s)
    watched, quiet = watch(s, event, now)
    if quiet is False:
        stuck, actions = fail(watched, now, State.STUCK, "VALVE_STUCK")
        return stuck, (actions[0], *doubt, *actions[1:])
    if not quiet or not event.shut_fb or watched.outstanding is not None:
        return watched, doubt
    records = settled(watched, watched.reason)
    beep = (m.Beep(),) if watched.card_in else ()
    free, actions = idle(watched, now, "RESULT", watched.consumed_fen)
    return free, (*doubt, *records, *actions, *beep)


def revoke(s: Shower, event: m.Revoke, now: int) -> Step:
    """The code of this session was revoked."""
    if s.payer is not Payer.CODE or event.subject != s.subject:
        return s, ()
    return close(s, now, "revoked")


def bus_lost(s: Shower, _: m.Event, now: int) -> Step:
    """The board is silent: FAULT."""
    return fail(s, now, State.FAULT, "BUS_LOST")


def tamper(s: Shower, _: m.Event, now: int) -> Step:
    """Touched: FAULT."""
    return fail(s, now, State.FAULT, "TAMPER")


def disk(s: Shower, _: m.Event, now: int) -> Step:
    """The journal is gone: FAULT for good, nothing more is written; the boot settles."""
    return fail(replace(s, disk_bad=True), now, State.FAULT, "JOURNAL_FAIL")


def held(s: Shower, event: m.Event, _: int) -> Step:
    """Staff must come: a further fault only shuts again, and never opens a way round CLEAR."""
    return replace(s, disk_bad=s.disk_bad or isinstance(event, m.DiskFault)), (m.Shut(),)


def shut_again(s: Shower, _: m.Event, __: int) -> Step:
    """Every 5 s three times, then every 60 s."""
    again = replace(s, shuts=s.shuts + 1)
    return again, (m.Shut(), m.Arm(Timer.SHUT, 5_000 if again.shuts < 3 else 60_000))


def cleared(s: Shower, event: m.Clear, now: int) -> Step:
    """Back to IDLE if the shut test passed and the disk can write."""
    if not event.shut_ok or s.disk_bad:
        return s, (m.Shut(), Show(s.reason))
    record = Journal(Kind.ALARM, own=(("code", "CLEARED"), ("by", event.staff)))
    free, actions = idle(s, now, "IDLE")
    return free, (record, *actions)


def flow_fault(s: Shower, event: m.Flow, now: int) -> Step:
    """Three good polls in a row cure a fault, but not the disk's."""
    good = event.shut_fb and event.pulses <= s.rules.drip_pulses
    polls = s.good_polls + 1 if good else 0
    if polls >= GOOD_POLLS and not s.disk_bad:
        return idle(s, now, "IDLE")
    return replace(s, good_polls=polls), ()
