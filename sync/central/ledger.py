"""The rows of one posting transaction, gathered first and written set-based (ledger.md §5).

Nothing here begins or commits; the caller's transaction does. Balances move with the transfers,
in account order, so a reported balance is always current.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, update

from protocols.bizday import DAY_S, business_day
from protocols.wire import cbor
from protocols.wire.record import Record
from sync.central import schema
from sync.central.posting import DoubtState, Effect, Item, LaneView, Leg, OpenIntent
from sync.errors import BusyError

Row = dict[str, Any]
Key = tuple[int, int, int]  # terminal, epoch, seq
DAY_US = DAY_S * 1_000_000
PAST_DAYS_MAX = 400  # older than any terminal keeps: its clock was wrong

_MOVE = (
    update(schema.balance)
    .where(schema.balance.c.account == bindparam("a"))
    .values(fen=schema.balance.c.fen + bindparam("d"))
)
_CURSOR = (
    update(schema.lane)
    .where(
        schema.lane.c.terminal == bindparam("t"),
        schema.lane.c.epoch == bindparam("e"),
        schema.lane.c.next_seq == bindparam("first"),
        schema.lane.c.tip_h == bindparam("prev"),
        schema.lane.c.state == 0,
    )
    .values(next_seq=bindparam("nx"), tip_h=bindparam("tip"), mark_us=bindparam("mark"))
)


def _keyed(table: Table) -> tuple[Any, ...]:
    return (
        table.c.terminal == bindparam("t"),
        table.c.epoch == bindparam("e"),
        table.c.seq == bindparam("s"),
    )


_INTENT_DROP = delete(schema.intent).where(*_keyed(schema.intent))
_INTENT_MARK = (
    update(schema.intent).where(*_keyed(schema.intent)).values(abandoned=bindparam("gone"))
)
_DOUBT_CLOSE = (
    update(schema.doubt)
    .where(*_keyed(schema.doubt), schema.doubt.c.state == int(DoubtState.OPEN))
    .values(state=bindparam("to"), via=bindparam("how"))
)
_DOUBT_FEED = update(schema.doubt).where(*_keyed(schema.doubt)).values(evidence=bindparam("fed"))
_COMMAND_SEEN = (
    update(schema.command)
    .where(schema.command.c.id == bindparam("c"), schema.command.c.terminal == bindparam("t"))
    .values(state=1, cmd_epoch=bindparam("e"), cmd_seq=bindparam("s"))
)
_COMMAND_DONE = (
    update(schema.command)
    .where(
        schema.command.c.terminal == bindparam("t"),
        schema.command.c.cmd_epoch == bindparam("e"),
        schema.command.c.cmd_seq == bindparam("s"),
    )
    .values(state=2, result=bindparam("said"))
)
_SUSPECT = (
    update(schema.card)
    .where(schema.card.c.asn == bindparam("n"), schema.card.c.suspect == 0)
    .values(suspect=1)
)
_INSERTS = {
    table.name: insert(table)
    for table in (
        schema.segment,
        schema.transfer,
        schema.suspense_item,
        schema.intent,
        schema.doubt,
        schema.boot,
        schema.reversal,
        schema.alarm,
        schema.tac_result,
        schema.card_seen,
        schema.outbox,
    )
}


def event_day(record: Record, offset_us: int, received_us: int) -> int:
    """Business day of a record by the corrected time; the day of receipt for a clock not to trust."""
    at_us = record.wall_us + offset_us
    sane = received_us - PAST_DAYS_MAX * DAY_US < at_us <= received_us + DAY_US
    return business_day(at_us if sane and not record.flags & 1 else received_us)


def move(connection: Connection, legs: Iterable[Leg]) -> None:
    """Apply legs to the balances, one net change per account, in account order."""
    net: dict[int, int] = defaultdict(int)
    for leg in legs:
        net[leg.debit] -= leg.fen
        net[leg.credit] += leg.fen
    changes = [{"a": account, "d": net[account]} for account in sorted(net) if net[account]]
    if changes:
        moved = connection.execute(_MOVE, changes)
        assert moved.rowcount == len(changes), (moved.rowcount, changes)


def add_rows(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    """Insert rows; none is no statement."""
    if rows:
        connection.execute(_INSERTS[table], rows)


def transfer_row(key: Key, leg: Leg, times: tuple[int, int], batch: int) -> Row:
    """The row of a leg: `key` = (terminal, epoch, seq), `times` = (event_us, event_day)."""
    return {
        "terminal": key[0],
        "epoch": key[1],
        "seq": key[2],
        "leg": leg.leg,
        "debit": leg.debit,
        "credit": leg.credit,
        "fen": leg.fen,
        "code": int(leg.code),
        "event_us": times[0],
        "event_day": times[1],
        "day": times[1],
        "batch": batch,
    }


def item_row(key: Key, item: Item, raw: bytes | None, now_us: int) -> Row:
    """The row of a suspense item opened by record `key`."""
    return {
        "account": item.account,
        "terminal": key[0],
        "epoch": key[1],
        "seq": key[2],
        "reason": item.reason,
        "fen": item.fen,
        "claim_fen": item.claim_fen,
        "target": item.target,
        "origin": item.origin,
        "card": item.card,
        "ctr": item.ctr,
        "depends_seq": item.depends_seq,
        "intent_seq": item.intent_seq,
        "raw": raw,
        "opened_us": now_us,
        "state": 0,
    }


def alarm_row(terminal: int | None, code: str, facts: object, now_us: int) -> Row:
    """The row of an alarm; facts are any CBOR value."""
    return {"at_us": now_us, "terminal": terminal, "code": code, "facts": cbor.dumps(facts)}


@dataclass(slots=True)
class Entry:
    """Rows gathered for one batch."""

    batch: int
    now_us: int
    legs: list[Leg] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    later: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    lists: dict[tuple[int, str], Row] = field(default_factory=dict)

    def posted(
        self,
        key: Key,
        legs: Sequence[Leg],
        times: tuple[int, int],
    ) -> None:
        """Keep the transfers of a record."""
        self.legs += legs
        self.rows["transfer"] += [transfer_row(key, leg, times, self.batch) for leg in legs]

    def opened(self, key: Key, items: Sequence[Item], raw: bytes) -> None:
        """Keep the suspense items of a record, with its bytes where nothing was posted."""
        for item in items:
            kept = None if item.fen else raw
            self.rows["suspense_item"].append(item_row(key, item, kept, self.now_us))

    def effect(self, key: Key, effect: Effect, view: LaneView) -> None:
        """Keep what a record changes besides money."""
        keep = _EFFECTS.get(effect.what)
        if keep is not None:  # open, captured, void, abandon: the view has them, `settle` writes
            keep(self, key, effect, view)

    def alarm(self, terminal: int | None, code: str, facts: object) -> None:
        """Keep an alarm."""
        self.rows["alarm"].append(alarm_row(terminal, code, facts, self.now_us))

    def settle(self, terminal: int, epoch: int, view: LaneView) -> None:
        """Keep what is still open on a lane, forget what was closed."""
        for seq, found, effect in view.closed:
            at = {"t": terminal, "e": epoch, "s": seq}
            if found.stored:
                self.later["drop"].append(at)
            if found.stored or found.doubted:
                state = DoubtState.COMMITTED if effect.what == "captured" else DoubtState.VOID
                self.later["close"].append({**at, "to": int(state), "how": effect.args[0]})
        for seq, found in view.intents.items():
            if not found.stored:
                row = {"terminal": terminal, "epoch": epoch, "seq": seq}
                kept = {"body": found.record.encode(), "abandoned": int(found.abandoned)}
                self.rows["intent"].append(row | kept | {"decided": 0})
            elif found.changed:
                at = {"t": terminal, "e": epoch, "s": seq}
                self.later["mark"].append({**at, "gone": int(found.abandoned)})

    def write(self, connection: Connection) -> None:
        """All statements but the cursor's, each once for the whole batch."""
        for table in _INSERTS:
            add_rows(connection, table, self.rows.get(table, ()))
        move(connection, self.legs)
        for name, statement in _LATER.items():
            if self.later.get(name):
                connection.execute(statement, self.later[name])
        for row in self.lists.values():
            take_list(connection, row)

    def doubt(self, key: Key, effect: Effect, view: LaneView) -> None:
        """DOUBT: a row from its INTENT, once."""
        found = view.intents[effect.seq]
        if not found.doubted:
            row = doubt_row(key[0], key[1], found, view, self.now_us)
            self.rows["doubt"].append(row)

    def evidence(self, key: Key, effect: Effect, view: LaneView) -> None:
        """DOUBT_UP: the newest evidence counts."""
        at = {"t": key[0], "e": key[1], "s": effect.seq}
        self.later["evidence"].append({**at, "fed": cbor.dumps(effect.args[0])})

    def forged(self, key: Key, effect: Effect, view: LaneView) -> None:
        """DOUBT_UP{forged}: the card goes to the suspect list."""
        self.later["suspect"].append({"n": effect.args[0]})
        self.alarm(key[0], "CARD_FORGED", [key[1], key[2], effect.args[0]])

    def list_taken(self, key: Key, effect: Effect, view: LaneView) -> None:
        """POLICY: the list version now in force there."""
        name, version = effect.args
        row = {"terminal": key[0], "epoch": key[1], "seq": key[2]}
        self.lists[key[0], name] = row | {"name": name, "version": version}

    def command(self, key: Key, effect: Effect, view: LaneView) -> None:
        """CMD: the terminal has it."""
        at = {"t": key[0], "e": key[1], "s": key[2]}
        self.later["command"].append({**at, "c": effect.args[0]})

    def done(self, key: Key, effect: Effect, view: LaneView) -> None:
        """CMD_DONE: the result."""
        at = {"t": key[0], "e": key[1], "s": effect.seq}
        self.later["done"].append({**at, "said": effect.args[0]})

    def rang(self, key: Key, effect: Effect, view: LaneView) -> None:
        """ALARM of the terminal, or of a rule."""
        self.alarm(key[0], str(effect.args[0]), [key[1], key[2], *effect.args[1:]])

    def boot(self, key: Key, effect: Effect, view: LaneView) -> None:
        """BOOT: its random id, by which an old copy is told from a late message."""
        row = {"terminal": key[0], "epoch": key[1], "seq": key[2]}
        told = {"boot_id": effect.args[0], "boot_no": effect.args[1]}
        self.rows["boot"].append(row | told)

    def reversed(self, key: Key, effect: Effect, view: LaneView) -> None:
        """REVERSAL: at most one per CAPTURE, by primary key too."""
        orig = {"orig_terminal": key[0], "orig_epoch": key[1], "orig_seq": effect.seq}
        by = {"terminal": key[0], "epoch": key[1], "seq": key[2]}
        self.rows["reversal"].append(orig | {"orig_leg": 0} | by)


