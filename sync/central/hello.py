"""A terminal's hello: is it the journal we know, and what must it hear again (sync.md §4-5).

A hello travels on another topic than the segments, so it may arrive after records that were written
later; nothing is concluded from its tip alone. Three things prove a second journal: another hash at
a position that the archive holds, an acknowledged position above the tip, and a boot that the
archive has never seen with a tip behind what was already received (an old copy was started).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from protocols.wire.chain import Position
from protocols.wire.messages import Down, Halt, Hello, Welcome
from sync.central import archive, schema
from sync.central.ingest import fence, load_lanes, next_dseq
from sync.central.ingest_core import Enrolled, Lane, LaneState
from sync.central.lanes import grant_of
from sync.central.lists import Publisher, versions

CLOCK_SLACK_US = 2_000_000
DSEQ_AHEAD_MAX = 1_000_000  # how far a terminal's dseq may stand above ours and still be believed

_boot, _lane, _terminal = schema.boot, schema.lane, schema.terminal
_BOOT = select(_boot.c.seq).where(
    _boot.c.terminal == bindparam("t"), _boot.c.boot_id == bindparam("b")
)
NO_BOOT = bytes(8)  # a journal without a BOOT record yet
_OFFSET = (
    update(_lane)
    .where(_lane.c.terminal == bindparam("t"), _lane.c.epoch == bindparam("e"))
    .values(clock_offset_us=bindparam("o"))
)
_DSEQ_SEEN = (
    update(_terminal)
    .where(
        _terminal.c.id == bindparam("t"),
        _terminal.c.dseq < bindparam("d"),
        _terminal.c.dseq >= bindparam("d") - DSEQ_AHEAD_MAX,
    )
    .values(dseq=bindparam("d"))
)
_COMMANDS = select(schema.command.c.cose).where(
    schema.command.c.terminal == bindparam("t"), schema.command.c.state == 0
)


@dataclass(frozen=True, slots=True)
class Window:
    """How much a terminal may send, and how often."""

    credit: int
    flush_ms: int
    spread_s: int


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a hello is answered with, in order; `commands` are envelopes already signed."""

    answers: tuple[Down, ...]
    commands: tuple[bytes, ...]
    behind: tuple[str, ...]  # lists of which the terminal has an older version


class Offsets:
    """Clock offsets: the least of one boot, because a hello is only ever delayed."""

    def __init__(self) -> None:
        self._least: dict[int, tuple[bytes, int]] = {}

    def learn(self, terminal: int, hello: Hello, received_us: int) -> int:
        """The offset centre - terminal, µs; 0 within 2 s."""
        seen = received_us - hello.t1_us
        known = self._least.get(terminal)
        if known is None or known[0] != hello.boot or seen < known[1]:
            self._least[terminal] = (hello.boot, seen)
        least = self._least[terminal][1]
        return 0 if abs(least) <= CLOCK_SLACK_US else least


def greet(
    connection: Connection,
    hello: Hello,
    enrolled: Enrolled,
    window: Window,
    offset_us: int,
    times: tuple[int, int],
    publisher: Publisher,
) -> Greeting:
    """Answer a verified hello inside the caller's transaction; `times` = (t2_us, t3_us)."""
    term, terminal = hello.term, enrolled.terminal
    connection.execute(_DSEQ_SEEN, {"t": terminal, "d": hello.dseq})
    publisher.overtake(connection, hello.lists, times[0])
    lanes = load_lanes(connection, {terminal})
    lane = next((one for one in lanes.values() if one.current), None)
    if enrolled.revoked or lane is None:
        halt = Halt(term, hello.tip.epoch, next_dseq(connection, terminal), "SYNC_FENCED")
        return Greeting((halt,), (), ())
    answers: list[Down] = []
    spoken = lanes.get((terminal, hello.tip.epoch))
    if spoken is not None and spoken.state is LaneState.OPEN:
        _check(connection, hello, spoken, times[0])
        if spoken.state is LaneState.OPEN:
            connection.execute(_OFFSET, {"t": terminal, "e": spoken.epoch, "o": offset_us})
    ours = versions(connection)
    shown = lane if spoken is None else spoken
    answers.append(_welcome(hello, shown, window, times, ours))
    if lane.state is not LaneState.OPEN:
        answers.append(Halt(term, lane.epoch, next_dseq(connection, terminal), "SYNC_FENCED"))
    elif hello.tip.epoch < lane.epoch:
        answers.append(grant_of(connection, lane, term))
    commands = tuple(connection.scalars(_COMMANDS, {"t": terminal}))
    behind = tuple(name for name, version in ours.items() if hello.lists.get(name, 0) < version)
    return Greeting(tuple(answers), commands, behind)


def _welcome(
    hello: Hello, lane: Lane, window: Window, times: tuple[int, int], ours: dict[str, int]
) -> Welcome:
    return Welcome(
        term=hello.term,
        pos=Position(lane.epoch, lane.next_seq - 1, lane.tip_h),
        t1_us=hello.t1_us,
        t2_us=times[0],
        t3_us=times[1],
        credit=window.credit,
        flush_ms=window.flush_ms,
        spread_s=window.spread_s,
        lists=ours,
    )


def _check(connection: Connection, hello: Hello, lane: Lane, now_us: int) -> None:
    """Fence the lane when the hello proves a second journal."""
    key = (lane.terminal, lane.epoch)
    for at in (hello.tip, hello.acked):
        if at.epoch == lane.epoch and not _agrees(connection, lane, at):
            fence(connection, key, at.seq, "JOURNAL_FORK", now_us)
            lane.state = LaneState.FENCED
            return
    same = hello.tip.epoch == hello.acked.epoch == lane.epoch
    if same and hello.acked.seq > hello.tip.seq:  # it was told of more than it holds
        fence(connection, key, hello.tip.seq + 1, "JOURNAL_ROLLBACK", now_us)
        lane.state = LaneState.FENCED
        return
    behind = hello.tip.epoch == lane.epoch and hello.tip.seq < lane.next_seq - 1
    if behind and hello.boot != NO_BOOT:
        asked = {"t": lane.terminal, "b": hello.boot}
        if connection.execute(_BOOT, asked).first() is None:
            fence(connection, key, hello.tip.seq + 1, "JOURNAL_ROLLBACK", now_us)
            lane.state = LaneState.FENCED


def _agrees(connection: Connection, lane: Lane, at: Position) -> bool:
    """Whether a position fits the archive; one that the archive does not hold yet does."""
    if at.seq >= lane.next_seq or at.seq == 0:
        return True
    if at.seq == lane.next_seq - 1:
        return at.hash == lane.tip_h
    key = (lane.terminal, lane.epoch)
    return archive.hashes_of(connection, key, range(at.seq, at.seq + 1)).get(at.seq) == at.hash
