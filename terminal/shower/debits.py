"""What a debit's result does to a shower session: it counts once, for its own id (T4, T5)."""

from __future__ import annotations

from dataclasses import replace

from firmware.ports import Beep as Tone
from protocols.wire.record import Kind
from terminal.shower import moves as m
from terminal.shower.moves import Action, Journal, Payer, Shower, State, Step
from terminal.shower.session import close, doubted, run


def debit_ok(s: Shower, event: m.DebitOk, now: int) -> Step:
    """CAPTURE; only the outstanding id is paid here, any other is late and buys nothing."""
    if event.id != s.outstanding:
        if s.disk_bad:
            return s, ()
        return s, (Journal(Kind.CAPTURE, event.fen, event.id, (("late", 1),)),)
    booked = replace(
        s,
        outstanding=None,
        outstanding_fen=0,
        paid_fen=s.paid_fen + event.fen,
        allowance_fen=max(0, s.allowance_fen - event.fen),
    )
    card = s.payer is Payer.CARD
    record: tuple[Action, ...] = (Journal(Kind.CAPTURE, event.fen, event.id),) if card else ()
    if s.state is not State.DEBIT:
        return booked, record
    going, actions = run(booked, now)
    return going, (*record, *actions)


def debit_no(s: Shower, event: m.DebitNo, now: int) -> Step:
    """Nothing debited: the first ends the session, a later one lets the remainder run out."""
    if event.id != s.outstanding:
        return s, ()
    plain = replace(s, outstanding=None, outstanding_fen=0, asking=False)
    if s.state is State.DEBIT:
        return close(plain, now, event.reason)
    return plain, (m.Beep(Tone.REFUSED),)


def debit_unknown(s: Shower, event: m.DebitUnknown, now: int) -> Step:
    """DOUBT; it buys no water (T4)."""
    if event.id != s.outstanding:
        return s, ()
    return debit_lost(s, event, now) if s.state is State.DEBIT else doubted(s)


def debit_lost(s: Shower, _: m.Event, now: int) -> Step:
    """The first debit has no answer: DOUBT, 结果未知 请重新放卡."""
    plain, record = doubted(s)
    return close(plain, now, "IN_DOUBT", *record)


def debit_out(s: Shower, event: m.Event, now: int) -> Step:
    """The card went in the middle of its debit; a code does not mind."""
    gone = replace(s, card_in=False)
    return (gone, ()) if s.payer is Payer.CODE else debit_lost(gone, event, now)
