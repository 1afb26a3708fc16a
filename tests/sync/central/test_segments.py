"""Every row of sync.md §6 through the whole receive path, with its code, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from protocols.wire.chain import link
from protocols.wire.cose import P256Signer
from protocols.wire.messages import Ack, Grant, Halt, Need, Reject
from protocols.wire.record import Kind
from sync.central.ingest import QUARANTINE_DAY_MAX


@pytest.fixture
def lane(campus: Any) -> Any:
    """A terminal whose first four records are posted."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    campus.give(pen.segment())
    pen.chip = chip
    return pen


def kept(campus: Any) -> list[str]:
    return [row.code for row in campus.rows("SELECT code FROM quarantine ORDER BY id")]


def posted(campus: Any) -> int:
    return int(campus.value("SELECT count(*) FROM transfer WHERE terminal <> 0"))


@pytest.mark.parametrize("raw", [b"", b"rubbish", bytes(70_000)])
def test_row_1_bad_form(campus: Any, lane: Any, raw: bytes) -> None:
    """Not COSE, not CBOR, or too large: kept raw, rejected to the terminal of the topic."""
    answers = campus.give(replace(lane.segment(1, 2), payload=raw))
    assert [type(a) for a in answers] == [Reject]
    assert (answers[0].code, answers[0].first) == ("SYNC_BAD_FORM", 5)
    assert kept(campus) == ["SYNC_BAD_FORM"]


def test_row_1_without_an_enrolled_terminal(campus: Any, lane: Any) -> None:
    """Nobody is answered when the topic names nobody we know."""
    stranger = replace(lane.segment(1, 2), topic="cc/v1/s1/up/p01/T9999/journal", payload=b"x")
    assert campus.give(stranger) == []
    assert kept(campus) == ["SYNC_BAD_FORM"]


def test_row_2_topic_of_another_terminal(campus: Any, lane: Any) -> None:
    """A segment of T0001 on T0002's topic: quarantine, alarm, no answer."""
    other = campus.terminal("T0002", seed=200)
    lane.sale(lane.chip, 100)
    forged = replace(lane.segment(), topic=other.topic("journal"))
    assert campus.give(forged) == []
    assert kept(campus) == ["SYNC_BAD_TOPIC"]
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'SYNC_BAD_TOPIC'") == 1


@pytest.mark.parametrize(
    "topic",
    [
        "cc/v1/s2/up/p{p:02d}/T0001/journal",
        "cc/v1/s1/up/p{q:02d}/T0001/journal",
        "cc/v1/s1/dn/T0001/ack",
        "$SYS/x",
    ],
)
def test_row_2_foreign_site_and_partition(campus: Any, lane: Any, topic: str) -> None:
    """Mosquitto lets these through; the centre does not."""
    part = campus.centre.registry.get("T0001").part
    lane.sale(lane.chip, 100)
    wrong = replace(lane.segment(), topic=topic.format(p=part, q=(part + 1) % 64))
    assert campus.give(wrong) == []
    assert kept(campus) == ["SYNC_BAD_TOPIC"]
    assert posted(campus) == 1


@pytest.mark.parametrize("swap", [{"site": "s9"}, {"part": 0}, {"term": "T0002"}])
def test_row_2_payload_of_another_terminal(campus: Any, lane: Any, swap: dict[str, Any]) -> None:
    """The signed payload must name the enrolment as well."""
    lane.sale(lane.chip, 100)
    assert campus.give(lane.segment(**swap)) == []
    assert kept(campus) == ["SYNC_BAD_TOPIC"]


def test_row_3_key_of_another_terminal(campus: Any, lane: Any) -> None:
    """T0002's valid key does not speak for T0001."""
    other = campus.terminal("T0002", seed=200)
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment(key=other.key))
    assert [(type(a), a.code) for a in answers] == [(Reject, "SYNC_BAD_SIG")]
    assert (answers[0].first, answers[0].last, answers[0].dseq) == (5, 6, 2)
    assert kept(campus) == ["SYNC_BAD_SIG"]
    assert posted(campus) == 1


