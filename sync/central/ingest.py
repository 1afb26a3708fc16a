"""The one transaction that takes in a batch of messages (ledger.md §5, sync.md §6).

Lanes are read, every segment is judged in order against the cursor, what fits is posted, cursor,
archive, transfers and balances move together, and only then does the caller acknowledge anything.
The lane row is the outbox of its acknowledgement: it can be repeated from there at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from sync.central import archive, gather, schema
from sync.central.accounts import AccountIds
from sync.central.ingest_core import (
    Arrival,
    Forked,
    Halted,
    Lane,
    LaneState,
    Missing,
    Post,
    Refused,
    Verdict,
    advance,
    judge,
    kept_as,
    mark_of,
    overlap,
)
from sync.central.ledger import Entry, Row, alarm_row, event_day, move_cursor
from sync.central.posting import LaneView
from sync.central.rules import post

LaneKey = tuple[int, int]
QUARANTINE_DAY_MAX = 1_000  # rows kept per terminal and day; more of the same is only counted
DAY_US = 86_400_000_000

_lane = schema.lane
_LANES = (
    select(_lane)
    .where(_lane.c.terminal.in_(bindparam("terminals", expanding=True)))
    .order_by(_lane.c.terminal, _lane.c.epoch)
    .with_for_update()
)
_BATCH = insert(schema.batch)
_ALARM = insert(schema.alarm)
_QUARANTINE = text(
    "INSERT INTO quarantine (sha256, topic, raw, code, terminal, epoch, first_seq, received_us)"
    " VALUES (:sha256, :topic, :raw, :code, :terminal, :epoch, :first_seq, :received_us)"
    " ON CONFLICT (sha256) DO NOTHING"
)
_DSEQ = (
    update(schema.terminal)
    .where(schema.terminal.c.id == bindparam("t"))
    .values(dseq=schema.terminal.c.dseq + 1)
    .returning(schema.terminal.c.dseq)
)
_FENCE = (
    update(_lane)
    .where(_lane.c.terminal == bindparam("t"), _lane.c.epoch == bindparam("e"))
    .values(state=int(LaneState.FENCED))
)
_SINCE = schema.quarantine.c.received_us > bindparam("since")
_KEPT = select(func.count()).where(schema.quarantine.c.terminal == bindparam("t"), _SINCE)
_KEPT_OF_NOBODY = select(func.count()).where(schema.quarantine.c.terminal.is_(None), _SINCE)


@dataclass(frozen=True, slots=True)
class Bad:
    """A message refused by rows 1-4: kept raw; `first..last` names what a reject speaks of."""

    topic: str
    raw: bytes
    code: str
    terminal: int | None
    answered: bool
    epoch: int | None = None
    first: int | None = None
    last: int | None = None


@dataclass(slots=True)
class Outcome:
    """What became of one message; `dseq` where an answer needs one."""

    message: Arrival | Bad
    verdict: Verdict | None
    lane: Lane | None
    dseq: int | None = None


@dataclass(slots=True)
class Taken:
    """A committed batch."""

    outcomes: list[Outcome] = field(default_factory=list)
    batch: int | None = None


class Ingest:
    """Takes in batches; holds nothing but cached account ids."""

    def __init__(self, ids: AccountIds, need_due: Callable[[int], bool]) -> None:
        self._ids = ids
        self._need_due = need_due  # row 8: at most one per 2 s and terminal

    def take(
        self, connection: Connection, arrivals: Sequence[Arrival], bad: Sequence[Bad], now_us: int
    ) -> Taken:
        """Judge and post inside the caller's transaction. Raises BUSY."""
        taken = Taken()
        for message in bad:
            taken.outcomes.append(self._refuse(connection, message, now_us))
        if not arrivals:
            return taken
        lanes = load_lanes(connection, {arrival.enrolled.terminal for arrival in arrivals})
        before = {key: (lane.next_seq, lane.tip_h) for key, lane in lanes.items()}
        work: list[gather.Part] = []
        for arrival in arrivals:
            outcome = self._judge(connection, arrival, lanes, work)
            taken.outcomes.append(outcome)
            if not isinstance(outcome.verdict, Post):
                self._answer(connection, outcome, now_us)
        if work:
            taken.batch = self._post(connection, lanes, before, work, now_us)
        for outcome in taken.outcomes:  # behind the cursor, which moves open lanes only
            if isinstance(outcome.verdict, Forked) and outcome.lane is not None:
                key = (outcome.lane.terminal, outcome.lane.epoch)
                fence(connection, key, outcome.verdict.seq, "JOURNAL_FORK", now_us)
        return taken

    def _judge(
        self,
        connection: Connection,
        arrival: Arrival,
        lanes: dict[LaneKey, Lane],
        work: list[gather.Part],
    ) -> Outcome:
        lane = lanes.get(arrival.lane_key)
        span = overlap(arrival, lane)
        archived = archive.hashes_of(connection, arrival.lane_key, span) if span else {}
        archived.update(_queued(work, arrival.lane_key, span))
        verdict = judge(arrival, lane, archived)
        if isinstance(verdict, Post):
            assert lane is not None, arrival.lane_key
            work.append(gather.Part(arrival, verdict.skip))
            advance(lane, arrival)
        return Outcome(arrival, verdict, lane)

    def _post(
        self,
        connection: Connection,
        lanes: dict[LaneKey, Lane],
        before: dict[LaneKey, tuple[int, bytes]],
        work: list[gather.Part],
        now_us: int,
    ) -> int:
        views = gather.views(connection, self._ids, lanes, work)
        for part in work:
            lane = lanes[part.arrival.lane_key]
            lane.mark_us = mark_of(part.records, lane.mark_us, now_us)
        touched = dict.fromkeys(part.arrival.lane_key for part in work)
        move_cursor(connection, [_cursor(lanes[key], before[key]) for key in touched])
        records = sum(len(part.bodies) for part in work)
        entry = Entry(_next_batch(connection), now_us)
        for part in work:
            _apply(part, views[part.arrival.lane_key], lanes[part.arrival.lane_key], entry)
        for key in touched:
            entry.settle(*key, views[key])
        legs = entry.legs
        row = {"id": entry.batch, "posted_us": now_us, "n_record": records}
        total = {"n_transfer": len(legs), "fen": sum(leg.fen for leg in legs)}
        connection.execute(_BATCH, row | total)
        entry.write(connection)
        return entry.batch

    def _refuse(self, connection: Connection, message: Bad, now_us: int) -> Outcome:
        place = (message.terminal, message.epoch, message.first)
        self._keep(connection, message.topic, message.raw, message.code, place, now_us)
        outcome = Outcome(message, None, None)
        if message.terminal is None or not message.answered:
            return outcome
        if message.epoch is None:  # the form was bad: the current lane's cursor stands for it
            lanes = load_lanes(connection, {message.terminal}).values()
            outcome.lane = next((lane for lane in lanes if lane.current), None)
        if message.epoch is not None or outcome.lane is not None:
            outcome.dseq = next_dseq(connection, message.terminal)
        return outcome

    def _answer(self, connection: Connection, outcome: Outcome, now_us: int) -> None:
        """Keep evidence, stop a forked lane, and number the answer where there is one."""
        arrival, verdict = outcome.message, outcome.verdict
        assert isinstance(arrival, Arrival), arrival
        kept = kept_as(verdict)
        if kept is not None:
            self._quarantine(connection, arrival, kept, now_us)
        if isinstance(verdict, Forked):
            assert outcome.lane is not None, arrival.lane_key
            outcome.lane.state = LaneState.FENCED  # for the rest of this batch; see `take`
        terminal = arrival.enrolled.terminal
        asks = isinstance(verdict, Missing) and self._need_due(terminal)
        refuses = isinstance(verdict, Refused) and verdict.answered
        if asks or refuses or isinstance(verdict, Halted | Forked):
            outcome.dseq = next_dseq(connection, terminal)

    def _quarantine(self, connection: Connection, arrival: Arrival, code: str, now_us: int) -> None:
        place = (*arrival.lane_key, arrival.segment.first)
        self._keep(connection, arrival.topic, arrival.raw, code, place, now_us)

    def _keep(
        self,
        connection: Connection,
        topic: str,
        raw: bytes,
        code: str,
        place: tuple[int | None, int | None, int | None],
        now_us: int,
    ) -> None:
        """Raw bytes once per content, and an alarm; bounded per terminal and day."""
        terminal = place[0]
        since = {"since": now_us - DAY_US}
        kept = (
            connection.execute(_KEPT_OF_NOBODY, since)
            if terminal is None
            else connection.execute(_KEPT, {**since, "t": terminal})
        )
        if kept.scalar_one() >= QUARANTINE_DAY_MAX:
            return
        row: Row = {"sha256": sha256(raw).digest(), "topic": topic[:200], "raw": raw, "code": code}
        where = {"terminal": terminal, "epoch": place[1], "first_seq": place[2]}
        added = connection.execute(_QUARANTINE, row | where | {"received_us": now_us})
        if added.rowcount:
            connection.execute(_ALARM, alarm_row(terminal, code, [topic[:64], place[2]], now_us))