_EFFECTS: dict[str, Callable[[Entry, Key, Effect, LaneView], None]] = {
    "doubt": Entry.doubt,
    "evidence": Entry.evidence,
    "forged": Entry.forged,
    "list": Entry.list_taken,
    "command": Entry.command,
    "done": Entry.done,
    "alarm": Entry.rang,
    "boot": Entry.boot,
    "reversed": Entry.reversed,
}
_LATER = {
    "drop": _INTENT_DROP,
    "mark": _INTENT_MARK,
    "evidence": _DOUBT_FEED,
    "close": _DOUBT_CLOSE,
    "suspect": _SUSPECT,
    "command": _COMMAND_SEEN,
    "done": _COMMAND_DONE,
}


def doubt_row(terminal: int, epoch: int, found: OpenIntent, view: LaneView, now_us: int) -> Row:
    """The row of a doubt about an open INTENT."""
    record = found.record
    card = None if record.inst is None else view.cards.get(record.inst)
    return {
        "terminal": terminal,
        "epoch": epoch,
        "seq": record.seq,
        "card": None if card is None else card.card,
        "class": 0,
        "ctr": record.ctr,
        "fen": record.fen,
        "before_fen": record.get("purse_before"),
        "state": int(DoubtState.OPEN),
        "opened_us": now_us,
    }


def take_list(connection: Connection, row: Row) -> None:
    """Note the list version a terminal has in force (its POLICY record)."""
    table = schema.list_taken
    same = (table.c.terminal == row["terminal"], table.c.name == row["name"])
    changed = connection.execute(update(table).where(*same).values(row))
    if changed.rowcount == 0:
        connection.execute(insert(table), row)


def move_cursor(connection: Connection, rows: Sequence[Row]) -> None:
    """The lane cursor, guarded by what it was: the one thing that makes posting exactly-once.

    Raises BUSY when another worker moved a lane meanwhile; the whole batch is tried again.
    """
    if connection.execute(_CURSOR, rows).rowcount != len(rows):
        raise BusyError(lanes=len(rows))
