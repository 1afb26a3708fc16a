"""STATE: the state as record fields, so that a new volume needs no older one (ledger.md §3.1).

The state is one CBOR array cut into parts of at most 3,500 bytes; each part travels as a byte
string in its own STATE record. A field is only ever added at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from protocols.errors import WireFormError
from protocols.wire import cbor
from protocols.wire.record import Kind, own_of
from terminal.errors import JournalChainError
from terminal.ledger.replay import LastSale, OpenIntent, Shift, State

PART_BYTES = 3_500
FORMAT = 1
_INTENT_FIELDS = tuple(field.name for field in fields(OpenIntent))
_SHIFT_FIELDS = tuple(field.name for field in fields(Shift))
_SALE_FIELDS = tuple(field.name for field in fields(LastSale))


def pack(state: State) -> list[tuple[Any, ...]]:
    """The own fields of the STATE records that open a volume."""
    raw = cbor.dumps(_freeze(state))
    pieces = [raw[n : n + PART_BYTES] for n in range(0, len(raw), PART_BYTES)]
    return [
        own_of(Kind.STATE, part=n, parts=len(pieces), state=piece)
        for n, piece in enumerate(pieces, start=1)
    ]


def unpack(pieces: Sequence[bytes]) -> State:
    """The state from its parts in order. Raises JOURNAL_CHAIN."""
    try:
        return _thaw(cbor.loads_own(b"".join(pieces)))
    except (WireFormError, ValueError, TypeError, IndexError) as fault:
        raise JournalChainError(reason="state") from fault


def _freeze(state: State) -> list[Any]:
    return [
        FORMAT,
        state.boot_no,
        state.hw_us,
        [_row(intent, _INTENT_FIELDS) for intent in state.intents.values()],
        state.hold,
        None if state.shift is None else _row(state.shift, _SHIFT_FIELDS),
        None if state.last_sale is None else _row(state.last_sale, _SALE_FIELDS),
        state.day,
        _pairs(state.day_fen.items()),
        state.meal,
        _pairs(state.meal_count.items()),
        _pairs(state.recent_stamps().items()),
        sorted(state.unconfirmed),
        sorted(state.suspects),
        _pairs(sorted(state.versions.items())),
        _pairs(state.commands.items()),
        _pairs(state.seen_commands.items()),
        [list(item) for item in state.unsynced],
    ]


def _thaw(items: list[Any]) -> State:
    if items[0] != FORMAT:
        raise JournalChainError(reason="state", format=items[0])
    intents = [_intent(row) for row in items[3]]
    return State(
        boot_no=items[1],
        hw_us=items[2],
        intents={intent.seq: intent for intent in intents},
        hold=items[4],
        shift=None if items[5] is None else Shift(*items[5]),
        last_sale=None if items[6] is None else LastSale(*items[6]),
        day=items[7],
        day_fen=dict(items[8]),
        meal=items[9],
        meal_count=dict(items[10]),
        stamps=dict(items[11]),
        unconfirmed=set(items[12]),
        suspects=set(items[13]),
        versions=dict(items[14]),
        commands=dict(items[15]),
        seen_commands=dict(items[16]),
        unsynced=deque((seq, asn, fen) for seq, asn, fen in items[17]),
        unsynced_fen=sum(fen for _, _, fen in items[17]),
    )


def _intent(row: list[Any]) -> OpenIntent:
    intent = OpenIntent(**dict(zip(_INTENT_FIELDS, row, strict=True)))
    intent.abandoned, intent.handed_up, intent.served = map(bool, row[-3:])
    return intent


def _row(thing: object, names: Sequence[str]) -> list[Any]:
    values = (getattr(thing, name) for name in names)
    return [int(value) if isinstance(value, bool) else value for value in values]


def _pairs(items: Iterable[tuple[Any, Any]]) -> list[list[Any]]:
    return [list(item) for item in items]
