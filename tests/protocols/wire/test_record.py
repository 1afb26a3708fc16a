"""The journal record: bytes, kinds, growth at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RecordError
from protocols.wire import RECORD_BYTES_MAX, cbor
from protocols.wire.record import OWN, PREFIX, Kind, Record, own_of

INTENT = Record(
    seq=41,
    kind=Kind.INTENT,
    flags=0,
    wall_us=1_764_000_000_000_000,
    mono_us=86_400_000_000,
    boot_no=12,
    inst=bytes.fromhex("00000000000000000017"),
    ctr=512,
    fen=1250,
    own=own_of(
        Kind.INTENT,
        means=0,
        uid=bytes(4),
        purse_before=9_000,
        type=6,
        tid=bytes(6),
        termseq=70_000,
        date=bytes.fromhex("20261124"),
        time=bytes.fromhex("120000"),
        keyver=1,
        mac1=bytes(4),
        exp_mac2=bytes(4),
        prev=bytes(23),
    ),
)
CAPTURE = Record(
    42, Kind.CAPTURE, 0, 1_764_000_000_000_001, 86_400_000_001, 12, 41, bytes(10), 512, 1250,
    own_of(Kind.CAPTURE, purse_after=7_750, tac=bytes(4)),
)  # fmt: skip
RECORDS = st.builds(
    Record,
    seq=st.integers(1, 2**62 - 1),
    kind=st.sampled_from([Kind.MARK, Kind.ABANDON, Kind.RESIDUAL_UP]),
    flags=st.integers(0, 1),
    wall_us=st.integers(0, 2**60),
    mono_us=st.integers(0, 2**60),
    boot_no=st.integers(0, 2**32 - 1),
    ref=st.none() | st.integers(0, 2**62 - 1),
    inst=st.none() | st.binary(max_size=16),
    ctr=st.none() | st.integers(0, 65_535),
    fen=st.integers(0, 2**32 - 1),
)


@given(RECORDS)
def test_round_trip(record: Record) -> None:
    """Encode then decode gives the record, by both decoders."""
    assert Record.decode(record.encode()) == record
    assert Record.decode(record.encode(), own_journal=True) == record


@given(st.binary(max_size=96))
def test_total(raw: bytes) -> None:
    """Hostile bytes give a record or WIRE_RECORD, never anything else."""
    try:
        record = Record.decode(raw)
    except RecordError:
        return
    assert record.encode() == raw


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_fields(kind: Kind) -> None:
    """Every kind of ledger.md §3.3 has its row, and no name is there twice."""
    names = [spec.name for spec in OWN[kind]]
    assert len(names) == len(set(names))


def test_size_within_the_design() -> None:
    """INTENT and CAPTURE stay under the 128 bytes of sync.md §3."""
    assert len(INTENT.encode()) <= 128
    assert len(CAPTURE.encode()) <= 128


def test_named_fields() -> None:
    """Own fields are read by name; a missing one at the end reads as null."""
    assert INTENT.get("termseq") == 70_000
    assert Record(*CAPTURE_SHORT).get("via") is None


CAPTURE_SHORT = (7, Kind.CAPTURE, 0, 1, 1, 1, 6, bytes(10), 1, 5, (95, bytes(4)))


def test_kind_grows_at_its_end() -> None:
    """A field we do not know is kept and travels on, byte for byte."""
    grown = Record(1, Kind.MARK, 0, 1, 1, 1, own=("later",))
    assert Record.decode(grown.encode()) == grown


def test_unknown_kind_is_kept() -> None:
    """An unknown kind decodes, says so and re-encodes equal."""
    raw = cbor.dumps([9, 999, 0, 1, 1, 1, None, None, None, 70, b"future", [1, 2]])
    record = Record.decode(raw)
    assert not record.known
    assert record.fen == 70
    assert record.encode() == raw


@pytest.mark.parametrize(
    ("n", "value", "field"),
    [
        (0, 0, "seq"),
        (0, -1, "seq"),
        (1, "x", "kind"),
        (2, 2, "flags"),
        (3, None, "wall"),
        (7, b"x" * 17, "inst"),
        (9, 2**32, "fen"),
        (9, -5, "fen"),
        (10, 4, "means"),
        (15, b"12345", "tid"),
        (20, b"123", "mac1"),
    ],
)
def test_bad_field_is_named(n: int, value: object, field: str) -> None:
    """A wrong type, size or range is named with its position."""
    items = cbor.loads(INTENT.encode())
    items[n] = value
    with pytest.raises(RecordError) as caught:
        Record.decode(cbor.dumps(items))
    assert caught.value.facts["field"] == field
    assert caught.value.facts["offset"] == n


def test_obligatory_field_missing() -> None:
    """A record too short for its kind is refused; so is one without the prefix."""
    with pytest.raises(RecordError):
        Record.decode(cbor.dumps([1, Kind.VOID, 0, 1, 1, 1, 1, None, None, 5]))
    with pytest.raises(RecordError):
        Record.decode(cbor.dumps(list(range(len(PREFIX) - 1))))


def test_size_limit_both_ways() -> None:
    """More than 4 KiB is neither written nor read."""
    big = Record(1, Kind.ALARM, 0, 1, 1, 1, own=("X", "y" * RECORD_BYTES_MAX))
    with pytest.raises(RecordError):
        big.encode()
    with pytest.raises(RecordError):
        Record.decode(bytes(RECORD_BYTES_MAX + 1))
