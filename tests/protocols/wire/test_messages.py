"""Segment, messages, lists and topics against the CDDL and by round trip; one example each."""

from pathlib import Path

import pycddl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import wire
from protocols.errors import ListError, TopicError, WireFormError
from protocols.wire import cbor, lists, topics
from protocols.wire.chain import NOWHERE, Position, chain, genesis, link
from protocols.wire.messages import (
    DOWN,
    Ack,
    Cmd,
    Grant,
    Halt,
    Hello,
    ListDelta,
    ListHead,
    ListPart,
    Message,
    Need,
    Reject,
    Request,
    Response,
    Welcome,
    decode_down,
)
from protocols.wire.record import Kind, Record
from protocols.wire.segment import Segment, cut

H = bytes(range(32))
POS = Position(1, 7, H)
EXAMPLES: list[Message] = [
    Hello("T0001", bytes(8), POS, POS, {"cards": 3}, 5, 6, "onecard 0.1.0", 2, 9),
    Ack("T0001", 1, 7, H, 5, 4),
    Need("T0001", 1, 3, 8, H),
    Reject("T0001", 1, 4, 8, 9, "SYNC_BAD_SIG"),
    Welcome("T0001", POS, 1, 2, 3, 4, 2000, 30, {"cards": 3, "policy": 1}),
    Grant("T0001", 5, 2, POS, H, 77),
    Halt("T0001", 1, 6, "SYNC_FENCED"),
    Cmd("T0001", bytes(16), 1, 99, "x"),
    Request("T0001", bytes(16), 99, "list", "cards"),
    Response("T0001", bytes(16), None, 5),
    ListHead("cards", 3, H, 10, 100),
    ListDelta("cards", 2, 3, b"\x01", b"", 10, H),
    ListPart("cards", 3, 0, 1, b"abc"),
]
BODIES = tuple(Record(n, Kind.MARK, 0, n, n, 1).encode() for n in range(5, 8))
SEGMENT = Segment("s1", 7, "T0001", 1, 5, H, chain(H, BODIES)[-1], 9, BODIES)


def _schema(rule: str) -> pycddl.Schema:
    text = Path(wire.__file__).with_name("wire.cddl").read_text("utf-8")
    return pycddl.Schema(f"start = {rule}\n{text}")


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_example_round_trip_and_cddl(message: Message) -> None:
    """Each message decodes, re-encodes byte-equal and is what the CDDL says."""
    raw = message.encode()
    assert type(message).decode(raw) == message
    assert type(message).decode(raw).encode() == raw
    name = type(message).__name__
    rule = name.replace("List", "list-").lower()
    _schema(rule).validate_cbor(raw)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_every_truncation_is_refused(message: Message) -> None:
    """Cut anywhere or with a byte behind, a message is WIRE_FORM."""
    raw = message.encode()
    for n in range(len(raw)):
        with pytest.raises(WireFormError):
            type(message).decode(raw[:n])
    with pytest.raises(WireFormError):
        type(message).decode(raw + b"\x00")


def test_down_dispatch_is_complete() -> None:
    """Every message of the centre is found by its number; hello and requests are not downlink."""
    for message in EXAMPLES:
        if type(message) in DOWN.values():
            assert decode_down(message.encode()) == message
    for up in (EXAMPLES[0], EXAMPLES[8]):
        with pytest.raises(WireFormError):
            decode_down(up.encode())


@given(st.binary(max_size=80))
def test_down_total(raw: bytes) -> None:
    """Hostile downlink bytes are WIRE_FORM."""
    try:
        message = decode_down(raw)
    except WireFormError:
        return
    assert message.encode() == raw


def test_wrong_version_is_refused() -> None:
    """Format version 2 is not ours to read."""
    items = cbor.loads(EXAMPLES[1].encode())
    items[0] = 2
    with pytest.raises(WireFormError):
        Ack.decode(cbor.dumps(items))


def test_segment_round_trip_and_cddl() -> None:
    """A segment decodes, re-encodes equal, recomputes its tip and fits the CDDL."""
    raw = SEGMENT.encode()
    assert Segment.decode(raw) == SEGMENT
    assert SEGMENT.hashes()[-1] == SEGMENT.tip
    assert SEGMENT.last == 7
    _schema("segment").validate_cbor(raw)
    void = Record(9, Kind.VOID, 0, 1, 1, 1, 8, bytes(10), 4, 5, ("sw",))
    _schema("record").validate_cbor(void.encode())


@pytest.mark.parametrize(("n", "value"), [(0, 2), (2, 64), (5, 0), (6, b"x"), (9, []), (9, [1])])
def test_segment_bad_field(n: int, value: object) -> None:
    """A field out of shape is refused."""
    items = cbor.loads(SEGMENT.encode())
    items[n] = value
    with pytest.raises(WireFormError):
        Segment.decode(cbor.dumps(items))