def load_lanes(connection: Connection, terminals: set[int]) -> dict[LaneKey, Lane]:
    """Every lane of these terminals, locked; the newest epoch of each is `current`."""
    found: dict[LaneKey, Lane] = {}
    newest: dict[int, Lane] = {}
    for row in connection.execute(_LANES, {"terminals": sorted(terminals)}):
        lane = Lane(
            terminal=row.terminal,
            epoch=row.epoch,
            next_seq=row.next_seq,
            tip_h=row.tip_h,
            state=LaneState(row.state),
            mark_us=row.mark_us,
            offset_us=row.clock_offset_us,
            current=False,
        )
        found[lane.terminal, lane.epoch] = newest[lane.terminal] = lane
    for lane in newest.values():
        lane.current = True
    return found


def next_dseq(connection: Connection, terminal: int) -> int:
    """The next number of this terminal's answers (sync.md §3)."""
    return int(connection.execute(_DSEQ, {"t": terminal}).scalar_one())


def fence(connection: Connection, key: LaneKey, seq: int, code: str, now_us: int) -> None:
    """Stop a lane; both branches stay: one in the archive, the other in quarantine."""
    connection.execute(_FENCE, {"t": key[0], "e": key[1]})
    row = {"terminal": key[0], "epoch": key[1], "seq": seq, "code": code, "at_us": now_us}
    connection.execute(insert(schema.fork), row)
    connection.execute(_ALARM, alarm_row(key[0], code, [key[1], seq], now_us))


