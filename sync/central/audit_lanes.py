"""Audit of the archive itself: signatures, chains, gaplessness, acknowledged positions (C2, C13)."""

from __future__ import annotations

from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from sqlalchemy import Connection, Row, select

from protocols.errors import OnecardError
from protocols.wire import cose
from protocols.wire.chain import Position, genesis
from protocols.wire.segment import Segment
from sync.central import schema

Finding = tuple[list[str], str]
AnyRow = Row[tuple[object, ...]]
Keys = dict[bytes, tuple[int, EllipticCurvePublicKey]]
TAIL_SEGMENTS = 50

_lane, _segment, _key, _terminal = (
    schema.lane,
    schema.segment,
    schema.terminal_key,
    schema.terminal,
)


def lanes(connection: Connection, full: bool) -> Finding:
    """C2: each lane is signed, chained and gapless from h(0) to its cursor; a sample of its end."""
    keys = {
        row.kid: (row.terminal, cose.load_spki(row.spki))
        for row in connection.execute(select(_key))
    }
    rows = connection.execute(
        select(_lane, _terminal.c.code, _terminal.c.site, _terminal.c.part).join(
            _terminal, _terminal.c.id == _lane.c.terminal
        )
    ).all()
    wrong: list[str] = []
    count = 0
    for lane in rows:
        prev = Position(lane.prev_epoch, lane.prev_seq, lane.prev_h)
        if genesis(lane.code, lane.epoch, prev) != lane.h0:
            wrong.append(f"lane {lane.code}/{lane.epoch}: h(0)")
        found, seen = _walk(connection, lane, keys, full)
        wrong += found
        count += seen
    wrong += _orphans(connection)
    extent = "every segment" if full else f"the last {TAIL_SEGMENTS} segments of each"
    return wrong, f"{len(rows)} lanes, {count} records; {extent}"


def _walk(connection: Connection, lane: AnyRow, keys: Keys, full: bool) -> tuple[list[str], int]:
    mine = (_segment.c.terminal == lane.terminal, _segment.c.epoch == lane.epoch)
    query = select(_segment).where(*mine).order_by(_segment.c.first_seq.desc())
    rows = connection.execute(query if full else query.limit(TAIL_SEGMENTS)).all()[::-1]
    name = f"lane {lane.code}/{lane.epoch}"
    wrong: list[str] = []
    whole = full or not rows or rows[0].first_seq == 1
    seq: int = 1 if whole else rows[0].first_seq
    tip: bytes | None = lane.h0 if whole else None
    for row in rows:
        if row.first_seq != seq:
            wrong.append(f"{name}: seq {seq} is missing, {row.first_seq} follows")
        before, problem = _problem(row, lane, keys)
        if problem is not None:
            wrong.append(f"{name}: segment at seq {row.first_seq}: {problem}")
        if None not in (before, tip) and before != tip:
            wrong.append(f"{name}: chain breaks at seq {row.first_seq}")
        seq, tip = row.first_seq + row.n, row.tip_h
    if seq != lane.next_seq:
        wrong.append(f"{name}: archive ends at seq {seq - 1}, cursor says {lane.next_seq - 1}")
    if tip is not None and tip != lane.tip_h:
        wrong.append(f"{name}: tip hash differs at seq {lane.next_seq - 1}")
    return wrong, sum(row.n for row in rows)


def _problem(row: AnyRow, lane: AnyRow, keys: Keys) -> tuple[bytes | None, str | None]:
    """(hash before the posted part, what is wrong) of an archived segment."""
    try:
        signed = cose.open1(row.cose)
        owner, key = keys.get(signed.kid, (None, None))
        if key is None or owner != lane.terminal:
            return None, "signed by no key of this terminal"
        cose.verify(signed, key)
        segment = Segment.decode(signed.payload)
    except OnecardError as fault:
        return None, str(fault)
    hashes = [segment.prev, *segment.hashes()]
    cut = int(row.first_seq) - segment.first
    told = (segment.site, segment.part, segment.term, segment.epoch)
    if told != (lane.site, lane.part, lane.code, lane.epoch):
        return None, "names another lane"
    if not 0 <= cut < len(segment.bodies) or cut + row.n != len(segment.bodies):
        return None, "holds other records"
    if not hashes[-1] == segment.tip == row.tip_h:
        return hashes[cut], "tip hash differs"
    return hashes[cut], None


def _orphans(connection: Connection) -> list[str]:
    """Segments of a lane that was never granted."""
    joined = _segment.outerjoin(
        _lane, (_lane.c.terminal == _segment.c.terminal) & (_lane.c.epoch == _segment.c.epoch)
    )
    rows = connection.execute(
        select(_segment.c.terminal, _segment.c.epoch, _segment.c.first_seq)
        .select_from(joined)
        .where(_lane.c.epoch.is_(None))
    )
    return [f"segment {tuple(row)} belongs to no lane" for row in rows]


def acknowledged(connection: Connection) -> Finding:
    """C13: every position that an ack can have named is in the archive with that hash.

    Acks are made from the lane row at segment ends, so each end must follow the one before it.
    """
    ends = connection.execute(
        select(_segment.c.terminal, _segment.c.epoch, _segment.c.first_seq, _segment.c.n).order_by(
            _segment.c.terminal, _segment.c.epoch, _segment.c.first_seq
        )
    ).all()
    wrong = []
    for before, after in pairwise(ends):
        same = (before.terminal, before.epoch) == (after.terminal, after.epoch)
        if same and before.first_seq + before.n != after.first_seq:
            end = before.first_seq + before.n
            wrong.append(f"lane {after.terminal}/{after.epoch}: acked {end} is not archived")
    last = {(row.terminal, row.epoch): row.first_seq + row.n - 1 for row in ends}
    rows = connection.execute(select(_lane)).all()
    tips = {
        (row.terminal, row.epoch): row.tip_h
        for row in connection.execute(
            select(_segment.c.terminal, _segment.c.epoch, _segment.c.tip_h).order_by(
                _segment.c.terminal, _segment.c.epoch, _segment.c.first_seq
            )
        )
    }
    for lane in rows:
        key = (lane.terminal, lane.epoch)
        if last.get(key, 0) != lane.next_seq - 1 or tips.get(key, lane.h0) != lane.tip_h:
            wrong.append(f"lane {lane.terminal}/{lane.epoch}: acked {lane.next_seq - 1}")
    return wrong, f"{len(ends)} segment ends"
