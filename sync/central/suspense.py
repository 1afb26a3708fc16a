"""Suspense items: what waits, and the three ways it ends: proved, disproved, or by a person.

An item's `fen` is what stands on its account because of it (signed); the sum over open items is the
account's balance (audit C12). Worker moves carry the record's key with a leg of their own, so no
item can be cleared twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, select, update

from protocols.bizday import business_day
from sync.central import schema
from sync.central.ledger import add_rows, move, transfer_row
from sync.central.office import close_item
from sync.central.operations import Operation
from sync.central.posting import Code, Leg
from sync.errors import OfficeStateError, OfficeUnknownError

OPEN, CLEARED, RETURNED = 0, 1, 2
LEG_HELD = 8  # credited account -> suspense:tac
LEG_CLEARED = 9  # suspense -> target or origin
LEG_DUPLICATE = 10  # suspense:dup-counter -> purse
LEG_DOUBT = 11  # purse -> merchant or wallet, by decision of the centre

_item = schema.suspense_item
_BY_ID = select(_item).where(_item.c.id == bindparam("i"))
_CLOSE = (
    update(_item)
    .where(_item.c.id == bindparam("i"), _item.c.state == OPEN)
    .values(state=bindparam("to"), resolved_us=bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class Move:
    """A worker's transfer: keyed by the record it is about, and a leg number of its own."""

    key: tuple[int, int, int]
    leg: Leg


def post_moves(connection: Connection, moves: list[Move], now_us: int) -> None:
    """Write worker transfers and move the balances, in the caller's transaction."""
    day = business_day(now_us)
    rows = [transfer_row(one.key, one.leg, (now_us, day), 0) for one in moves]
    add_rows(connection, "transfer", rows)
    move(connection, [one.leg for one in moves])


def clear(connection: Connection, item: Row[tuple[object, ...]], proved: bool, now_us: int) -> None:
    """End an open item: to its target when proved, back to its origin when not."""
    receiver = item.target if proved else item.origin
    assert receiver is not None, item.id
    leg = Leg(LEG_CLEARED, item.account, receiver, item.fen, Code.CLEARED)
    post_moves(connection, [Move((item.terminal, item.epoch, item.seq), leg)], now_us)
    state = CLEARED if proved else RETURNED
    closed = connection.execute(_CLOSE, {"i": item.id, "to": state, "now": now_us})
    assert closed.rowcount == 1, item.id


def resolve(operation: Operation, item: int, target: int) -> int:
    """A person's decision: the item's fen to `target`. Raises OFFICE_UNKNOWN, OFFICE_STATE."""
    row = operation.connection.execute(_BY_ID, {"i": item}).one_or_none()
    if row is None:
        raise OfficeUnknownError(item=item)
    if row.state != OPEN:
        raise OfficeStateError(item=item, state="closed")
    if target == row.account:
        raise OfficeStateError(item=item, state="there already")
    if row.fen > 0:
        operation.transfer([Leg(0, row.account, target, row.fen, Code.RESOLVED)])
    elif row.fen < 0:
        operation.transfer([Leg(0, target, row.account, -row.fen, Code.RESOLVED)])
    close_item(operation, item)
    return int(row.fen)