def test_segment_limits() -> None:
    """101 records or more than 64 KiB are refused; `cut` never makes such a segment."""
    many = tuple(Record(n, Kind.MARK, 0, n, n, 1).encode() for n in range(1, 102))
    with pytest.raises(WireFormError):
        Segment("s1", 7, "T0001", 1, 1, H, H, 9, many).encode()
    assert cut(many) == 100
    fat = tuple(
        Record(n, Kind.ALARM, 0, n, n, 1, own=("A", "x" * 3_000)).encode() for n in range(1, 60)
    )
    n = cut(fat)
    assert 0 < n < 59
    assert len(Segment("s1", 7, "T0001", 1, 1, H, H, 9, fat[:n]).encode()) <= wire.SEGMENT_BYTES_MAX


def test_chain_depends_on_everything() -> None:
    """Terminal, epoch and what went before all change h(0); order changes the tip."""
    seeds = {
        genesis("T0001", 1, NOWHERE),
        genesis("T0002", 1, NOWHERE),
        genesis("T0001", 2, NOWHERE),
        genesis("T0001", 2, POS),
    }
    assert len(seeds) == 4
    assert chain(H, [b"a", b"b"])[-1] != chain(H, [b"b", b"a"])[-1]
    assert chain(H, [b"a"])[0] == link(H, b"a")


@given(st.frozensets(st.integers(0, lists.ASN_MAX), max_size=40))
def test_set_round_trip(asns: frozenset[int]) -> None:
    """The card set comes back exactly."""
    assert lists.decode_set(lists.encode_set(asns)) == asns


@given(st.binary(max_size=40))
def test_set_total(raw: bytes) -> None:
    """Hostile set bytes are WIRE_LIST or a set that re-encodes to them."""
    try:
        found = lists.decode_set(raw)
    except ListError:
        return
    assert lists.encode_set(found) == raw


@given(
    st.frozensets(st.integers(0, 99), max_size=20), st.frozensets(st.integers(0, 99), max_size=20)
)
def test_delta(before: frozenset[int], after: frozenset[int]) -> None:
    """A delta leads exactly to the new set, and only from its base and its content."""
    delta = lists.delta_of("cards", 4, before, after)
    assert lists.apply_delta(before, 4, delta) == after
    with pytest.raises(ListError):
        lists.apply_delta(before, 3, delta)
    with pytest.raises(ListError):
        lists.apply_delta(before | {100}, 4, delta)


@given(st.binary(max_size=70_000))
def test_parts(content: bytes) -> None:
    """A content cut into parts joins again; a missing or changed part is seen."""
    head = lists.head_of("policy", 2, content, 1)
    parts = lists.parts_of("policy", 2, content)
    assert lists.join_parts(head, parts) == content
    with pytest.raises(ListError):
        lists.join_parts(
            head, [*parts[:-1], ListPart("policy", 2, len(parts) - 1, len(parts), b"?!")]
        )
    with pytest.raises(ListError):
        lists.join_parts(head, [ListPart("policy", 3, 0, 1, content[:100])])


def test_snapshot_led_on_by_deltas() -> None:
    """Parts of an older version and an unbroken row of deltas give the head's content, or nothing."""
    sets = [frozenset({1, 5}), frozenset({1, 5, 9}), frozenset({5, 9})]
    parts = lists.parts_of("cards", 4, lists.encode_set(sets[0]))
    deltas = [lists.delta_of("cards", 4 + n, sets[n], sets[n + 1]) for n in range(2)]
    content = lists.encode_set(sets[2])
    head = lists.head_of("cards", 6, content, 2)
    assert lists.set_at(head, parts, deltas) == content
    for bad in (deltas[:1], deltas[1:], [], list(reversed(deltas))):
        with pytest.raises(ListError):
            lists.set_at(head, parts, bad)
    with pytest.raises(ListError):
        lists.set_at(head, [], deltas)
    with pytest.raises(ListError):
        lists.set_at(lists.head_of("cards", 6, b"", 0), parts, deltas)


def test_topics() -> None:
    """Up topics parse back; names that could collide or inject are refused."""
    topic = topics.up("s1", 7, "T0001", "journal")
    assert topic == "cc/v1/s1/up/p07/T0001/journal"
    assert topics.parse_up(topic) == topics.UpTopic("s1", 7, "T0001", "journal")
    for term in ("all", "t0001", "T 001", "T/01", "T#01", "T", "T0001\n"):
        with pytest.raises(TopicError):
            topics.check_term(term)
    bad = [
        "cc/v1/s1/dn/T0001/ack",
        "cc/v1/s1/up/p64/T0001/journal",
        "cc/v1/s1/up/p07/T0001/x",
        "",
        "a/b",
    ]
    for text in bad:
        with pytest.raises(TopicError):
            topics.parse_up(text)
    assert 0 <= topics.partition_of("T0001") < topics.PARTITIONS
