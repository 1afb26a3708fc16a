"""Messages around the segments: hello up, and what the centre answers (sync.md §3, wire.cddl).

Positional arrays; element 0 is the format version, element 1 of every message from the centre its
number. A message is signed by `cose.sign1(message.encode(), key)`; the envelope is not seen here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from protocols.wire import FORMAT_VERSION, cbor, shape
from protocols.wire.chain import Position

_U = shape.uint()
_U32 = shape.uint(shape.U32_MAX)
_TERM = shape.text(12)
_CODE = shape.text(32)
_HASH = shape.raw(32)
_ID = shape.raw(16)
BODY_DEPTH_MAX = 8


def position(value: Any, field: str, at: int) -> Position:
    """pos = [epoch, seq, hash]."""
    if isinstance(value, Position):
        return value
    items = shape.array(value, range(3, 4), field)
    _U32(items[0], field, at)
    _U(items[1], field, at)
    _HASH(items[2], field, at)
    return Position(*items)


M = TypeVar("M", bound="Message")


class Message:
    """A positional message: `_NUMBER` is None for hello, which has no number element."""

    _NUMBER: ClassVar[int | None]
    _CHECKS: ClassVar[tuple[shape.Check, ...]]

    def encode(self) -> bytes:
        """The payload bytes. Raises WIRE_FORM for a field that does not fit."""
        names = [f.name for f in fields(self)]  # type: ignore[arg-type]  # subclasses are dataclasses
        items = [
            check(getattr(self, name), name, n)
            for n, (name, check) in enumerate(zip(names, self._CHECKS, strict=True))
        ]
        shown = [[p.epoch, p.seq, p.hash] if isinstance(p, Position) else p for p in items]
        lead = [FORMAT_VERSION] if self._NUMBER is None else [FORMAT_VERSION, self._NUMBER]
        return cbor.dumps(lead + shown)

    @classmethod
    def decode(cls: type[M], raw: bytes) -> M:
        """The message from payload bytes. Raises WIRE_FORM."""
        return cls._from(shape.array(cbor.loads(raw, BODY_DEPTH_MAX), range(2, 32), "message"))

    @classmethod
    def _from(cls: type[M], items: list[Any]) -> M:
        lead = 1 if cls._NUMBER is None else 2
        if items[0] != FORMAT_VERSION or (cls._NUMBER is not None and items[1] != cls._NUMBER):
            raise shape.bad("version", 0)
        if len(items) != lead + len(cls._CHECKS):
            raise shape.bad("message", len(items))
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # subclasses are dataclasses
        rows = enumerate(zip(names, cls._CHECKS, strict=True))
        return cls(**{name: check(items[lead + n], name, lead + n) for n, (name, check) in rows})


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Up, at connect, after an ack time-out and every 10 min. Times in µs UTC."""

    term: str
    boot: bytes
    tip: Position
    acked: Position
    lists: dict[str, int]
    t1_us: int
    mono_us: int
    firmware: str
    outbox_pct: int
    dseq: int

    _NUMBER = None
    _CHECKS = (
        _TERM,
        shape.raw(8),
        position,
        position,
        shape.versions,
        _U,
        _U,
        shape.text(64),
        shape.uint(1000),
        _U,
    )


@dataclass(frozen=True, slots=True)
class Ack(Message):
    """Committed at the centre up to (epoch, seq, hash); `credit` = segments allowed unacked."""

    term: str
    epoch: int
    seq: int
    hash: bytes
    at_us: int
    credit: int

    _NUMBER = 1
    _CHECKS = (_TERM, _U32, _U, _HASH, _U, shape.uint(64))


@dataclass(frozen=True, slots=True)
class Need(Message):
    """A gap: send again from `start`, whose predecessor hashes to `prev`."""

    term: str
    epoch: int
    dseq: int
    start: int
    prev: bytes

    _NUMBER = 2
    _CHECKS = (_TERM, _U32, _U, _U, _HASH)


