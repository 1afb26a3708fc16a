"""Acts of people and online requests: once per idem key, with their transfers (ledger.md §5).

The caller makes and stores the idem key before it asks. The same key and request give the stored
result; the same key with another request is IDEM_CONFLICT. Transfers made here carry terminal 0
and the operation's seq.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from protocols.bizday import business_day
from protocols.wire import cbor
from sync.central import schema
from sync.central.ledger import add_rows, move, transfer_row
from sync.central.posting import Leg
from sync.errors import BusyError, IdemConflictError, InsufficientError, TwoPersonsError

_op = schema.operation
_FOUND = select(_op.c.kind, _op.c.request, _op.c.result).where(_op.c.idem == bindparam("k"))
_LAST = select(_op.c.seq).order_by(_op.c.seq.desc()).limit(1)
_BELOW = (
    select(schema.account.c.code, schema.balance.c.fen)
    .join(schema.balance, schema.balance.c.account == schema.account.c.id)
    .where(
        schema.account.c.id.in_(bindparam("ids", expanding=True)),
        schema.account.c.floor_fen.is_not(None),
        schema.balance.c.fen < schema.account.c.floor_fen,
    )
)
IDEM_BYTES = 16


class Operation:
    """One act in the caller's transaction: its seq for transfers, its moment."""

    def __init__(self, connection: Connection, seq: int, now_us: int) -> None:
        self.connection = connection
        self.seq = seq
        self.now_us = now_us

    def transfer(self, legs: Sequence[Leg]) -> None:
        """Post legs under this operation. Raises INSUFFICIENT when a guarded account falls short."""
        day = business_day(self.now_us)
        key = (0, 0, self.seq)
        rows = [transfer_row(key, leg, (self.now_us, day), 0) for leg in legs if leg.fen]
        add_rows(self.connection, "transfer", rows)
        move(self.connection, legs)
        debited = sorted({leg.debit for leg in legs})
        short = self.connection.execute(_BELOW, {"ids": debited}).first() if debited else None
        if short is not None:
            raise InsufficientError(account=short.code)


def operate(
    connection: Connection,
    idem: bytes,
    actor: str,
    request: Sequence[Any],
    now_us: int,
    act: Callable[[Operation], Any],
) -> Any:
    """The result of `act`, or the stored result of the same request; `request[0]` names the kind.

    Raises IDEM_CONFLICT; BUSY when the same key is being used at this moment.
    """
    assert len(idem) == IDEM_BYTES, len(idem)
    kind, digest = str(request[0]), sha256(cbor.dumps(list(request))).digest()
    found = connection.execute(_FOUND, {"k": idem}).one_or_none()
    if found is not None:
        if (found.kind, found.request) != (kind, digest):
            raise IdemConflictError(idem=idem, kind=kind)
        return cbor.loads_own(found.result)
    operation = Operation(connection, int(connection.execute(_LAST).scalar() or 0) + 1, now_us)
    result = act(operation)
    row = {"seq": operation.seq, "idem": idem, "actor": actor, "kind": kind, "request": digest}
    try:
        connection.execute(insert(_op), row | {"result": cbor.dumps(result), "at_us": now_us})
    except IntegrityError as fault:  # another worker took the key or the seq meanwhile
        raise BusyError(idem=idem) from fault
    return result


def two_persons(first: str, second: str) -> str:
    """Both names for an act that needs two. Raises OFFICE_TWO_PERSONS."""
    if not first or not second or first == second:
        raise TwoPersonsError(first=first, second=second)
    return f"{first}+{second}"
