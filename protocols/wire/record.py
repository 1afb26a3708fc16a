"""The journal record: its bytes, kinds and fields (ledger.md §3.3).

One CBOR array: [seq, kind, flags, wall, mono, boot_no, ref, inst, ctr, fen, own...]. Numbers are
wire values and never change meaning; a kind grows only at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from protocols.errors import RecordError, WireFormError
from protocols.money import FEN_MAX
from protocols.wire import RECORD_BYTES_MAX, cbor, shape

PREFIX = ("seq", "kind", "flags", "wall", "mono", "boot_no", "ref", "inst", "ctr", "fen")
FLAG_CLOCK_SUSPECT = 1
_CLAUSE = "ledger.md 3.3"


class Kind(IntEnum):
    """Record kinds; the number is the wire value."""

    EPOCH = 1
    BOOT = 2
    STATE = 3
    POLICY = 4
    MARK = 5
    CMD = 6
    ALARM = 7
    SHIFT = 8
    CMD_DONE = 9
    INTENT = 10
    CAPTURE = 11
    VOID = 12
    DOUBT = 13
    DOUBT_UP = 14
    DOUBT_DONE = 15
    ABANDON = 16
    REVERSAL = 17
    SESSION = 20
    METER = 21
    SETTLE = 22
    RESIDUAL_USE = 23
    RESIDUAL_UP = 24
    CODE_OPEN = 30
    QUANTUM = 31
    CODE_END = 32
    LEASE_GIVE = 33
    LEASE_TAKE = 34
    CODE_TRY = 35
    LOAD_INTENT = 40
    LOADED = 41
    GATE = 50
    PASS = 51
    TAILGATE = 52
    ANTI_CRUSH = 53
    OWED = 54
    ENERGY = 60


class FieldSpec(NamedTuple):
    """One own field: its name, its check, and whether it may be null."""

    name: str
    check: shape.Check
    optional: bool = False


_U = shape.uint()
_T = shape.text()
_ANY = shape.anything


def _must(name: str, check: shape.Check) -> FieldSpec:
    return FieldSpec(name, check)


def _may(name: str, check: shape.Check) -> FieldSpec:
    return FieldSpec(name, check, optional=True)


OWN: dict[Kind, tuple[FieldSpec, ...]] = {
    Kind.EPOCH: (
        _must("epoch", shape.uint(shape.U32_MAX)),
        _must("prev_epoch", shape.uint(shape.U32_MAX)),
        _must("prev_seq", _U),
        _must("prev_h", shape.raw(32)),
        _must("hw0", _U),
    ),
    Kind.BOOT: (_must("boot_id", shape.raw(8)), _may("versions", _ANY), _may("findings", _ANY)),
    Kind.STATE: (_must("part", _U), _must("parts", _U), _must("state", _ANY)),
    Kind.POLICY: (_must("list", _T), _must("version", _U)),
    Kind.MARK: (),
    Kind.CMD: (_must("command_id", shape.raw(16)), _must("command_kind", _U)),
    Kind.ALARM: (_must("code", _T), _may("arguments", _ANY)),
    Kind.SHIFT: (
        _must("action", shape.uint(1)),  # 0 open, 1 close
        _must("operator", shape.raw(10)),
        _may("totals", _ANY),  # [[instrument, count, fen], ...]
        _may("doubts", _U),
        _may("unsynced", _U),
    ),
    Kind.CMD_DONE: (_must("result", _T),),
    Kind.INTENT: (
        _must("means", shape.uint(3)),  # 0 card, 1 pay code, 2 WeChat, 3 Alipay
        _may("sale", _ANY),  # [id, mode, digest?, lines?, prices version?]
        _may("uid", shape.raw(limit=10)),
        _may("purse_before", shape.uint(FEN_MAX)),
        _may("type", shape.uint(255)),
        _may("tid", shape.raw(6)),
        _may("termseq", shape.uint(shape.U32_MAX)),
        _may("date", shape.raw(4)),
        _may("time", shape.raw(3)),
        _may("keyver", shape.uint(255)),
        _may("mac1", shape.raw(4)),
        _may("exp_mac2", shape.raw(4)),
        _may("prev", shape.raw(limit=64)),
    ),
    Kind.CAPTURE: (
        _may("purse_after", shape.uint(FEN_MAX)),
        _may("tac", shape.raw(4)),
        _may("late", shape.uint(1)),
        _may("via", _T),
    ),
    Kind.VOID: (_must("via", _T),),
    Kind.DOUBT: (_must("reason", _T),),
    Kind.DOUBT_UP: (_may("evidence", _ANY), _may("forged", shape.uint(1))),
    Kind.DOUBT_DONE: (_must("decision", _T), _may("via", _T)),
    Kind.ABANDON: (),
    Kind.REVERSAL: (_must("operator", shape.raw(10)), _must("reason", _T)),
    Kind.SESSION: (_must("tariff_version", _U),),
    Kind.METER: (
        _must("state", _U),
        _must("pulses", _U),
        _must("used_mfen", _U),
        _must("paid_fen", _U),
    ),
    Kind.SETTLE: (
        _must("reason", _T),
        _must("paid", _U),
        _must("residual", _U),
        _may("lease_until", _U),
    ),
    Kind.RESIDUAL_USE: (_must("session", _U),),
    Kind.RESIDUAL_UP: (),
    Kind.CODE_OPEN: (),
    Kind.QUANTUM: (),
    Kind.CODE_END: (_must("reason", _T),),
    Kind.LEASE_GIVE: (_must("to", _T), _must("to_epoch", _U)),
    Kind.LEASE_TAKE: (
        _must("transfer_id", _ANY),
        _must("from", _T),
        _must("to_epoch", _U),
        _must("expires_at", _U),
    ),
    Kind.CODE_TRY: (_must("result", _T), _must("tokens", _U)),
    Kind.LOAD_INTENT: (
        _must("load_id", shape.raw(16)),
        _must("rnd", shape.raw(4)),
        _must("tid", shape.raw(6)),
        _must("date", shape.raw(4)),
        _must("time", shape.raw(3)),
    ),
    Kind.LOADED: (_must("purse_after", shape.uint(FEN_MAX)), _may("tac", shape.raw(4))),
    Kind.GATE: (_must("visit", _ANY), _must("lane", _ANY), _must("what", _ANY)),
    Kind.PASS: (_must("visit", _ANY), _must("direction", _U), _may("assumed", shape.uint(1))),
    Kind.TAILGATE: (_must("visit", _ANY), _may("picture", _ANY)),
    Kind.ANTI_CRUSH: (_must("visit", _ANY),),
    Kind.OWED: (_must("visit", _ANY), _must("tariff_version", _U)),
    Kind.ENERGY: (_must("meter", _ANY), _must("kwh_x100", _U), _must("read_at", _U)),
}

_INDEX: dict[int, dict[str, int]] = {
    int(kind): {spec.name: n for n, spec in enumerate(specs)} for kind, specs in OWN.items()
}
_PREFIX_CHECKS: tuple[shape.Check, ...] = (
    shape.uint(),
    shape.uint(shape.U32_MAX),
    shape.uint(1),
    shape.uint(),
    shape.uint(),
    shape.uint(shape.U32_MAX),
    shape.optional(shape.uint()),
    shape.optional(shape.raw(limit=16)),
    shape.optional(shape.uint(shape.U32_MAX)),
    shape.uint(FEN_MAX),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record. `wall_us` µs UTC, `mono_us` µs since boot, `fen` integer fen."""

    seq: int
    kind: int
    flags: int
    wall_us: int
    mono_us: int
    boot_no: int
    ref: int | None = None
    inst: bytes | None = None
    ctr: int | None = None
    fen: int = 0
    own: tuple[Any, ...] = ()

    def encode(self) -> bytes:
        """The body: deterministic CBOR. Raises WIRE_RECORD for a field that does not fit."""
        checked = _checked(self._items())
        raw = cbor.dumps(checked)
        if len(raw) > RECORD_BYTES_MAX:
            raise RecordError(field="body", offset=len(raw), clause=_CLAUSE)
        return raw

    @classmethod
    def decode(cls, raw: bytes, *, own_journal: bool = False) -> Record:
        """A record from its body; unknown kinds keep their own fields unread.

        `own_journal` skips the walk for hostile CBOR: for bytes guarded by our own chain.
        Raises WIRE_RECORD.
        """
        if len(raw) > RECORD_BYTES_MAX:
            raise RecordError(field="body", offset=len(raw), clause=_CLAUSE)
        try:
            items = cbor.loads_own(raw) if own_journal else cbor.loads(raw, depth_max=8)
        except WireFormError as exc:
            raise RecordError(**exc.facts) from exc
        if type(items) is not list or len(items) < len(PREFIX):
            raise RecordError(field="array", offset=0, clause=_CLAUSE)
        items = _checked(items)
        return cls(*[*items[:10], tuple(items[10:])])

    def get(self, name: str) -> Any:
        """The own field `name`; null where this record does not carry it."""
        n = _INDEX[self.kind][name]
        return self.own[n] if n < len(self.own) else None

    @property
    def known(self) -> bool:
        """Whether this version knows the kind."""
        return self.kind in _INDEX

    def _items(self) -> list[Any]:
        return [
            self.seq,
            int(self.kind),
            self.flags,
            self.wall_us,
            self.mono_us,
            self.boot_no,
            self.ref,
            self.inst,
            self.ctr,
            self.fen,
            *self.own,
        ]


def own_of(kind: Kind, **values: Any) -> tuple[Any, ...]:
    """The own fields of a kind in wire order; absent optional ones are null.

    A name the kind does not have is our bug, not the world's.
    """
    index = _INDEX[kind]
    assert values.keys() <= index.keys(), (kind, sorted(values), sorted(index))
    return tuple(values.get(name) for name in index)


def _checked(items: list[Any]) -> list[Any]:
    try:
        for n, check in enumerate(_PREFIX_CHECKS):
            check(items[n], PREFIX[n], n)
        _check_own(items)
    except WireFormError as exc:
        raise RecordError(**{**exc.facts, "clause": _CLAUSE}) from exc
    return items


def _check_own(items: list[Any]) -> None:
    if items[0] == 0:
        raise shape.bad("seq", 0)
    specs: Iterable[FieldSpec] = OWN.get(items[1], ())
    size = len(items)
    for n, spec in enumerate(specs, start=len(PREFIX)):
        value = items[n] if n < size else None
        if value is None:
            if not spec.optional:
                raise shape.bad(spec.name, n)
            continue
        spec.check(value, spec.name, n)
