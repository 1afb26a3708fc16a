"""What one record posts: a pure function of the record and a view of its lane (ledger.md §3.3).

A rule never rejects. What cannot be booked normally goes to a suspense account, and what cannot
even be attributed opens an item that posts nothing. Nothing here depends on how far the workers
are, so the same archive always gives the same transfers (audit C3). The view is brought up to date
by `LaneView.absorb` after each record.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.wire.record import Kind, Record
from sync.central import accounts
from sync.central.posting import (
    NOTHING,
    CardFacts,
    Code,
    DoubtState,
    Effect,
    Item,
    LaneView,
    Leg,
    OpenIntent,
    Posting,
)

S_TAC = "POST_SUSPENSE_TAC"
S_CARD = "POST_SUSPENSE_CARD"
S_LOSS = "POST_SUSPENSE_LOSS"
S_TORN = "POST_SUSPENSE_TORN"
S_KIND = "POST_SUSPENSE_KIND"
S_REF = "POST_SUSPENSE_REF"
S_REVERSAL = "POST_SUSPENSE_REVERSAL"
NO_TAC = bytes(4)

Rule = Callable[[Record, LaneView], Posting]


def post(record: Record | None, view: LaneView) -> Posting:
    """Transfers, suspense items and effects of one record; None is an undecodable one."""
    if record is None:
        return _undecodable(view)
    rule = RULES.get(record.kind)
    return _unbooked(record, view) if rule is None else rule(record, view)


def event_us(record: Record, view: LaneView) -> int:
    """When it happened by the centre's clock: terminal time plus the lane's offset."""
    return record.wall_us + view.offset_us


def _undecodable(view: LaneView) -> Posting:
    return Posting(items=(Item(view.fixed[accounts.KIND], S_KIND, 0, 0),))


def _unbooked(record: Record, view: LaneView) -> Posting:
    """A kind without rules yet, or unknown: kept with its amount, posts nothing."""
    return Posting(items=(Item(view.fixed[accounts.KIND], S_KIND, 0, record.fen),))


def _nothing(record: Record, view: LaneView) -> Posting:
    return NOTHING


def _misplaced(record: Record, view: LaneView) -> Posting:
    """Refers to nothing that is open: the record is kept and a person looks at it."""
    item = Item(view.fixed[accounts.KIND], S_REF, 0, record.fen)
    return Posting(items=(item,), effects=(Effect("alarm", record.seq, (S_REF,)),))


def _open(record: Record, view: LaneView) -> OpenIntent | None:
    return None if record.ref is None else view.intents.get(record.ref)


def _intent(record: Record, view: LaneView) -> Posting:
    if record.get("means") != 0 or record.inst is None or record.ctr is None or not record.fen:
        return _unbooked(record, view)  # pay codes and channels have no rules yet; 0 fen never
    return Posting(effects=(Effect("open", record.seq),))


def _capture(record: Record, view: LaneView) -> Posting:
    found = _open(record, view)
    if found is None:
        return _misplaced(record, view)
    intent = found.record
    if view.role != "canteen":
        return _unbooked(record, view)
    assert record.ref is not None
    closing = Effect("captured", record.ref, (record.get("via"),))
    if found.decided is DoubtState.COMMITTED:
        return Posting(effects=(closing,))  # the centre booked it when it decided
    if record.fen == 0 or (record.inst, record.ctr, record.fen) != (
        intent.inst,
        intent.ctr,
        intent.fen,
    ):
        wrong = _misplaced(record, view)
        return Posting(items=wrong.items, effects=(*wrong.effects, closing))
    booked = _sale(record, found, view)
    return Posting(booked.legs, booked.items, (*booked.effects, closing))


def _sale(record: Record, found: OpenIntent, view: LaneView) -> Posting:
    assert record.inst is not None
    card = view.cards.get(record.inst)
    if card is None:
        return _stranger(record, view)
    target = card.wallet if found.abandoned else view.merchant
    loss = _loss(record, found, card, view)
    if found.decided is not DoubtState.OPEN:
        return _plus(_parked(record, card, target, accounts.TORN, S_TORN, view), loss)
    unproved = record.get("late") or record.get("tac") in (None, NO_TAC)
    if unproved or found.abandoned:  # a wallet is spendable at once: never credited unproved
        return _plus(_parked(record, card, target, accounts.TAC, S_TAC, view), loss)
    sale = Leg(0, card.purse, target, record.fen, Code.SALE)
    return _plus(Posting(legs=(sale,)), loss)


def _stranger(record: Record, view: LaneView) -> Posting:
    """A card that was never issued: the merchant is served, the fen is looked for."""
    debit = view.fixed[accounts.UNKNOWN_CARD]
    leg = Leg(0, debit, view.merchant, record.fen, Code.UNKNOWN_CARD)
    item = Item(debit, S_CARD, -record.fen, record.fen, ctr=record.ctr, intent_seq=record.ref)
    return Posting((leg,), (item,), (Effect("alarm", record.seq, (S_CARD,)),))


def _parked(
    record: Record, card: CardFacts, target: int, place: str, reason: str, view: LaneView
) -> Posting:
    """Money that left the purse, but whose receiver must be proved first (card.md §6.3)."""
    account = view.fixed[place]
    code = Code.TORN if reason == S_TORN else Code.LATE
    item = Item(
        account,
        reason,
        record.fen,
        record.fen,
        target=target,
        origin=card.purse,
        card=card.card,
        ctr=record.ctr,
        intent_seq=record.ref,
    )
    return Posting((Leg(0, card.purse, account, record.fen, code),), (item,))


def _loss(record: Record, found: OpenIntent, card: CardFacts, view: LaneView) -> Posting:
    """A debit after the loss report is the school's: the purse is made whole (services.md §8)."""
    if card.lost_us is None or event_us(found.record, view) < card.lost_us:
        return NOTHING
    account = view.fixed[accounts.POST_LOSS]
    leg = Leg(1, account, card.purse, record.fen, Code.LOSS)
    item = Item(
        account,
        S_LOSS,
        -record.fen,
        record.fen,
        target=card.purse,
        card=card.card,
        ctr=record.ctr,
        intent_seq=record.ref,
    )
    return Posting((leg,), (item,))


