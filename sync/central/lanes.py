"""Epochs and the life of a lane: grant, fence, reopen, close (ledger.md §3.2, sync.md §10).

A new epoch starts with no rights: what the older one left open belongs to the centre from the
grant on, so its open intents become doubts here.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.messages import Grant
from protocols.wire.record import Record
from sync.central import schema
from sync.central.gather import cards_of
from sync.central.ingest import load_lanes, next_dseq
from sync.central.ingest_core import Lane, LaneState
from sync.central.ledger import alarm_row
from sync.errors import OfficeStateError, OfficeUnknownError

_lane, _intent, _doubt = schema.lane, schema.intent, schema.doubt
_STATE = (
    update(_lane)
    .where(_lane.c.terminal == bindparam("t"), _lane.c.epoch == bindparam("e"))
    .values(state=bindparam("to"))
)
_LEFT_OPEN = (
    select(_intent.c.seq, _intent.c.body)
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
        _doubt.c.seq.is_(None),
    )
)


def newest(connection: Connection, terminal: int) -> Lane | None:
    """The lane of the newest epoch granted to a terminal."""
    lanes = load_lanes(connection, {terminal}).values()
    return next((lane for lane in lanes if lane.current), None)


def set_state(connection: Connection, lane: Lane, state: LaneState) -> None:
    """Change a lane's state; a lane that stops gives up its open intents."""
    connection.execute(_STATE, {"t": lane.terminal, "e": lane.epoch, "to": int(state)})
    lane.state = state


def grant_epoch(
    connection: Connection, terminal: int, code: str, now_us: int, leave: LaneState
) -> Grant:
    """Open the next epoch behind the last position that stays valid.

    `leave` is the state of the older lane: FENCED while a tail may still come, CLOSED otherwise.
    """
    lanes = load_lanes(connection, {terminal})
    old = next((lane for lane in lanes.values() if lane.current), None)
    prev = NOWHERE if old is None else Position(old.epoch, old.next_seq - 1, old.tip_h)
    epoch = prev.epoch + 1
    hw0_us = max([now_us, *(lane.mark_us for lane in lanes.values())])
    h0 = genesis(code, epoch, prev)
    if old is not None:
        set_state(connection, old, leave)
        doubt_open_intents(connection, old, now_us)
    row = {"terminal": terminal, "epoch": epoch, "next_seq": 1, "tip_h": h0, "state": 0}
    times = {"mark_us": 0, "clock_offset_us": 0, "granted_us": now_us, "hw0_us": hw0_us}
    before = {"prev_epoch": prev.epoch, "prev_seq": prev.seq, "prev_h": prev.hash, "h0": h0}
    connection.execute(insert(_lane), row | times | before)
    return Grant(code, next_dseq(connection, terminal), epoch, prev, h0, hw0_us)


def grant_of(connection: Connection, lane: Lane, code: str) -> Grant:
    """The grant of an epoch once more, with a new dseq."""
    row = connection.execute(
        select(_lane).where(_lane.c.terminal == lane.terminal, _lane.c.epoch == lane.epoch)
    ).one()
    prev = Position(row.prev_epoch, row.prev_seq, row.prev_h)
    dseq = next_dseq(connection, lane.terminal)
    return Grant(code, dseq, lane.epoch, prev, row.h0, row.hw0_us)


def doubt_open_intents(connection: Connection, lane: Lane, now_us: int) -> int:
    """Every open intent of a lane without a doubt becomes one; how many."""
    rows = []
    for found in connection.execute(_LEFT_OPEN, {"t": lane.terminal, "e": lane.epoch}).all():
        record = Record.decode(found.body)
        asns = () if record.inst is None else (record.inst,)
        card = next(iter(cards_of(connection, asns).values()), None)
        rows.append(
            {
                "terminal": lane.terminal,
                "epoch": lane.epoch,
                "seq": found.seq,
                "card": None if card is None else card.card,
                "class": 0,
                "ctr": record.ctr,
                "fen": record.fen,
                "before_fen": record.get("purse_before"),
                "state": 0,
                "opened_us": now_us,
            }
        )
    if rows:
        connection.execute(insert(_doubt), rows)
    return len(rows)


def lane_of(connection: Connection, terminal: int, epoch: int) -> Lane:
    """A lane by its key. Raises OFFICE_UNKNOWN."""
    lane = load_lanes(connection, {terminal}).get((terminal, epoch))
    if lane is None:
        raise OfficeUnknownError(terminal=terminal, epoch=epoch)
    return lane


def reopen(connection: Connection, terminal: int, epoch: int, now_us: int) -> Lane:
    """Admit the tail of a lane that was left: FENCED or CLOSED, not the newest. OFFICE_STATE."""
    lane = lane_of(connection, terminal, epoch)
    if lane.state is LaneState.OPEN or lane.current:
        raise OfficeStateError(terminal=terminal, epoch=epoch, state=lane.state.name)
    set_state(connection, lane, LaneState.OPEN)
    connection.execute(insert(schema.alarm), alarm_row(terminal, "LANE_REOPENED", [epoch], now_us))
    return lane


def close(connection: Connection, terminal: int, epoch: int, now_us: int) -> Lane:
    """No more records will come from this lane; watermarks no longer wait for it."""
    lane = lane_of(connection, terminal, epoch)
    if lane.state is LaneState.CLOSED:
        raise OfficeStateError(terminal=terminal, epoch=epoch, state=lane.state.name)
    set_state(connection, lane, LaneState.CLOSED)
    doubt_open_intents(connection, lane, now_us)
    return lane
