"""One pass over posted batches: the TAC of every sale and the owner of every card counter.

TAC OK          the sale owns (card, counter); a second owner is a clone: dup-counter
not OK          the credited account waits in suspense:tac, the sale stays listed
late or no TAC  posted to suspense:tac already; OK clears it to merchant or wallet
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, select, update

from protocols.wire.record import Kind, Record
from sync.central import accounts, archive, schema, suspense
from sync.central.accounts import AccountIds
from sync.central.gather import cards_of
from sync.central.ledger import add_rows, alarm_row, item_row
from sync.central.posting import CardFacts, Code, Item, Leg
from sync.central.rules import S_TAC
from sync.central.suspense import LEG_DUPLICATE, LEG_HELD, Move
from sync.central.tac import TacDesk, TacResult

S_TAC_KEY = "POST_SUSPENSE_TAC_KEY"
S_DUP = "POST_SUSPENSE_CTR_DUP"
Key = tuple[int, int, int]
AnyRow = Row[tuple[object, ...]]

_segment, _transfer, _item = schema.segment, schema.transfer, schema.suspense_item
_card, _seen, _chain, _tac = schema.card, schema.card_seen, schema.card_chain, schema.tac_result
_SEGMENTS = (
    select(_segment)
    .where(_segment.c.batch > bindparam("a"), _segment.c.batch <= bindparam("b"))
    .order_by(_segment.c.batch, _segment.c.terminal, _segment.c.epoch, _segment.c.first_seq)
)
_POSTED = select(_transfer).where(
    _transfer.c.terminal == bindparam("t"),
    _transfer.c.epoch == bindparam("e"),
    _transfer.c.seq.between(bindparam("a"), bindparam("b")),
    _transfer.c.leg == 0,
)
_PARKED = select(_item).where(
    _item.c.terminal == bindparam("t"),
    _item.c.epoch == bindparam("e"),
    _item.c.seq == bindparam("s"),
    _item.c.reason == S_TAC,
    _item.c.state == suspense.OPEN,
)
_OWNERS = select(_seen.c.card, _seen.c.ctr).where(
    _seen.c.card.in_(bindparam("cards", expanding=True)),
    _seen.c["class"] == 0,
    _seen.c.ctr.in_(bindparam("ctrs", expanding=True)),
)
_ADVANCE = (
    update(_chain)
    .where(
        _chain.c.card == bindparam("c"),
        _chain.c["class"] == 0,
        _chain.c.next_ctr <= bindparam("ctr"),
    )
    .values(next_ctr=bindparam("nx"), balance_fen=bindparam("fen"))
)
_MARK_SUSPECT = (
    update(_card).where(_card.c.id == bindparam("c"), _card.c.suspect == 0).values(suspect=1)
)
_BAD_COUNT = select(func.count()).where(
    _tac.c.terminal == bindparam("t"),
    _tac.c.day == bindparam("d"),
    _tac.c.result == int(TacResult.BAD),
)


@dataclass(frozen=True, slots=True)
class Sale:
    """A posted CAPTURE with its INTENT and its transfer."""

    key: Key
    record: Record
    intent: Record | None
    leg: AnyRow
    event_us: int


@dataclass(slots=True)
class Judged:
    """What a pass will write."""

    tac: list[dict[str, object]] = field(default_factory=list)
    seen: dict[tuple[int, int], dict[str, object]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    items: list[dict[str, object]] = field(default_factory=list)
    alarms: list[dict[str, object]] = field(default_factory=list)
    suspects: set[int] = field(default_factory=set)
    cleared: list[AnyRow] = field(default_factory=list)
    bad: set[tuple[int, int]] = field(default_factory=set)  # (terminal, day)


def judge_batches(
    connection: Connection, span: tuple[int, int], tac: TacDesk, ids: AccountIds, now_us: int
) -> Judged:
    """Check and book every sale of the batches in (a, b]."""
    sales = _sales(connection, span)
    judged = Judged()
    if not sales:
        return judged
    cards = cards_of(connection, {s.record.inst for s in sales if s.record.inst is not None})
    owners = _owned(connection, sales, cards)
    fixed = ids.many(connection, (accounts.TAC, accounts.DUP))
    for sale in sales:
        assert sale.record.inst is not None, sale.key
        card = cards.get(sale.record.inst)
        result = tac.check(sale.intent, sale.record.get("tac"))
        if result is TacResult.BAD and sale.record.get("late"):
            result = TacResult.MISSING  # PROVE may have spoken of a later debit (card.md §6.2)
        judged.tac.append(_tac_row(sale, result, now_us))
        if result is TacResult.OK:
            _proved(connection, sale, card, owners, fixed, judged, now_us)
        else:
            _unproved(sale, card, result, fixed, judged, now_us)
    _write(connection, judged, now_us)
    _check_shadows(connection, cards, fixed[accounts.TAC], now_us)
    return judged


def owner_row(
    card: int, intent: Record, key: Key, intent_seq: int, event_us: int
) -> dict[str, object]:
    """The row that makes a record the owner of a card counter."""
    before_fen = intent.get("purse_before") or 0
    return {
        "card": card,
        "class": 0,
        "ctr": intent.ctr,
        "terminal": key[0],
        "epoch": key[1],
        "seq": key[2],
        "intent_seq": intent_seq,
        "before_fen": before_fen,
        "after_fen": before_fen - intent.fen,
        "event_us": event_us,
    }


def advance_chain(connection: Connection, rows: list[dict[str, object]]) -> None:
    """Move each card's chain to its highest proved counter; rows as `owner_row` makes them."""
    steps = [
        {
            "c": row["card"],
            "ctr": row["ctr"],
            "nx": int(str(row["ctr"])) + 1,
            "fen": row["after_fen"],
        }
        for row in sorted(rows, key=lambda row: (row["card"], row["ctr"]))
    ]
    if steps:
        connection.execute(_ADVANCE, steps)