def _plus(left: Posting, right: Posting) -> Posting:
    return Posting(left.legs + right.legs, left.items + right.items, left.effects + right.effects)


def _void(record: Record, view: LaneView) -> Posting:
    if _open(record, view) is None:
        return _misplaced(record, view)
    assert record.ref is not None
    return Posting(effects=(Effect("void", record.ref, (record.get("via"),)),))


def _doubt(record: Record, view: LaneView) -> Posting:
    found = _open(record, view)
    if found is None:
        return _misplaced(record, view)
    assert record.ref is not None
    return Posting(effects=(Effect("doubt", record.ref, (record.get("reason"),)),))


def _doubt_up(record: Record, view: LaneView) -> Posting:
    found = _open(record, view)
    if found is None:
        return _misplaced(record, view)
    assert record.ref is not None
    fed = Effect("evidence", record.ref, (record.get("evidence"),))
    if not record.get("forged"):
        return Posting(effects=(fed,))
    return Posting(effects=(fed, Effect("forged", record.ref, (record.inst,))))


def _doubt_done(record: Record, view: LaneView) -> Posting:
    """The terminal heard the centre's decision; the intent is closed for it."""
    found = _open(record, view)
    if found is None or found.decided is DoubtState.OPEN:
        return _misplaced(record, view)
    assert record.ref is not None
    what = "captured" if found.decided is DoubtState.COMMITTED else "void"
    return Posting(effects=(Effect(what, record.ref, ("centre",)),))


def _abandon(record: Record, view: LaneView) -> Posting:
    if _open(record, view) is None:
        return _misplaced(record, view)
    assert record.ref is not None
    return Posting(effects=(Effect("abandon", record.ref),))


def _reversal(record: Record, view: LaneView) -> Posting:
    """Merchant -> wallet, by way of suspense:tac until the sale itself is proved.

    Only what the merchant has can be given back: not a sale whose money is the holder's already.
    """
    sale = None if record.ref is None else view.sales.get(record.ref)
    fits = sale is not None and sale.receiver == view.merchant and 0 < record.fen <= sale.fen
    if sale is None or sale.reversed_by or not fits:
        item = Item(view.fixed[accounts.KIND], S_REVERSAL, 0, record.fen)
        return Posting(items=(item,), effects=(Effect("alarm", record.seq, (S_REVERSAL,)),))
    assert record.ref is not None
    back = Effect("reversed", record.ref)
    card = None if record.inst is None else view.cards.get(record.inst)
    if card is None or sale.debit != card.purse or sale.lost:  # a lost card's purse is whole again
        place = view.fixed[accounts.POST_LOSS] if sale.lost else sale.debit
        leg = Leg(0, view.merchant, place, record.fen, Code.REVERSAL)
        item = Item(place, S_REVERSAL, record.fen, record.fen)
        return Posting((leg,), (item,), (back,))
    held = view.fixed[accounts.TAC]
    leg = Leg(0, view.merchant, held, record.fen, Code.REVERSAL)
    item = Item(
        held,
        S_REVERSAL,
        record.fen,
        record.fen,
        target=card.wallet,
        origin=view.merchant,
        card=card.card,
        depends_seq=record.ref,
    )
    return Posting((leg,), (item,), (back,))


def _policy(record: Record, view: LaneView) -> Posting:
    taken = (record.get("list"), record.get("version"))
    return Posting(effects=(Effect("list", record.seq, taken),))


def _command(record: Record, view: LaneView) -> Posting:
    return Posting(effects=(Effect("command", record.seq, (record.get("command_id"),)),))


def _command_done(record: Record, view: LaneView) -> Posting:
    return Posting(effects=(Effect("done", record.ref or 0, (record.get("result"),)),))


def _alarm(record: Record, view: LaneView) -> Posting:
    told = (record.get("code"), record.get("arguments"))
    return Posting(effects=(Effect("alarm", record.seq, told),))


def _boot(record: Record, view: LaneView) -> Posting:
    return Posting(effects=(Effect("boot", record.seq, (record.get("boot_id"), record.boot_no)),))


RULES: dict[int, Rule] = {
    Kind.EPOCH: _nothing,
    Kind.BOOT: _boot,
    Kind.STATE: _nothing,
    Kind.POLICY: _policy,
    Kind.MARK: _nothing,
    Kind.CMD: _command,
    Kind.ALARM: _alarm,
    Kind.SHIFT: _nothing,
    Kind.CMD_DONE: _command_done,
    Kind.INTENT: _intent,
    Kind.CAPTURE: _capture,
    Kind.VOID: _void,
    Kind.DOUBT: _doubt,
    Kind.DOUBT_UP: _doubt_up,
    Kind.DOUBT_DONE: _doubt_done,
    Kind.ABANDON: _abandon,
    Kind.REVERSAL: _reversal,
}
