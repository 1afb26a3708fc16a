"""C3: post the whole archive again and compare, transfer by transfer.

The rules are the product's own; what is checked is that the books hold exactly what they give, no
leg more, no leg less, and that every later move of a worker has the item or doubt that caused it.
What a rule could see then (cards issued, losses reported, doubts decided) is known by batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select

from protocols.wire.record import Record
from sync.central import archive, schema, suspense
from sync.central.accounts import FIXED
from sync.central.ledger import event_day, transfer_row
from sync.central.posting import CardFacts, DoubtState, LaneView, Posting
from sync.central.rules import post

Finding = tuple[list[str], str]
AnyRow = Row[tuple[object, ...]]
Key = tuple[int, int, int]
WORKER_LEGS = 8  # legs from here on are moved by workers

_card, _loss, _doubt = schema.card, schema.card_loss, schema.doubt
_segment, _batch, _transfer = schema.segment, schema.batch, schema.transfer
_item, _operation, _terminal = schema.suspense_item, schema.operation, schema.terminal
_COMPARED = ("debit", "credit", "fen", "code", "event_us", "event_day", "day", "batch")


def rebuild(connection: Connection, full: bool) -> Finding:
    """Post the archive again; only with `full`, because it reads everything."""
    if not full:
        return [], "not rebuilt (needs --full)"
    work = Rebuild(connection)
    for row in connection.execute(_SEGMENTS).all():
        work.segment(row)
    return [*work.wrong, *work.left_over(), *_workers(connection)], (
        f"{work.records} records posted again, {work.legs} transfers equal"
    )


_SEGMENTS = (
    select(_segment, _batch.c.posted_us, _terminal.c.role, _terminal.c.merchant)
    .join(_batch, _batch.c.id == _segment.c.batch)
    .join(_terminal, _terminal.c.id == _segment.c.terminal)
    .order_by(_segment.c.batch, _segment.c.terminal, _segment.c.epoch, _segment.c.first_seq)
)


@dataclass(frozen=True, slots=True)
class CardsThen(Mapping[bytes, CardFacts]):
    """The cards as a posting of batch `batch` could see them."""

    rows: dict[bytes, AnyRow]
    losses: dict[int, list[AnyRow]]
    batch: int

    def __getitem__(self, asn: bytes) -> CardFacts:
        row = self.rows[asn]
        if row.after_batch >= self.batch:
            raise KeyError(asn)
        lost = [
            loss.reported_us
            for loss in self.losses.get(row.id, ())
            if loss.after_batch < self.batch
            and (loss.lifted_after_batch is None or loss.lifted_after_batch >= self.batch)
        ]
        return CardFacts(row.id, row.purse, row.wallet, lost[-1] if lost else None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Rebuild:
    """Walks the archive in posting order with one view per lane."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wrong: list[str] = []
        self.records = 0
        self.legs = 0
        codes = {code for code, _ in FIXED}
        accounts = connection.execute(select(schema.account.c.code, schema.account.c.id))
        self.fixed = {code: key for code, key in accounts if code in codes}
        self.cards = {row.asn: row for row in connection.execute(select(_card))}
        self.losses: dict[int, list[AnyRow]] = defaultdict(list)
        for row in connection.execute(select(_loss).order_by(_loss.c.id)):
            self.losses[row.card].append(row)
        decided = select(_doubt).where(_doubt.c.decided_batch.is_not(None))
        self.decided = {
            (row.terminal, row.epoch, row.seq): row for row in connection.execute(decided)
        }
        self.views: dict[tuple[int, int], LaneView] = {}
        self.stored: dict[Key, dict[int, AnyRow]] = defaultdict(dict)
        booked = select(_transfer).where(_transfer.c.terminal != 0, _transfer.c.leg < WORKER_LEGS)
        for row in connection.execute(booked):
            self.stored[row.terminal, row.epoch, row.seq][row.leg] = row
        self.items: dict[Key, list[tuple[int, str, int]]] = defaultdict(list)
        for row in connection.execute(select(_item)):
            found = (row.account, row.reason, row.claim_fen)
            self.items[row.terminal, row.epoch, row.seq].append(found)

    def segment(self, row: AnyRow) -> None:
        """Post every record of an archived segment again."""
        lane = (row.terminal, row.epoch)
        view = self.views.get(lane)
        if view is None:
            view = LaneView(row.role, row.merchant, 0, self.fixed, {})
            self.views[lane] = view
        view.offset_us = row.offset_us
        view.cards = CardsThen(self.cards, self.losses, row.batch)
        part = archive.filed(row.cose, row.first_seq, row.n)
        for n, body in enumerate(part.bodies):
            record = archive.record_of(body)
            key = (*lane, row.first_seq + n)
            self._decide(lane, record, row.batch, view)
            posting = post(record, view)
            self._compare(key, record, posting, row)
            if record is not None:
                view.absorb(record, posting)
            view.closed.clear()
            self.records += 1

    def _decide(
        self, lane: tuple[int, int], record: Record | None, batch: int, view: LaneView
    ) -> None:
        """What the centre had decided about the record's intent before this batch."""
        if record is None or record.ref is None or record.ref not in view.intents:
            return
        found = self.decided.get((*lane, record.ref))
        if found is not None and found.decided_batch < batch:
            view.intents[record.ref].decided = DoubtState(found.state)

    def _compare(self, key: Key, record: Record | None, posting: Posting, row: AnyRow) -> None:
        stored = self.stored.pop(key, {})
        for leg in posting.legs:
            assert record is not None, key
            day = event_day(record, row.offset_us, row.posted_us)
            expected = transfer_row(key, leg, (record.wall_us, day), row.batch)
            found = stored.pop(leg.leg, None)
            if found is None:
                self.wrong.append(f"record {key} leg {leg.leg}: {leg.fen} fen not booked")
                continue
            self.legs += 1
            bad = [name for name in _COMPARED if getattr(found, name) != expected[name]]
            if bad:
                self.wrong.append(f"record {key} leg {leg.leg}: {', '.join(bad)} differs")
        for extra in stored:
            self.wrong.append(
                f"record {key} leg {extra}: booked, but the archive gives no such leg"
            )
        for item in posting.items:
            told = (item.account, item.reason, item.claim_fen)
            if told not in self.items.get(key, []):
                self.wrong.append(f"record {key}: item {item.reason} is missing")

    def left_over(self) -> list[str]:
        """Transfers that no archived record gives."""
        return [
            f"record {key}: booked, but not archived" for key, legs in self.stored.items() if legs
        ]