def test_row_3_forged_signature(campus: Any, lane: Any) -> None:
    """One flipped bit of the payload, or a key nobody enrolled."""
    lane.sale(lane.chip, 100)
    good = lane.segment()
    flipped = bytearray(good.payload)
    flipped[-1] ^= 1
    unknown = lane.segment(5, 6, key=P256Signer(lane.key._key.__class__ and _stranger()))
    for bad in (replace(good, payload=bytes(flipped)), unknown):
        assert [a.code for a in campus.give(bad)] == ["SYNC_BAD_SIG"]
    assert posted(campus) == 1
    assert [type(a) for a in campus.give(good)] == [Ack]


def _stranger() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(987_654_321, ec.SECP256R1())


def test_row_4_broken_chain(campus: Any, lane: Any) -> None:
    """The records do not hash to the tip, or do not carry first..last."""
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment(tip=bytes(32)))
    assert [(type(a), a.code) for a in answers] == [(Reject, "SYNC_BAD_CHAIN")]
    body = lane.bodies[4]  # record 5, sent as if it were record 6
    swap = {"prev": lane.hashes[5], "tip": link(lane.hashes[5], body)}
    lane.bodies[5] = body
    assert [a.code for a in campus.give(lane.segment(6, 6, **swap))] == ["SYNC_BAD_CHAIN"]
    assert kept(campus) == ["SYNC_BAD_CHAIN", "SYNC_BAD_CHAIN"]


def test_row_5_superseded_epoch(campus: Any, lane: Any) -> None:
    """An archived segment of an older epoch is a no-op; an unknown one is kept as evidence."""
    lane.sale(lane.chip, 100)
    fence_by_fork(campus, lane)
    campus.centre.fork_resolve(campus.idem(), ("a", "b"), "T0001")
    assert campus.give(lane.segment(1, 4)) == []
    assert kept(campus) == ["JOURNAL_FORK"]
    assert campus.give(lane.segment(1, 6)) == []
    assert kept(campus) == ["JOURNAL_FORK", "SYNC_EPOCH_OLD"]
    assert posted(campus) == 1


def fence_by_fork(campus: Any, lane: Any) -> Any:
    """Send another record 3 than the one that is archived."""
    hashes, bodies = list(lane.hashes), list(lane.bodies)
    del lane.bodies[2:], lane.hashes[3:]
    lane.clock.step(1)
    lane.add(Kind.MARK)
    answers = campus.give(lane.segment(1, 3))
    lane.hashes, lane.bodies = hashes, bodies
    return answers


def test_row_6_epoch_never_granted(campus: Any, lane: Any) -> None:
    """The terminal cannot choose its epoch."""
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment(epoch=7))
    assert [(type(a), a.code, a.epoch) for a in answers] == [(Reject, "SYNC_EPOCH_UNKNOWN", 7)]
    assert posted(campus) == 1


def test_row_7_fenced_lane(campus: Any, lane: Any) -> None:
    """After a fork even good records are only kept, and halt is said again."""
    fence_by_fork(campus, lane)
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment())
    assert [(type(a), a.code) for a in answers] == [(Halt, "SYNC_FENCED")]
    assert kept(campus) == ["JOURNAL_FORK", "SYNC_FENCED"]
    assert posted(campus) == 1


def test_row_7_revoked_terminal(campus: Any, lane: Any, another: Any) -> None:
    """A revoked terminal cannot post, not even through a process that has not heard of it."""
    stale = another()
    lane.sale(lane.chip, 100)
    stale.give(lane.segment(1, 4))
    campus.centre.revoke_terminal(campus.idem(), "office", "T0001", "stolen")
    assert [a.code for a in stale.give(lane.segment(5, 6))] == ["SYNC_FENCED"]
    assert [a.code for a in campus.give(lane.segment(5, 6))] == ["SYNC_BAD_SIG"]
    assert posted(campus) == 1


def test_row_8_gap_is_asked_for_and_nothing_is_parked(campus: Any, lane: Any) -> None:
    """A segment ahead posts nothing; need names the cursor, at most every 2 s."""
    for _ in range(3):
        lane.sale(lane.chip, 100)
    ahead = lane.segment(7, 8)
    answers = campus.give(ahead)
    assert [type(a) for a in answers] == [Need]
    assert (answers[0].start, answers[0].prev) == (5, lane.hashes[4])
    assert campus.give(ahead, lane.segment(9, 10)) == []
    assert posted(campus) == 1
    assert kept(campus) == []
    campus.clock.step(2)
    again = campus.give(ahead)
    assert [type(a) for a in again] == [Need]
    assert again[0].dseq == answers[0].dseq + 1
    assert [a.seq for a in campus.give(lane.segment(5, 6), ahead, lane.segment(9, 10))] == [10]
    assert posted(campus) == 4


