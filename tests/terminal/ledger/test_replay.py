"""The state from the records: boot and live agree, STATE carries everything."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire.record import Kind, Record, own_of
from sim.till_office import OPERATOR, START_US, TID, asn
from terminal.errors import JournalChainError
from terminal.ledger import snapshot
from terminal.ledger.replay import SALE_SERVED, State, business_day_index, meal_index

ASNS = [asn(n) for n in range(3)]
KINDS = [
    *(Kind.INTENT, Kind.CAPTURE, Kind.VOID, Kind.DOUBT, Kind.ABANDON, Kind.SHIFT),
    *(Kind.POLICY, Kind.ALARM, Kind.DOUBT_UP, Kind.REVERSAL, Kind.MARK),
]
DATE, TIME = bytes.fromhex("20260302"), bytes.fromhex("100000")


def _record(seq: int, kind: Kind, **fields: Any) -> Record:
    return Record(seq, int(kind), 0, START_US + seq * 7_000_000_000, seq, 1, **fields)


def _intent(seq: int, card: bytes, fen: int) -> Record:
    own = own_of(Kind.INTENT, means=0, type=6, tid=TID, date=DATE, time=TIME, purse_before=9)
    return _record(seq, Kind.INTENT, inst=card, ctr=seq, fen=fen, own=own)


@st.composite
def _history(draw: st.DrawFn) -> list[Record]:
    """Records in a legal order, cards and kinds at random."""
    records: list[Record] = []
    live: dict[int, tuple[bytes, int]] = {}
    for seq in range(1, draw(st.integers(2, 60))):
        card = draw(st.sampled_from(ASNS))
        kind = draw(st.sampled_from(KINDS))
        ref = draw(st.sampled_from(sorted(live))) if live else None
        needs = kind in (Kind.CAPTURE, Kind.VOID, Kind.DOUBT, Kind.ABANDON, Kind.DOUBT_UP)
        if needs and ref is None:
            kind = Kind.INTENT
        records.append(_one(seq, kind, card, ref, live, draw(st.booleans())))
    return records


def _one(
    seq: int, kind: Kind, card: bytes, ref: int | None, live: dict[int, Any], flag: bool
) -> Record:
    if kind is Kind.INTENT:
        live[seq] = (card, 100 + seq)
        return _intent(seq, card, 100 + seq)
    plain: dict[Kind, tuple[Any, ...]] = {
        Kind.SHIFT: own_of(Kind.SHIFT, action=int(flag), operator=OPERATOR),
        Kind.POLICY: own_of(Kind.POLICY, list="cards", version=seq),
        Kind.ALARM: own_of(Kind.ALARM, code=SALE_SERVED, arguments=[ref or 0]),
        Kind.REVERSAL: own_of(Kind.REVERSAL, operator=OPERATOR, reason="void"),
        Kind.MARK: (),
    }
    if kind in plain:
        inst = card if kind is Kind.REVERSAL else None
        return _record(seq, kind, inst=inst, fen=5 if inst else 0, own=plain[kind])
    assert ref is not None
    whose, fen = live[ref]
    own = {
        Kind.CAPTURE: own_of(Kind.CAPTURE, purse_after=1, via="record" if flag else None),
        Kind.VOID: own_of(Kind.VOID, via="sw"),
        Kind.DOUBT: own_of(Kind.DOUBT, reason="x"),
        Kind.DOUBT_UP: own_of(Kind.DOUBT_UP, forged=1 if flag else None),
        Kind.ABANDON: (),
    }[kind]
    if kind in (Kind.CAPTURE, Kind.VOID):
        del live[ref]
    return _record(seq, kind, ref=ref, inst=whose, fen=fen, own=own)


@given(_history(), st.data())
@settings(max_examples=150, deadline=None)
def test_state_survives_a_snapshot_anywhere(history: list[Record], data: st.DataObject) -> None:
    """Replay = replay up to any record, STATE, and the rest."""
    whole = State()
    for record in history:
        whole.apply(record)
    cut = data.draw(st.integers(0, len(history)))
    before = State()
    for record in history[:cut]:
        before.apply(record)
    pieces = [own[2] for own in snapshot.pack(before)]
    after = snapshot.unpack(pieces)
    after.note_time(history[max(cut - 1, 0)])
    for record in history[cut:]:
        after.apply(record)
    whole.stamps = after.stamps = {}  # old stamps are dropped on purpose
    assert after == whole


@given(_history())
@settings(max_examples=100, deadline=None)
def test_totals_are_sums(history: list[Record]) -> None:
    """Exposure is the sum of captures; every open intent has neither CAPTURE nor VOID."""
    state = State()
    for record in history:
        state.apply(record)
    captured = [r for r in history if r.kind == Kind.CAPTURE]
    settled = {r.ref for r in history if r.kind in (Kind.CAPTURE, Kind.VOID)}
    intents = {r.seq for r in history if r.kind == Kind.INTENT}
    assert state.unsynced_fen == sum(r.fen for r in captured)
    assert set(state.intents) == intents - settled
    state.forget_until(10**9)
    assert state.unsynced_fen == 0


def test_broken_snapshot() -> None:
    """Bytes that are no state are JOURNAL_CHAIN."""
    for raw in (b"", b"\x80", b"\xff", b"\x81\x02"):
        with pytest.raises(JournalChainError):
            snapshot.unpack([raw])


def test_parts_fit_a_record() -> None:
    """A big state is cut; every part stays below the record limit."""
    state = State()
    for n in range(2_000):
        state.unsynced.append((n, asn(n), 100))
    parts = snapshot.pack(state)
    assert len(parts) > 5
    for own in parts:
        _record(1, Kind.STATE, own=own).encode()
    assert len(snapshot.unpack([own[2] for own in parts]).unsynced) == 2_000


def test_days_and_meals() -> None:
    """The day is cut at 03:00 local; meals begin at 03:00, 10:00, 16:00."""
    hour_us = 3_600_000_000
    ten = START_US
    assert meal_index(ten) == meal_index(ten - 1) + 1
    assert meal_index(ten + 6 * hour_us) == meal_index(ten) + 1
    assert business_day_index(ten - 7 * hour_us) == business_day_index(ten)
    assert business_day_index(ten - 7 * hour_us - 1) == business_day_index(ten) - 1
    assert meal_index(ten + 17 * hour_us) == meal_index(ten) + 2