def _workers(connection: Connection) -> list[str]:
    """Moves of workers and of the office each have their cause."""
    wrong = []
    items: dict[Key, list[AnyRow]] = defaultdict(list)
    for row in connection.execute(select(_item)):
        items[row.terminal, row.epoch, row.seq].append(row)
    doubts = {(row.terminal, row.epoch, row.seq): row for row in connection.execute(select(_doubt))}
    operations = set(connection.scalars(select(_operation.c.seq)))
    moves = select(_transfer).where((_transfer.c.terminal == 0) | (_transfer.c.leg >= WORKER_LEGS))
    for row in connection.execute(moves):
        key = (row.terminal, row.epoch, row.seq)
        if row.terminal == 0:
            caused = row.seq in operations
        elif row.leg == suspense.LEG_DOUBT:
            doubt = doubts.get(key)
            caused = doubt is not None and (doubt.state, doubt.fen) == (
                int(DoubtState.COMMITTED),
                row.fen,
            )
        else:
            caused = any(_by_item(row, item) for item in items[key])
        if not caused:
            wrong.append(f"transfer {(*key, row.leg)}: {row.fen} fen without a cause")
    return wrong


def _by_item(row: AnyRow, item: AnyRow) -> bool:
    """Whether an item explains a worker's move."""
    if row.leg == suspense.LEG_CLEARED:
        receiver = item.target if item.state == suspense.CLEARED else item.origin
        return (row.debit, row.credit, row.fen) == (item.account, receiver, item.fen)
    if row.leg == suspense.LEG_HELD:
        return (row.debit, row.credit, row.fen) == (item.target, item.account, item.fen)
    return (row.debit, row.credit, row.fen) == (item.account, item.target, -item.fen)
