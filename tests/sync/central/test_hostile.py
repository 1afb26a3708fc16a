"""What only a broken or stolen terminal writes: the centre takes it, keeps it, and goes on."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire import cbor, topics
from protocols.wire.chain import Position
from protocols.wire.cose import open1, sign1
from protocols.wire.messages import Ack, Halt, Welcome
from protocols.wire.record import Kind, Record, own_of

HUGE = (2**62, 2**63 - 1, 2**63, 2**64 - 1)


def items_of(record: Record) -> list[Any]:
    """A record's array, to be written with values that `Record.encode` refuses."""
    found = cbor.loads_own(record.encode())
    assert type(found) is list
    return found


def swapped(pen: Any, record: Record, **places: Any) -> None:
    """The newest record once more, some elements replaced: `_3=...` is element 3."""
    pen.bodies.pop()
    pen.hashes.pop()
    items = items_of(record)
    for name, value in places.items():
        items[int(name[1:])] = value
    pen.raw(cbor.dumps(items))


@pytest.mark.parametrize("wall", HUGE)
def test_time_beyond_every_calendar(campus: Any, pens: list[Any], wall: int) -> None:
    """A wall time that no column holds is an undecodable record: kept, acknowledged, not posted."""
    chip = campus.card()
    intent = pens[0].intent(chip, 100)
    capture = pens[0].capture(chip, intent, chip.tac(intent))
    swapped(pens[0], capture, _3=wall)
    assert isinstance(campus.give(pens[0].segment())[-1], Ack)
    campus.marks(*pens)
    assert campus.open_items() == ["POST_SUSPENSE_KIND"]


def test_latest_time_behind_a_slow_clock(campus: Any, pens: list[Any]) -> None:
    """The latest time there is, corrected by 60 years: posted, and the workers get past it."""
    chip = campus.card()
    campus.give(pens[0].hello(t1_us=0))
    intent = pens[0].intent(chip, 100)
    swapped(pens[0], intent, _3=2**62 - 1)
    chip.paid(100)
    pens[0].capture(chip, intent, chip.tac(intent))
    assert isinstance(campus.give(pens[0].segment())[-1], Ack)
    campus.work()
    assert campus.fen("merchant:north") == 100


@pytest.mark.parametrize("version", HUGE)
def test_list_version_beyond_every_column(campus: Any, pens: list[Any], version: int) -> None:
    """POLICY with such a version is an undecodable record."""
    policy = pens[0].add(Kind.POLICY, own=own_of(Kind.POLICY, list="cards", version=1))
    swapped(pens[0], policy, _11=version)
    assert isinstance(campus.give(pens[0].segment())[-1], Ack)
    assert campus.open_items() == ["POST_SUSPENSE_KIND"]


@pytest.mark.parametrize(
    ("kind", "own", "place"),
    [
        (Kind.ALARM, {"code": "X"}, "_10"),
        (Kind.POLICY, {"list": "cards", "version": 1}, "_10"),
        (Kind.CMD_DONE, {"result": "ok"}, "_10"),
    ],
)
def test_nul_in_a_text(campus: Any, pens: list[Any], kind: Kind, own: Any, place: str) -> None:
    """PostgreSQL has no text with NUL: an undecodable record on both databases."""
    record = pens[0].add(kind, own=own_of(kind, **own))
    swapped(pens[0], record, **{place: "X\0Y"})
    assert isinstance(campus.give(pens[0].segment())[-1], Ack)
    assert campus.open_items() == ["POST_SUSPENSE_KIND"]


@pytest.mark.parametrize("first", [2**62 - 2, *HUGE])
def test_unsigned_segment_with_a_first_beyond_every_column(
    campus: Any, pens: list[Any], first: int
) -> None:
    """Nobody's signature is needed to send one: refused as bad form, the centre goes on."""
    part = topics.partition_of("T0001")
    bodies = [b"\x80"] * 3
    payload = cbor.dumps([1, "s1", part, "T0001", 1, first, bytes(32), bytes(32), 0, bodies])
    letter = pens[0].segment(1, 1)
    forged = type(letter)(letter.topic, sign1(payload, pens[1].key))
    assert [answer.code for answer in campus.give(forged)] == ["SYNC_BAD_FORM"]
    assert campus.value("SELECT count(*) FROM quarantine") == 1


@pytest.mark.parametrize(("place", "value"), [(10, 2**63 - 1), (10, 2**64 - 1), (6, 2**64 - 1)])
def test_hello_with_numbers_beyond_every_column(
    campus: Any, pens: list[Any], place: int, value: int
) -> None:
    """dseq or t1 of that size: the hello is kept as bad form and nothing is answered."""
    letter = pens[0].hello()
    items = cbor.loads_own(open1(letter.payload).payload)
    items[place] = value
    forged = type(letter)(letter.topic, sign1(cbor.dumps(items), pens[0].key))
    assert campus.give(forged) == []
    assert campus.value("SELECT code FROM quarantine") == "SYNC_BAD_FORM"


def test_a_dseq_out_of_reach_is_not_believed(campus: Any, pens: list[Any]) -> None:
    """The numbers of answers cannot be used up by a terminal that claims to have seen the last."""
    campus.give(pens[0].hello(dseq=2**62 - 1))
    assert campus.value("SELECT dseq FROM terminal WHERE code = 'T0001'") < 1_000
    campus.give(pens[0].hello(dseq=5_000))
    assert campus.value("SELECT dseq FROM terminal WHERE code = 'T0001'") == 5_000


def test_hello_that_was_told_of_more_than_there_can_be(campus: Any, pens: list[Any]) -> None:
    """Positions at the end of the range fence the lane like any other contradiction."""
    campus.send(*pens)
    tip, acked = Position(1, 2**62 - 2, bytes(32)), Position(1, 2**62 - 1, bytes(32))
    answers = campus.give(pens[0].hello(tip=tip, acked=acked))
    assert [type(answer) for answer in answers] == [Welcome, Halt]


def test_doubt_told_twice(campus: Any, pens: list[Any]) -> None:
    """A second DOUBT of one INTENT, in a batch of its own, changes nothing and stops nothing."""
    chip = campus.card()
    intent = pens[0].intent(chip, 100)
    pens[0].doubt(intent)
    campus.give(pens[0].segment())
    pens[0].doubt(intent, "again")
    assert isinstance(campus.give(pens[0].segment())[-1], Ack)
    assert campus.doubts() == [(0, None)]


def test_zero_fen_proved_by_the_card(campus: Any, pens: list[Any]) -> None:
    """A certificate over nothing moves nothing: an INTENT of 0 fen is not a sale (CHECK fen > 0)."""
    chip = campus.card()
    intent = pens[0].intent(chip, 0)
    tac = chip.tac(intent)
    chip.paid(0)
    pens[0].doubt(intent)
    own = own_of(Kind.DOUBT_UP, evidence=[0x9000, b"mac1", tac, None, 1, chip.balance])
    pens[0].add(Kind.DOUBT_UP, ref=intent.seq, inst=chip.asn, ctr=intent.ctr, own=own)
    campus.send(pens[0])
    campus.marks(*pens)
    assert campus.doubts() == []
    assert campus.value("SELECT count(*) FROM transfer WHERE terminal <> 0") == 0
