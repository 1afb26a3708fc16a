"""Reads what rules need to know before a batch is posted: open intents, cards, sales to reverse.

A few statements for the whole batch; a lane whose records refer only to each other needs none but
the cards'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, select

from protocols.wire.record import Kind, Record
from sync.central import schema
from sync.central.accounts import FIXED, AccountIds
from sync.central.ingest_core import Arrival, Lane
from sync.central.posting import CardFacts, Code, DoubtState, LaneView, OpenIntent, Sale

FIXED_CODES = tuple(code for code, _ in FIXED)
_REFERRING = {
    Kind.CAPTURE,
    Kind.VOID,
    Kind.DOUBT,
    Kind.DOUBT_UP,
    Kind.DOUBT_DONE,
    Kind.ABANDON,
}

_card, _loss = schema.card, schema.card_loss
_CARDS = (
    select(_card.c.asn, _card.c.id, _card.c.purse, _card.c.wallet, _loss.c.reported_us)
    .select_from(
        _card.outerjoin(_loss, and_(_loss.c.card == _card.c.id, _loss.c.lifted_us.is_(None)))
    )
    .where(_card.c.asn.in_(bindparam("asns", expanding=True)))
)
_intent, _doubt = schema.intent, schema.doubt
_INTENTS = (
    select(
        _intent.c.seq,
        _intent.c.body,
        _intent.c.abandoned,
        _intent.c.decided,
        _doubt.c.seq.label("doubt"),
    )
    .select_from(
        _intent.outerjoin(
            _doubt,
            and_(
                _doubt.c.terminal == _intent.c.terminal,
                _doubt.c.epoch == _intent.c.epoch,
                _doubt.c.seq == _intent.c.seq,
            ),
        )
    )
    .where(
        _intent.c.terminal == bindparam("t"),
        _intent.c.epoch == bindparam("e"),
        _intent.c.seq.in_(bindparam("seqs", expanding=True)),
    )
)
_transfer, _reversal, _item = schema.transfer, schema.reversal, schema.suspense_item
_second = schema.transfer.alias("second")
_SALES = (
    select(
        _transfer.c.seq,
        _transfer.c.debit,
        _transfer.c.fen,
        _reversal.c.seq.label("by"),
        func.coalesce(_item.c.target, _transfer.c.credit).label("receiver"),
        _second.c.leg.label("loss"),
    )
    .select_from(
        _transfer.outerjoin(
            _reversal,
            and_(
                _reversal.c.orig_terminal == _transfer.c.terminal,
                _reversal.c.orig_epoch == _transfer.c.epoch,
                _reversal.c.orig_seq == _transfer.c.seq,
            ),
        )
        .outerjoin(
            _item,  # where it waited from the beginning; what a worker parked went to credit first
            and_(
                _item.c.terminal == _transfer.c.terminal,
                _item.c.epoch == _transfer.c.epoch,
                _item.c.seq == _transfer.c.seq,
                _item.c.account == _transfer.c.credit,
            ),
        )
        .outerjoin(
            _second,
            and_(
                _second.c.terminal == _transfer.c.terminal,
                _second.c.epoch == _transfer.c.epoch,
                _second.c.seq == _transfer.c.seq,
                _second.c.code == int(Code.LOSS),
            ),
        )
    )
    .where(
        _transfer.c.terminal == bindparam("t"),
        _transfer.c.epoch == bindparam("e"),
        _transfer.c.leg == 0,
        _transfer.c.code != 14,  # a REVERSAL cannot be reversed
        _transfer.c.seq.in_(bindparam("seqs", expanding=True)),
    )
)


@dataclass(frozen=True, slots=True)
class Part:
    """The records of one arrival that will be posted, from index `skip`."""

    arrival: Arrival
    skip: int

    @property
    def first(self) -> int:
        """Seq of the first record to post."""
        return self.arrival.segment.first + self.skip

    @property
    def records(self) -> tuple[Record | None, ...]:
        """The records to post."""
        return self.arrival.records[self.skip :]

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """Their bytes."""
        return self.arrival.segment.bodies[self.skip :]


def views(
    connection: Connection, ids: AccountIds, lanes: Mapping[tuple[int, int], Lane], work: list[Part]
) -> dict[tuple[int, int], LaneView]:
    """A view for every lane in `work`."""
    by_lane: dict[tuple[int, int], list[Record]] = {}
    for part in work:
        known = (record for record in part.records if record is not None)
        by_lane.setdefault(part.arrival.lane_key, []).extend(known)
    named = {r.inst for records in by_lane.values() for r in records if r.inst is not None}
    cards = cards_of(connection, named)
    fixed = ids.many(connection, FIXED_CODES)
    found: dict[tuple[int, int], LaneView] = {}
    for part in work:
        key = part.arrival.lane_key
        if key in found:
            continue
        enrolled = part.arrival.enrolled
        view = LaneView(enrolled.role, enrolled.merchant, lanes[key].offset_us, fixed, cards)
        _fill(connection, key, by_lane[key], view)
        found[key] = view
    return found


def cards_of(connection: Connection, asns: Iterable[bytes]) -> dict[bytes, CardFacts]:
    """The cards of ours among these numbers, with an open loss report."""
    wanted = sorted(set(asns))
    if not wanted:
        return {}
    return {
        row.asn: CardFacts(row.id, row.purse, row.wallet, row.reported_us)
        for row in connection.execute(_CARDS, {"asns": wanted})
    }


def _fill(
    connection: Connection, key: tuple[int, int], records: Sequence[Record], view: LaneView
) -> None:
    here = {record.seq for record in records}
    refs = {r.ref for r in records if r.kind in _REFERRING and r.ref is not None} - here
    if refs:
        asked = {"t": key[0], "e": key[1], "seqs": sorted(refs)}
        for row in connection.execute(_INTENTS, asked):
            view.intents[row.seq] = OpenIntent(
                Record.decode(row.body),
                abandoned=bool(row.abandoned),
                decided=DoubtState(row.decided),
                stored=True,
                doubted=row.doubt is not None,
            )
        strangers = {i.record.inst for i in view.intents.values()} - view.cards.keys()
        if strangers:
            known = cards_of(connection, (asn for asn in strangers if asn is not None))
            view.cards = {**view.cards, **known}
    back = {r.ref for r in records if r.kind == Kind.REVERSAL and r.ref is not None} - here
    if back:
        for sale in connection.execute(_SALES, {"t": key[0], "e": key[1], "seqs": sorted(back)}):
            by = 0 if sale.by is None else 1
            lost = sale.loss is not None
            view.sales[sale.seq] = Sale(sale.debit, sale.fen, by, sale.receiver, lost)
