"""The till's state machine: pure, one table, every pair named (terminals.md §6.1).

    CLOSED_SHIFT --operator card--> IDLE --keys--> AMOUNT --ENTER--> ARMED --card--> AUTHORISE
    AUTHORISE --> APPROVED | DECLINED | IN_DOUBT --20 s--> ASK_SERVED
    IDLE --VOID, SHIFT--> OPERATOR --card--> READING --> VOID_ARM | CLOSED_SHIFT
    fixed mode: ARMED takes the place of IDLE; PAUSED: nothing sold until cured; FAULT: for good

Nobody waits for a message to fade: in APPROVED and DECLINED a key or a card is handled at once as
in the state that follows. A writing action stands before whatever depends on it.
"""

from __future__ import annotations

from dataclasses import replace

from firmware.ports import Beep
from protocols.errors import MoneyRangeError, MoneyTextError
from protocols.money import parse_yuan
from terminal.canteen.asks import Hold
from terminal.canteen.moves import (
    Action,
    Arm,
    Back,
    Block,
    CardHere,
    CardRead,
    Digits,
    Disarm,
    Dot,
    Due,
    Event,
    Fatal,
    Menu,
    Mode,
    Purpose,
    Session,
    Show,
    StartRead,
    StartTap,
    State,
    Step,
    TapCut,
    TapDoubt,
    TapPaid,
    TapRefused,
    TapWithheld,
    Timer,
    VoidKey,
    WriteAbandon,
    WriteReversal,
    WriteServed,
    WriteShift,
)

ARM_MS = 30_000
MESSAGE_MS = 3_000
DOUBT_MS = 20_000
ENTRY_MAX = 9
RIGHT_OF = {Purpose.OPEN: "shift", Purpose.CLOSE: "shift", Purpose.VOID: "void"}


def resting(session: Session) -> State:
    """The state in which the till waits for the next person."""
    if session.block is not None:
        return State.PAUSED
    return State.ARMED if session.mode is Mode.FIXED else State.IDLE


def rest(session: Session) -> Step:
    """Back to waiting, everything of the last sale forgotten."""
    state = resting(session)
    fresh = replace(
        session,
        state=state,
        entry="",
        fen=session.fixed_fen if state is State.ARMED else 0,
        hold=None,
        asked=False,
        purpose=None,
        operator=None,
        last=None,
    )
    text = session.block if state is State.PAUSED and session.block else _READY[state]
    return fresh, (Disarm(), Show(text, fen=fresh.fen or None))


_READY = {State.IDLE: "KEY_AMOUNT", State.ARMED: "TAP_CARD", State.PAUSED: "PAUSED"}


def decline(session: Session, code: str, after: State) -> Step:
    """Show a reason; it fades to `after` by itself, by a key or by the next card."""
    shown = Show(code, fen=session.fen or None, beep=Beep.REFUSED)
    fresh = replace(session, state=State.DECLINED, after=after, hold=None, asked=False)
    return fresh, (shown, Arm(Timer.MESSAGE, MESSAGE_MS))


def faded(session: Session) -> Step:
    """What stands behind a message."""
    if session.state is State.APPROVED or session.after is not State.ARMED or session.block:
        if session.state is State.DECLINED and session.after is State.CLOSED_SHIFT:
            return replace(session, state=State.CLOSED_SHIFT), (Disarm(), Show("CLOSED_SHIFT"))
        return rest(session)
    return arm(session, session.fen)


def arm(session: Session, fen: int) -> Step:
    """An amount waits for a card."""
    timer: Action = Disarm() if session.mode is Mode.FIXED else Arm(Timer.ARM, ARM_MS)
    armed = replace(session, state=State.ARMED, fen=fen, hold=None, asked=False)
    return armed, (timer, Show("TAP_CARD", fen=fen))


# ---- keys


def key_amount(session: Session, event: Digits | Dot | Back | Menu) -> Step:
    """Keyed text, at most two decimals and max_sale_fen; a key that does not fit is refused."""
    if isinstance(event, Menu):
        return _menu(session, event)
    if isinstance(event, Back):
        entry = session.entry[:-1]
    else:
        entry = session.entry + (event.text if isinstance(event, Digits) else ".")
        entry = "0." if entry == "." else entry
    if not entry:
        return rest(session)
    refused = _entry_fault(session, entry)
    if refused is not None:
        return session, (Show(refused, beep=Beep.REFUSED),)
    return replace(session, state=State.AMOUNT, entry=entry), (Disarm(), Show("AMOUNT"))


def _entry_fault(session: Session, entry: str) -> str | None:
    try:
        amount = parse_yuan(entry.removesuffix(".") if entry.count(".") == 1 else entry)
    except (MoneyTextError, MoneyRangeError) as fault:
        return fault.code
    if len(entry) > ENTRY_MAX:
        return MoneyTextError.code
    return "LIMIT_TAP" if amount > session.max_fen else None


