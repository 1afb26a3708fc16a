"""The segment: up to 100 consecutive records of one lane, chained and signed (sync.md §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.errors import WireFormError
from protocols.wire import (
    FORMAT_VERSION,
    RECORD_BYTES_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENT_RECORDS_MAX,
    cbor,
    shape,
)
from protocols.wire.chain import chain
from protocols.wire.cose import Signer, sign1

_CHECKS: tuple[tuple[str, shape.Check], ...] = (
    ("version", shape.uint(FORMAT_VERSION)),
    ("site", shape.text(8)),
    ("part", shape.uint(63)),
    ("term", shape.text(12)),
    ("epoch", shape.uint(shape.U32_MAX)),
    ("first", shape.uint(shape.UINT_MAX - SEGMENT_RECORDS_MAX)),
    ("prev", shape.raw(32)),
    ("tip", shape.raw(32)),
    ("sent", shape.uint()),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Records first .. first+len(bodies)-1 of (term, epoch); `bodies` are the stored bytes."""

    site: str
    part: int
    term: str
    epoch: int
    first: int
    prev: bytes
    tip: bytes
    sent_us: int
    bodies: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """The last seq carried."""
        return self.first + len(self.bodies) - 1

    def hashes(self) -> list[bytes]:
        """h(first) .. h(last), recomputed from `prev`."""
        return chain(self.prev, self.bodies)

    def encode(self) -> bytes:
        """The payload that is signed. Raises WIRE_FORM when a limit of sync.md §3 is passed."""
        items = [
            FORMAT_VERSION,
            self.site,
            self.part,
            self.term,
            self.epoch,
            self.first,
            self.prev,
            self.tip,
            self.sent_us,
            list(self.bodies),
        ]
        _check(items)
        raw = cbor.dumps(items)
        if len(raw) > SEGMENT_BYTES_MAX:
            raise WireFormError(field="segment", offset=len(raw), clause="sync.md 3")
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Segment:
        """A segment from its payload. Raises WIRE_FORM."""
        if len(raw) > SEGMENT_BYTES_MAX:
            raise WireFormError(field="segment", offset=len(raw), clause="sync.md 3")
        items = shape.array(cbor.loads(raw), range(10, 11), "segment")
        _check(items)
        return cls(*[*items[1:9], tuple(items[9])])

    def signed(self, signer: Signer) -> bytes:
        """The COSE_Sign1 envelope that travels and is archived."""
        return sign1(self.encode(), signer)


def cut(
    bodies: Sequence[bytes], records_max: int = SEGMENT_RECORDS_MAX, bytes_max: int = 61_440
) -> int:
    """How many leading bodies fit one segment: at most 100 records and, with envelope, 64 KiB."""
    size = 0
    for n, body in enumerate(bodies[:records_max]):
        size += len(body) + 3
        if size > bytes_max:
            return n
    return min(len(bodies), records_max)


def _check(items: list[object]) -> None:
    for n, (field, check) in enumerate(_CHECKS):
        check(items[n], field, n)
    if items[0] != FORMAT_VERSION:
        raise shape.bad("version", 0)
    if items[5] == 0:
        raise shape.bad("first", 5)
    bodies = shape.array(items[9], range(1, SEGMENT_RECORDS_MAX + 1), "records")
    for body in bodies:
        if type(body) is not bytes or not 0 < len(body) <= RECORD_BYTES_MAX:
            raise shape.bad("records", 9)