@dataclass(frozen=True, slots=True)
class Reject(Message):
    """A segment that fails authenticity, identity, order or size; quarantined at the centre."""

    term: str
    epoch: int
    dseq: int
    first: int
    last: int
    code: str

    _NUMBER = 3
    _CHECKS = (_TERM, _U32, _U, _U, _U, _CODE)


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Answer to hello: the centre's position of this lane, clock, window and list versions."""

    term: str
    pos: Position
    t1_us: int
    t2_us: int
    t3_us: int
    credit: int
    flush_ms: int
    spread_s: int
    lists: dict[str, int]

    _NUMBER = 4
    _CHECKS = (
        _TERM,
        position,
        _U,
        _U,
        _U,
        shape.uint(64),
        shape.uint(60_000),
        shape.uint(86_400),
        shape.versions,
    )


@dataclass(frozen=True, slots=True)
class Grant(Message):
    """A new epoch for this terminal, following `prev`; opens with no rights (ledger.md §3.2)."""

    term: str
    dseq: int
    epoch: int
    prev: Position
    h0: bytes
    hw0_us: int

    _NUMBER = 5
    _CHECKS = (_TERM, _U, _U32, position, _HASH, _U)


@dataclass(frozen=True, slots=True)
class Halt(Message):
    """Offline money stops; uploading goes on."""

    term: str
    epoch: int
    dseq: int
    code: str

    _NUMBER = 6
    _CHECKS = (_TERM, _U32, _U, _CODE)


@dataclass(frozen=True, slots=True)
class Cmd(Message):
    """A command with a deadline in µs UTC; idempotent by id."""

    term: str
    id: bytes
    kind: int
    deadline_us: int
    body: Any

    _NUMBER = 7
    _CHECKS = (_TERM, _ID, _U32, _U, shape.anything)


@dataclass(frozen=True, slots=True)
class Request(Message):
    """Online request of a terminal, `what` names it; answered by Response or not at all."""

    term: str
    id: bytes
    deadline_us: int
    what: str
    body: Any

    _NUMBER = 8
    _CHECKS = (_TERM, _ID, _U, shape.text(32), shape.anything)


@dataclass(frozen=True, slots=True)
class Response(Message):
    """Answer to the request with this id; `code` is null or an error code."""

    term: str
    id: bytes
    code: str | None
    body: Any

    _NUMBER = 9
    _CHECKS = (_TERM, _ID, shape.optional(_CODE), shape.anything)


@dataclass(frozen=True, slots=True)
class ListHead(Message):
    """Version of a list in force: SHA-256, item count and size in bytes of its whole content."""

    name: str
    version: int
    sha256: bytes
    count: int
    size: int

    _NUMBER = 10
    _CHECKS = (shape.text(12), _U, _HASH, _U, shape.uint(1 << 24))


@dataclass(frozen=True, slots=True)
class ListDelta(Message):
    """Change of the `cards` set from `base` to `version`; adds and dels in the set encoding."""

    name: str
    base: int
    version: int
    adds: bytes
    dels: bytes
    count: int
    sha256: bytes

    _NUMBER = 11
    _CHECKS = (shape.text(12), _U, _U, shape.raw(), shape.raw(), _U, _HASH)


@dataclass(frozen=True, slots=True)
class ListPart(Message):
    """Part `index` of `parts` of a list's content at `version`; at most 32 KiB each."""

    name: str
    version: int
    index: int
    parts: int
    body: bytes

    _NUMBER = 12
    _CHECKS = (shape.text(12), _U, shape.uint(1023), shape.uint(1024), shape.raw(limit=32_768))


Down = (
    Ack | Need | Reject | Welcome | Grant | Halt | Cmd | Response | ListHead | ListDelta | ListPart
)
DOWN: dict[int, type[Down]] = {
    1: Ack,
    2: Need,
    3: Reject,
    4: Welcome,
    5: Grant,
    6: Halt,
    7: Cmd,
    9: Response,
    10: ListHead,
    11: ListDelta,
    12: ListPart,
}


def decode_down(raw: bytes) -> Down:
    """Any message of the centre, by its number. Raises WIRE_FORM."""
    items = shape.array(cbor.loads(raw, BODY_DEPTH_MAX), range(2, 32), "message")
    number = items[1] if type(items[1]) is int else -1
    kind = DOWN.get(number)
    if kind is None:
        raise shape.bad("number", 1)
    return kind._from(items)