def hold_totals(
    connection: Connection, bad: set[tuple[int, int]], day_max: int, now_us: int
) -> None:
    """More than `day_max` BAD from one terminal in a day: its unsettled total is held too."""
    table = schema.terminal
    for terminal, day in sorted(bad):
        count = connection.execute(_BAD_COUNT, {"t": terminal, "d": day}).scalar_one()
        if count <= day_max:
            continue
        held = connection.execute(
            update(table)
            .where(table.c.id == terminal, table.c.held_us.is_(None))
            .values(held_us=now_us)
        )
        if held.rowcount:
            row = alarm_row(terminal, "TERMINAL_HELD", [day, count], now_us)
            connection.execute(insert(schema.alarm), row)


def undenied(connection: Connection) -> bool:
    """Whether a card became suspect (1) since the last `cards` list; it counts as listed (2) now."""
    listed = update(_card).where(_card.c.suspect == 1).values(suspect=2)
    return connection.execute(listed).rowcount > 0


class _Reach:
    """The INTENTs and CAPTUREs of the batches looked at, and how far each lane was read."""

    def __init__(self, connection: Connection, span: tuple[int, int]) -> None:
        self.intents: dict[Key, Record] = {}
        self.captures: list[tuple[Key, Record, int]] = []
        self.lanes: dict[tuple[int, int], tuple[int, int]] = {}
        for row in connection.execute(_SEGMENTS, {"a": span[0], "b": span[1]}).all():
            self._segment(row)

    def _segment(self, row: AnyRow) -> None:
        part = archive.filed(row.cose, row.first_seq, row.n)
        lane = (row.terminal, row.epoch)
        low, high = self.lanes.get(lane, (row.first_seq, 0))
        last = row.first_seq + row.n - 1
        self.lanes[lane] = (min(low, row.first_seq), max(high, last))
        for n, body in enumerate(part.bodies):
            record = archive.record_of(body)
            key = (row.terminal, row.epoch, row.first_seq + n)
            if record is not None and record.kind == Kind.INTENT:
                self.intents[key] = record
            elif record is not None and record.kind == Kind.CAPTURE:
                self.captures.append((key, record, row.offset_us))

    def posted(self, connection: Connection) -> dict[Key, AnyRow]:
        """First transfers of the records looked at."""
        found: dict[Key, AnyRow] = {}
        for (terminal, epoch), (low, high) in self.lanes.items():
            asked = {"t": terminal, "e": epoch, "a": low, "b": high}
            for leg in connection.execute(_POSTED, asked):
                found[leg.terminal, leg.epoch, leg.seq] = leg
        return found


def _sales(connection: Connection, span: tuple[int, int]) -> list[Sale]:
    """The posted CAPTUREs of the batches, each with its INTENT, wherever that was archived."""
    reach = _Reach(connection, span)
    posted = reach.posted(connection) if reach.captures else {}
    found = []
    for key, record, offset_us in reach.captures:
        if key not in posted or record.ref is None:
            continue
        at = (key[0], key[1], record.ref)
        intent = reach.intents.get(at) or archive.record_at(connection, key[:2], record.ref)
        event_us = (intent or record).wall_us + offset_us
        found.append(Sale(key, record, intent, posted[key], event_us))
    return found


def _owned(
    connection: Connection, sales: list[Sale], cards: dict[bytes, CardFacts]
) -> set[tuple[int, int]]:
    if not cards:
        return set()
    asked = {
        "cards": sorted(card.card for card in cards.values()),
        "ctrs": sorted({s.record.ctr for s in sales if s.record.ctr is not None}),
    }
    return {(row.card, row.ctr) for row in connection.execute(_OWNERS, asked)}