def test_row_9_repeated_segment_is_acknowledged_again(campus: Any, lane: Any) -> None:
    """A replay posts nothing and repeats the ack; ten thousand replays would too."""
    again = campus.give(lane.segment(1, 4), lane.segment(3, 4), lane.segment(1, 2))
    assert [(type(a), a.seq, a.hash) for a in again] == [(Ack, 4, lane.hashes[4])]
    assert posted(campus) == 1
    assert campus.value("SELECT count(*) FROM segment") == 1


def test_row_9_fork_wholly_below_the_cursor(campus: Any, lane: Any) -> None:
    """Other bytes at a posted seq: fenced, both branches kept, halted, alarmed."""
    answers = fence_by_fork(campus, lane)
    assert [(type(a), a.code) for a in answers] == [(Halt, "JOURNAL_FORK")]
    assert kept(campus) == ["JOURNAL_FORK"]
    assert campus.value("SELECT state FROM lane") == 1
    assert campus.rows("SELECT seq, code FROM fork")[0] == (3, "JOURNAL_FORK")
    assert campus.value("SELECT count(*) FROM segment") == 1
    assert campus.value("SELECT count(*) FROM alarm WHERE code = 'JOURNAL_FORK'") > 0


def test_row_10_overlap_is_sliced(campus: Any, lane: Any) -> None:
    """The archived part of an overlapping segment is compared and cut off."""
    lane.sale(lane.chip, 100)
    lane.sale(lane.chip, 100)
    assert [a.seq for a in campus.give(lane.segment(3, 6))] == [6]
    assert [a.seq for a in campus.give(lane.segment(1, 8))] == [8]
    assert posted(campus) == 3
    firsts = campus.rows("SELECT first_seq, n FROM segment ORDER BY first_seq")
    assert [tuple(row) for row in firsts] == [(1, 4), (5, 2), (7, 2)]


def test_row_10_fork_inside_an_overlap(campus: Any, lane: Any) -> None:
    """An overlap with one other byte is a fork, and its new part is not posted."""
    del lane.bodies[2:], lane.hashes[3:]
    lane.clock.step(1)
    lane.sale(lane.chip, 300)
    lane.sale(lane.chip, 300)
    answers = campus.give(lane.segment(2, 6))
    assert [(type(a), a.code) for a in answers] == [(Halt, "JOURNAL_FORK")]
    assert posted(campus) == 1


def test_row_11_other_branch_right_at_the_cursor(campus: Any, lane: Any) -> None:
    """first = next_seq, but behind another record 4."""
    lane.hashes[4] = bytes(31) + b"x"
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment(5, 6))
    assert [(type(a), a.code) for a in answers] == [(Halt, "JOURNAL_FORK")]
    assert campus.rows("SELECT seq FROM fork")[0].seq == 5
    assert posted(campus) == 1


def test_a_fork_behind_a_good_segment_does_not_stop_the_batch(campus: Any, lane: Any) -> None:
    """Both branches in one batch: what fits is posted, then the lane is fenced; never BUSY."""
    hashes, bodies = list(lane.hashes), list(lane.bodies)
    del lane.bodies[2:], lane.hashes[3:]
    lane.clock.step(1)
    lane.add(Kind.MARK)
    other = lane.segment(1, 3)
    lane.hashes, lane.bodies = hashes, bodies
    lane.sale(lane.chip, 100)
    answers = campus.give(lane.segment(5, 6), other, lane.segment(5, 6))
    codes = [getattr(answer, "code", type(answer).__name__) for answer in answers]
    assert sorted(codes) == ["Ack", "JOURNAL_FORK", "SYNC_FENCED"]
    assert posted(campus) == 2
    assert tuple(campus.rows("SELECT state, next_seq FROM lane")[0]) == (1, 7)