def _apply(part: gather.Part, view: LaneView, lane: Lane, entry: Entry) -> None:
    """Post every record of a segment and file the segment."""
    arrival = part.arrival
    for n, record in enumerate(part.records):
        key = (lane.terminal, lane.epoch, part.first + n)
        posting = post(record, view)
        if posting.items:
            entry.opened(key, posting.items, part.bodies[n])
        if record is None:
            continue
        if posting.legs:
            day = event_day(record, view.offset_us, entry.now_us)
            entry.posted(key, posting.legs, (record.wall_us, day))
        for effect in posting.effects:
            entry.effect(key, effect, view)
        view.absorb(record, posting)
    entry.rows["segment"].append(
        {
            "terminal": lane.terminal,
            "epoch": lane.epoch,
            "first_seq": part.first,
            "n": len(part.bodies),
            "tip_h": arrival.segment.tip,
            "cose": arrival.raw,
            "batch": entry.batch,
            "received_us": entry.now_us,
            "offset_us": view.offset_us,
        }
    )


def _cursor(lane: Lane, before: tuple[int, bytes]) -> Row:
    return {
        "t": lane.terminal,
        "e": lane.epoch,
        "first": before[0],
        "prev": before[1],
        "nx": lane.next_seq,
        "tip": lane.tip_h,
        "mark": lane.mark_us,
    }


_NEXT_BATCH = select(schema.batch.c.id).order_by(schema.batch.c.id.desc()).limit(1)


def _next_batch(connection: Connection) -> int:
    """Batch ids order the posting: decisions are remembered as "after batch n" (audit C3)."""
    return int(connection.execute(_NEXT_BATCH).scalar() or 0) + 1


def _queued(work: list[gather.Part], key: LaneKey, span: range | None) -> dict[int, bytes]:
    """Hashes of what this very batch has queued for a lane, for duplicates inside one batch."""
    if span is None:
        return {}
    return {
        part.arrival.segment.first + n: digest
        for part in work
        if part.arrival.lane_key == key
        for n, digest in enumerate(part.arrival.hashes)
        if n >= part.skip
    }