def _tac_row(sale: Sale, result: TacResult, now_us: int) -> dict[str, object]:
    at = {"terminal": sale.key[0], "epoch": sale.key[1], "seq": sale.key[2]}
    return {**at, "result": int(result), "day": sale.leg.event_day, "checked_us": now_us}


def _proved(
    connection: Connection,
    sale: Sale,
    card: CardFacts | None,
    owners: set[tuple[int, int]],
    fixed: dict[str, int],
    judged: Judged,
    now_us: int,
) -> None:
    if card is None or sale.intent is None or sale.intent.ctr is None:
        return
    place = (card.card, sale.intent.ctr)
    if place in owners:
        _duplicate(sale, card, fixed, judged, now_us)
    else:
        owners.add(place)
        assert sale.record.ref is not None
        judged.seen[place] = owner_row(
            card.card, sale.intent, sale.key, sale.record.ref, sale.event_us
        )
    if sale.leg.credit == fixed[accounts.TAC]:
        asked = {"t": sale.key[0], "e": sale.key[1], "s": sale.key[2]}
        parked = connection.execute(_PARKED, asked).one_or_none()
        if parked is not None:
            judged.cleared.append(parked)


def _duplicate(
    sale: Sale, card: CardFacts, fixed: dict[str, int], judged: Judged, now_us: int
) -> None:
    """Two valid certificates for one counter: the chip spent once, a clone the other time."""
    dup, fen = fixed[accounts.DUP], sale.record.fen
    leg = Leg(LEG_DUPLICATE, dup, card.purse, fen, Code.DUPLICATE)
    judged.moves.append(Move(sale.key, leg))
    item = Item(dup, S_DUP, -fen, fen, target=card.purse, card=card.card, ctr=sale.record.ctr)
    judged.items.append(item_row(sale.key, item, None, now_us))
    judged.suspects.add(card.card)
    facts = [sale.record.inst, sale.record.ctr, fen]
    judged.alarms.append(alarm_row(sale.key[0], S_DUP, facts, now_us))


def _unproved(
    sale: Sale,
    card: CardFacts | None,
    result: TacResult,
    fixed: dict[str, int],
    judged: Judged,
    now_us: int,
) -> None:
    if result is TacResult.BAD:
        judged.bad.add((sale.key[0], sale.leg.event_day))
    held = fixed[accounts.TAC]
    if sale.leg.credit == held or sale.leg.code == Code.TORN:
        return  # waits in suspense already
    leg = Leg(LEG_HELD, sale.leg.credit, held, sale.record.fen, Code.TAC_HELD)
    judged.moves.append(Move(sale.key, leg))
    item = Item(
        held,
        S_TAC_KEY if result is TacResult.UNKNOWN_KEY else S_TAC,
        sale.record.fen,
        sale.record.fen,
        target=sale.leg.credit,
        origin=sale.leg.debit,
        card=None if card is None else card.card,
        ctr=sale.record.ctr,
        intent_seq=sale.record.ref,
    )
    judged.items.append(item_row(sale.key, item, None, now_us))
    facts = [sale.key[1], sale.key[2], sale.record.fen, int(result)]
    judged.alarms.append(alarm_row(sale.key[0], S_TAC, facts, now_us))


def _write(connection: Connection, judged: Judged, now_us: int) -> None:
    add_rows(connection, "tac_result", judged.tac)
    rows = list(judged.seen.values())
    add_rows(connection, "card_seen", rows)
    advance_chain(connection, rows)
    if judged.moves:
        suspense.post_moves(connection, judged.moves, now_us)
    add_rows(connection, "suspense_item", judged.items)
    add_rows(connection, "alarm", judged.alarms)
    for item in judged.cleared:
        suspense.clear(connection, item, proved=True, now_us=now_us)
    if judged.suspects:
        connection.execute(_MARK_SUSPECT, [{"c": card} for card in sorted(judged.suspects)])


def _check_shadows(
    connection: Connection, cards: dict[bytes, CardFacts], held: int, now_us: int
) -> None:
    """A purse that paid more than it ever held is proof of forged value: denylist, alarm."""
    open_held = (
        select(func.coalesce(func.sum(_item.c.fen), 0))
        .where(_item.c.card == _card.c.id, _item.c.account == held, _item.c.state == suspense.OPEN)
        .scalar_subquery()
    )
    balance = schema.balance
    below = (
        select(_card.c.id, _card.c.asn, balance.c.fen)
        .join(balance, balance.c.account == _card.c.purse)
        .where(
            and_(
                _card.c.id.in_(sorted(card.card for card in cards.values())),
                _card.c.suspect == 0,
                balance.c.fen < 0,
                balance.c.fen + open_held < 0,
            )
        )
    )
    for row in connection.execute(below).all() if cards else ():
        connection.execute(_MARK_SUSPECT, {"c": row.id})
        facts = alarm_row(None, "CARD_FORGED_VALUE", [row.asn, row.fen], now_us)
        connection.execute(insert(schema.alarm), facts)
