"""Reading the segment archive back: the truth from which everything else can be derived.

A segment row keeps exactly what was signed; `first_seq` is the first record posted from it (a
segment that overlapped the cursor carries older ones too, which are cut off here).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from protocols.errors import RecordError
from protocols.wire import cose
from protocols.wire.chain import chain
from protocols.wire.record import Record
from protocols.wire.segment import Segment
from sync.central.schema import segment as table

LaneKey = tuple[int, int]

_SPAN = (
    select(table.c.cose, table.c.first_seq, table.c.n)
    .where(
        table.c.terminal == bindparam("t"),
        table.c.epoch == bindparam("e"),
        table.c.first_seq <= bindparam("last"),
        table.c.first_seq + table.c.n > bindparam("first"),
    )
    .order_by(table.c.first_seq)
)
_AT = (
    select(table.c.cose, table.c.first_seq, table.c.n, table.c.offset_us)
    .where(
        table.c.terminal == bindparam("t"),
        table.c.epoch == bindparam("e"),
        table.c.first_seq <= bindparam("s"),
    )
    .order_by(table.c.first_seq.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Filed:
    """The posted part of an archived segment."""

    first: int
    bodies: tuple[bytes, ...]
    prev: bytes  # hash before `first`
    hashes: tuple[bytes, ...]


def filed(raw: bytes, first_seq: int, count: int) -> Filed:
    """The posted records of an archived envelope, its hashes recomputed."""
    segment = Segment.decode(cose.open1(raw).payload)
    hashes = chain(segment.prev, segment.bodies)
    cut = first_seq - segment.first
    assert cut >= 0, (first_seq, segment.first)
    assert cut + count == len(segment.bodies), (first_seq, count, segment.first)
    prev = hashes[cut - 1] if cut else segment.prev
    return Filed(first_seq, segment.bodies[cut:], prev, tuple(hashes[cut:]))


def record_of(body: bytes) -> Record | None:
    """An archived record; None where it does not decode."""
    try:
        return Record.decode(body)
    except RecordError:
        return None


def hashes_of(connection: Connection, key: LaneKey, span: range) -> dict[int, bytes]:
    """The archive's hashes of these seqs; a seq it does not hold is absent."""
    found: dict[int, bytes] = {}
    bounds = {"t": key[0], "e": key[1], "first": span.start, "last": span.stop - 1}
    for row in connection.execute(_SPAN, bounds):
        part = filed(row.cose, row.first_seq, row.n)
        pairs = enumerate(part.hashes, start=part.first)
        found.update({seq: digest for seq, digest in pairs if seq in span})
    return found


def record_at(connection: Connection, key: LaneKey, seq: int) -> Record | None:
    """One archived record; None where it is not archived or does not decode."""
    row = connection.execute(_AT, {"t": key[0], "e": key[1], "s": seq}).one_or_none()
    if row is None or not row.first_seq <= seq < row.first_seq + row.n:
        return None
    return record_of(filed(row.cose, row.first_seq, row.n).bodies[seq - row.first_seq])


def offset_at(connection: Connection, key: LaneKey, seq: int) -> int:
    """The clock offset, centre - terminal in µs, that was applied to an archived record."""
    row = connection.execute(_AT, {"t": key[0], "e": key[1], "s": seq}).one()
    return int(row.offset_us)


def walk(connection: Connection, key: LaneKey) -> Iterator[tuple[int, Record | None, bytes]]:
    """(seq, record, hash) of a whole lane in order."""
    rows = select(table.c.cose, table.c.first_seq, table.c.n)
    ordered = rows.where(table.c.terminal == key[0], table.c.epoch == key[1])
    for row in connection.execute(ordered.order_by(table.c.first_seq)):
        part = filed(row.cose, row.first_seq, row.n)
        for n, body in enumerate(part.bodies):
            yield part.first + n, record_of(body), part.hashes[n]