def _menu(session: Session, event: Menu) -> Step:
    if event.fen is None:
        return session, (Show("PRICE_MISSING", beep=Beep.REFUSED),)
    total = session.fen + event.fen
    if total > session.max_fen:
        return session, (Show("LIMIT_TAP", beep=Beep.REFUSED),)
    return replace(session, state=State.AMOUNT, fen=total), (Disarm(), Show("AMOUNT", fen=total))


def enter_amount(session: Session, _: Event) -> Step:
    """ENTER with 0 < amount <= max arms the till; anything else is said and stays."""
    if session.mode is Mode.MENU:
        return arm(session, session.fen)
    try:
        fen = parse_yuan(session.entry.removesuffix("."))
    except (MoneyTextError, MoneyRangeError) as fault:
        return session, (Show(fault.code, beep=Beep.REFUSED),)
    if fen == 0:
        return session, (Show("AMOUNT_ZERO", beep=Beep.REFUSED),)
    return arm(session, fen)


def to_rest(session: Session, _: Event) -> Step:
    """CANCEL, or a time that ran out."""
    return rest(session)


def void_key(session: Session, event: VoidKey) -> Step:
    """撤销: an operator with the right first, then the payer's own card."""
    if _amount_waits(session):
        return session, ()
    if event.last is None:
        return decline(session, "VOID_NOTHING", resting(session))
    return _ask_operator(replace(session, last=event.last), Purpose.VOID)


def shift_key(session: Session, _: Event) -> Step:
    """班次: closing is always possible, offline is normal."""
    if _amount_waits(session):
        return session, ()
    return _ask_operator(session, Purpose.CLOSE)


def _amount_waits(session: Session) -> bool:
    """A keyed amount waits for its card: no office act pushes it away."""
    return session.state is State.ARMED and session.mode is not Mode.FIXED


def _ask_operator(session: Session, purpose: Purpose) -> Step:
    asked = replace(session, state=State.OPERATOR, purpose=purpose, entry="")
    return asked, (Arm(Timer.ARM, ARM_MS), Show("OPERATOR_CARD"))


# ---- cards


def card_no_amount(session: Session, _: Event) -> Step:
    """A card before an amount: nothing happens, the screen says what is missing."""
    return session, (Show("KEY_AMOUNT", beep=Beep.ATTENTION),)


def card_in(session: Session, event: CardHere) -> Step:
    """A card against the amount, or against the sale in doubt."""
    fen = session.hold.fen if session.hold is not None else session.fen
    timer = () if session.hold is not None else (Disarm(),)  # the doubt's 20 s run on
    started = replace(session, state=State.AUTHORISE, fen=fen)
    return started, (*timer, Show("HOLD_STILL", fen=fen), StartTap(fen, event.uid, session.hold))


def card_to_read(session: Session, _: Event) -> Step:
    """A card that is only read: an operator's, or the payer's of a void."""
    purpose = session.purpose or Purpose.OPEN
    reading = replace(session, state=State.READING, purpose=purpose)
    return reading, (Disarm(), Show("HOLD_STILL"), StartRead())


def card_read(session: Session, event: CardRead) -> Step:
    """What the card that was read may do."""
    assert session.purpose is not None, session
    if session.purpose is Purpose.PAYER:
        return _void(session, event)
    if RIGHT_OF[session.purpose] not in event.rights:
        return decline(session, "OPERATOR_UNKNOWN", _home(session))
    if session.purpose is Purpose.OPEN:
        opened, shown = rest(session)
        return opened, (WriteShift(opened=True, operator=event.asn), *shown)
    if session.purpose is Purpose.CLOSE:
        closed = replace(rest(session)[0], state=State.CLOSED_SHIFT, fen=0)
        write = WriteShift(opened=False, operator=event.asn)
        return closed, (write, Disarm(), Show("SHIFT_CLOSED"))
    assert session.last is not None, session
    waiting = replace(session, state=State.VOID_ARM, purpose=Purpose.PAYER, operator=event.asn)
    return waiting, (Arm(Timer.ARM, ARM_MS), Show("VOID_CARD", fen=session.last.fen))


def _void(session: Session, event: CardRead) -> Step:
    assert session.last is not None, session
    assert session.operator is not None, session
    if event.asn != session.last.asn:
        return decline(session, "VOID_OTHER_CARD", resting(session))
    done = replace(session, state=State.APPROVED, purpose=None)
    shown = Show("VOIDED", fen=session.last.fen, beep=Beep.PAID)
    write = WriteReversal(session.last, session.operator)
    return done, (write, shown, Arm(Timer.MESSAGE, MESSAGE_MS))