def test_row_12_undecodable_record_is_archived(campus: Any, lane: Any) -> None:
    """Rubbish inside an authentic segment: archived, an item keeps its bytes, the lane goes on."""
    lane.raw(b"\xff\xff not a record")
    lane.sale(lane.chip, 100)
    assert [a.seq for a in campus.give(lane.segment())] == [7]
    item = campus.rows("SELECT reason, fen, raw FROM suspense_item")[0]
    assert (item.reason, item.fen) == ("POST_SUSPENSE_KIND", 0)
    assert bytes(item.raw) == b"\xff\xff not a record"
    assert posted(campus) == 2


def test_one_batch_of_many_lanes(campus: Any) -> None:
    """Good, bad and repeated messages of several terminals in one call, each with its answer."""
    pens = [campus.terminal(f"T000{n}", f"m{n}", seed=100 + n) for n in range(1, 5)]
    chips = [campus.card() for _ in pens]
    for pen, chip in zip(pens, chips, strict=True):
        pen.begin()
        pen.sale(chip, 100)
    letters = [pen.segment() for pen in pens]
    letters[1] = pens[1].segment(1, 4, key=pens[0].key)
    letters.append(letters[0])
    answers = campus.give(*letters)
    assert sorted((a.term, type(a).__name__) for a in answers) == [
        ("T0001", "Ack"),
        ("T0002", "Reject"),
        ("T0003", "Ack"),
        ("T0004", "Ack"),
    ]
    assert posted(campus) == 3
    assert campus.value("SELECT count(*) FROM batch") == 1


def test_quarantine_is_bounded(campus: Any, lane: Any) -> None:
    """A flood of forgeries fills no disk: content once, and a limit per terminal and day."""
    lane.sale(lane.chip, 100)
    good = lane.segment()
    bad = [
        replace(good, payload=good.payload[:-2] + n.to_bytes(2, "big"))
        for n in range(QUARANTINE_DAY_MAX + 5)
    ]
    for start in range(0, len(bad), 200):
        campus.centre.receive(bad[start : start + 200])
    campus.centre.receive(bad[:3])
    assert campus.value("SELECT count(*) FROM quarantine") == QUARANTINE_DAY_MAX
    assert [type(a) for a in campus.give(good)] == [Ack]


def test_a_flood_of_nobodys_messages_is_bounded_too(campus: Any, lane: Any) -> None:
    """Topics that name no terminal of ours share one allowance a day."""
    stranger = replace(lane.segment(1, 1), topic="cc/v1/s1/up/p01/NOBODY/journal")
    flood = [replace(stranger, payload=b"x%d" % n) for n in range(QUARANTINE_DAY_MAX + 5)]
    for start in range(0, len(flood), 200):
        campus.centre.receive(flood[start : start + 200])
    campus.centre.receive(flood[-5:])
    assert campus.value("SELECT count(*) FROM quarantine") == QUARANTINE_DAY_MAX


def test_the_new_epoch_follows_the_last_common_record(campus: Any, lane: Any) -> None:
    """After fork_resolve the grant names the centre's last record and opens a fresh chain."""
    fence_by_fork(campus, lane)
    tip = lane.tip
    assert campus.centre.fork_resolve(campus.idem(), ("a", "b"), "T0001") == 2
    grant = next(m for m in campus.work() if isinstance(m, Grant))
    assert (grant.epoch, grant.prev) == (2, tip)
    lane.start(2, grant.prev)
    assert lane.hashes[0] == grant.h0
    lane.begin()
    lane.sale(lane.chip, 100)
    assert [(a.epoch, a.seq) for a in campus.give(lane.segment())] == [(2, 4)]
    states = campus.rows("SELECT state FROM lane ORDER BY epoch")
    assert [row.state for row in states] == [2, 0]


def test_state_and_event_topics_are_ignored(campus: Any, lane: Any) -> None:
    """No fact is inferred from them (sync.md rule 2)."""
    from sync.central.mail import Letter

    for leaf in ("state", "event"):
        assert campus.give(Letter(lane.topic(leaf), b"offline")) == []
    assert kept(campus) == []


def test_without_the_lane_cursor_a_replay_would_pay_twice(campus: Any, lane: Any) -> None:
    """Guard M14: the cursor's UPDATE is what stops a second posting."""
    with campus.engine.begin() as connection:
        connection.execute(text("UPDATE lane SET next_seq = 1, tip_h = h0"))
    from sqlalchemy.exc import IntegrityError

    with pytest.raises(IntegrityError):  # even then the transfer's key refuses
        campus.give(lane.segment(1, 4))
    assert posted(campus) == 1
