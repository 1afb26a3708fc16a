"""The rows of sync.md §6 as a table over the pure core: no database, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire.chain import chain
from protocols.wire.segment import Segment
from sync.central.ingest_core import (
    Again,
    Arrival,
    Enrolled,
    Forked,
    Halted,
    Lane,
    LaneState,
    Missing,
    Old,
    Post,
    Refused,
    advance,
    judge,
    kept_as,
    mark_of,
    overlap,
)
from sync.errors import (
    BadSignatureError,
    EpochOldError,
    EpochUnknownError,
    FencedError,
    GapError,
)

H0 = bytes(32)
BODIES = tuple(bytes([n]) * 3 for n in range(1, 11))
HASHES = chain(H0, BODIES)  # HASHES[n - 1] = h(n)
OPEN, FENCED, CLOSED = LaneState.OPEN, LaneState.FENCED, LaneState.CLOSED


def arrival(first: int, last: int, *, tail: bool = False, revoked: bool = False) -> Arrival:
    prev = HASHES[first - 2] if first > 1 else H0
    bodies = BODIES[first - 1 : last]
    segment = Segment("s1", 1, "T0001", 1, first, prev, HASHES[last - 1], 0, bodies)
    enrolled = Enrolled(1, "T0001", "s1", 1, 5, "canteen", revoked, {})
    hashes = tuple(HASHES[first - 1 : last])
    return Arrival(enrolled, b"", "", tail, segment, hashes, (None,) * len(bodies))


def lane(next_seq: int, state: LaneState = OPEN, *, current: bool = True) -> Lane:
    tip = HASHES[next_seq - 2] if next_seq > 1 else H0
    return Lane(1, 1, next_seq, tip, state, 0, 0, current)


def archive(upto: int, differ: int | None = None) -> dict[int, bytes]:
    found = {n: HASHES[n - 1] for n in range(1, upto + 1)}
    if differ is not None:
        found[differ] = bytes(31) + b"x"
    return found


TABLE: list[tuple[str, Arrival, Lane | None, dict[int, bytes], Any]] = [
    # row, segment, lane, archive, result
    ("5 equal", arrival(1, 4), lane(5, CLOSED, current=False), archive(4), Old()),
    ("5 beyond", arrival(1, 5), lane(5, CLOSED, current=False), archive(4), EpochOldError),
    ("5 other", arrival(1, 4), lane(5, FENCED, current=False), archive(4, 2), EpochOldError),
    ("5 ahead", arrival(7, 8), lane(5, FENCED, current=False), {}, EpochOldError),
    ("5 reopened", arrival(5, 6), lane(5, OPEN, current=False), {}, Post(0)),
    ("3 tail key", arrival(5, 6, tail=True), lane(5), {}, BadSignatureError),
    ("3 tail lane", arrival(5, 6, tail=True), lane(5, OPEN, current=False), {}, Post(0)),
    ("6", arrival(1, 2), None, {}, EpochUnknownError),
    ("7 fenced", arrival(5, 6), lane(5, FENCED), {}, Halted("SYNC_FENCED")),
    ("7 closed", arrival(5, 6), lane(5, CLOSED), {}, Halted("SYNC_FENCED")),
    ("7 revoked", arrival(5, 6, revoked=True), lane(5), {}, Halted("SYNC_FENCED")),
    ("7 before 9", arrival(1, 2), lane(5, FENCED), archive(4), Halted("SYNC_FENCED")),
    ("8", arrival(6, 7), lane(5), {}, Missing(5, HASHES[3])),
    ("8 empty", arrival(2, 3), lane(1), {}, Missing(1, H0)),
    ("9 equal", arrival(2, 4), lane(5), archive(4), Again()),
    ("9 other", arrival(2, 4), lane(5), archive(4, 3), Forked(3)),
    ("9 unknown", arrival(2, 4), lane(5), {}, Forked(2)),
    ("10 equal", arrival(3, 6), lane(5), archive(4), Post(2)),
    ("10 other", arrival(3, 6), lane(5), archive(4, 4), Forked(4)),
    ("13", arrival(5, 6), lane(5), {}, Post(0)),
    ("13 first", arrival(1, 6), lane(1), {}, Post(0)),
]


@pytest.mark.parametrize(("row", "segment", "where", "archived", "result"), TABLE)
def test_each_row(
    row: str, segment: Arrival, where: Lane | None, archived: dict[int, bytes], result: Any
) -> None:
    """The first row that applies decides, with its code."""
    found = judge(segment, where, archived)
    if isinstance(result, type):
        assert isinstance(found, Refused), row
        assert found.code == result.code, row
    else:
        assert found == result, row


def test_row_11_another_branch_at_the_cursor() -> None:
    """first = next_seq with a foreign prev, also behind an overlap."""
    moved = lane(5)
    moved.tip_h = bytes(31) + b"x"
    assert judge(arrival(5, 6), moved, {}) == Forked(5)
    assert judge(arrival(3, 6), moved, archive(4)) == Forked(5)


def test_what_goes_to_quarantine() -> None:
    """Evidence is kept for refusals, halts and forks; nothing for gaps and repeats."""
    assert kept_as(Halted(FencedError.code)) == "SYNC_FENCED"
    assert kept_as(Forked(3)) == "JOURNAL_FORK"
    assert kept_as(Refused(EpochOldError.code, answered=False, kept=True)) == "SYNC_EPOCH_OLD"
    assert kept_as(Refused(EpochUnknownError.code, answered=True, kept=False)) is None
    for verdict in (Post(0), Again(), Old(), Missing(1, H0), None):
        assert kept_as(verdict) is None
    assert Missing(1, H0).code == GapError.code == "SYNC_GAP"


def test_overlap_asks_for_no_more_than_is_archived() -> None:
    """The usual segment needs no archive at all."""
    assert overlap(arrival(5, 6), lane(5)) is None
    assert overlap(arrival(3, 6), lane(5)) == range(3, 5)
    assert overlap(arrival(1, 2), lane(5)) == range(1, 3)
    assert overlap(arrival(1, 2), None) is None


def test_the_cursor_advances_with_the_segment() -> None:
    """Two segments in one batch follow each other in memory."""
    where = lane(1)
    assert judge(arrival(1, 4), where, {}) == Post(0)
    advance(where, arrival(1, 4))
    assert (where.next_seq, where.tip_h) == (5, HASHES[3])
    assert judge(arrival(5, 6), where, {}) == Post(0)
    assert judge(arrival(1, 4), where, archive(4)) == Again()


def test_the_mark_trusts_no_suspect_clock_and_no_future() -> None:
    """Watermarks: the last trusted time, never back, never ahead of the centre."""
    from protocols.wire.record import Kind, Record

    def at(wall_us: int, flags: int = 0) -> Record:
        return Record(1, Kind.MARK, flags, wall_us, 0, 1)

    assert mark_of([at(50), None, at(40)], 10, 100) == 50
    assert mark_of([at(50, flags=1)], 10, 100) == 10
    assert mark_of([at(500)], 10, 100) == 100
    assert mark_of([at(5)], 10, 100) == 10
    assert mark_of([], 10, 100) == 10