def _home(session: Session) -> State:
    return State.CLOSED_SHIFT if session.purpose is Purpose.OPEN else resting(session)


def read_failed(session: Session, event: TapCut | TapRefused) -> Step:
    """The card to be read was not ours, or went."""
    return decline(session, event.code, _home(session))


# ---- outcomes of a purchase


def paid(session: Session, event: TapPaid) -> Step:
    """成功: until the next key or card, at most 3 s."""
    done = replace(session, state=State.APPROVED, hold=None, asked=False)
    shown = Show("PAID", event.fen, event.balance_fen, Beep.PAID)
    return done, (shown, Arm(Timer.MESSAGE, MESSAGE_MS))


def refused(session: Session, event: TapRefused) -> Step:
    """A reason; the amount is kept. An unreadable card does not end a doubt."""
    if session.hold is not None and event.held:
        return _back_to_doubt(session, event.code)
    return decline(session, event.code, State.ARMED)


def cut(session: Session, event: TapCut) -> Step:
    """Gone before the DEBIT: 请重新放卡, the amount is kept."""
    if session.hold is not None and event.held:
        return _back_to_doubt(session, "IN_DOUBT")
    if session.block is not None:
        return rest(session)
    armed, actions = arm(session, session.fen)
    return armed, (*actions[:-1], Show(event.code, fen=session.fen, beep=Beep.ATTENTION))


def other_card(session: Session, _: Event) -> Step:
    """请让上一位重新放卡."""
    return _back_to_doubt(session, "OTHER_CARD")


def _back_to_doubt(session: Session, text: str) -> Step:
    state = State.ASK_SERVED if session.asked else State.IN_DOUBT
    return replace(session, state=state), (Show(text, beep=Beep.ATTENTION),)


def withheld(session: Session, event: TapWithheld) -> Step:
    """Committed by a record that buys nothing, or forged: 请到卡务中心."""
    return decline(session, event.code, resting(session))


def doubt(session: Session, event: TapDoubt, now_ms: int) -> Step:
    """结果未知 请重新放卡."""
    hold = Hold(event.intent, event.asn, session.fen, now_ms)
    held = replace(session, state=State.IN_DOUBT, hold=hold, asked=False)
    shown = Show("IN_DOUBT", fen=hold.fen, beep=Beep.ATTENTION)
    return held, (shown, Arm(Timer.DOUBT, DOUBT_MS))


def ask_served(session: Session, event: Due) -> Step:
    """20 s in doubt: ask the cashier; nothing is abandoned by time."""
    if event.timer is not Timer.DOUBT:
        return session, ()
    if session.state is State.AUTHORISE:
        return replace(session, asked=session.hold is not None), ()
    asked = replace(session, state=State.ASK_SERVED, asked=True)
    return asked, (Show("ASK_SERVED", beep=Beep.ATTENTION),)


def served(session: Session, _: Event) -> Step:
    """已出餐: the sale stays in doubt for the merchant."""
    assert session.hold is not None, session
    calm, shown = rest(session)
    return calm, (WriteServed(session.hold.intent), *shown)


def abandon(session: Session, _: Event) -> Step:
    """No meal was given: if the debit proves committed, the money is the holder's."""
    assert session.hold is not None, session
    calm, shown = rest(session)
    return calm, (WriteAbandon(session.hold.intent), *shown)


# ---- the rest


def block(session: Session, event: Block) -> Step:
    """暂停服务 with its code; a running sale is always finished first."""
    blocked = replace(session, block=event.code)
    if session.state in _STOPPABLE:
        return rest(blocked)
    return blocked, ()


_STOPPABLE = frozenset({State.PAUSED, State.IDLE, State.AMOUNT, State.ARMED})


def unblock(session: Session, _: Event) -> Step:
    """Cured: the till reopens by itself."""
    free = replace(session, block=None)
    return rest(free) if session.state is State.PAUSED else (free, ())


def fault(session: Session, event: Fatal) -> Step:
    """Nothing is sold until a person acts; a debit already sent is in doubt at the next boot."""
    stopped = replace(session, state=State.FAULT, block=event.code)
    return stopped, (Disarm(), Show(event.code, beep=Beep.REFUSED))


def resume(session: Session, hold: Hold | None, *, open_shift: bool) -> Step:
    """The state after a boot: the sale that was cut off is asked about first."""
    if not open_shift:
        return replace(session, state=State.CLOSED_SHIFT), (Show("CLOSED_SHIFT"),)
    if hold is None:
        return rest(session)
    asked = replace(session, state=State.ASK_SERVED, hold=hold, asked=True, fen=hold.fen)
    return asked, (Show("ASK_SERVED", beep=Beep.ATTENTION),)
