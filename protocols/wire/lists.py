"""Set encoding and deltas of the `cards` list, and the cutting of any list into parts (sync.md §7).

The set of blocked ASNs is exact: each ASN as one integer (its 10 bytes, big-endian), sorted,
differences minus one as LEB128. Foreign cards work and there are no false refusals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from protocols.errors import ListError
from protocols.wire.messages import ListDelta, ListHead, ListPart

ASN_BYTES = 10
ASN_MAX = 2 ** (8 * ASN_BYTES) - 1
CARDS_MAX = 1_000_000
PART_BYTES = 32_768
PARTS_MAX = 512
_LEB_BYTES_MAX = 12
_CLAUSE = "sync.md 7"


def encode_set(asns: Iterable[int]) -> bytes:
    """The bytes of a set of card numbers."""
    out = bytearray()
    before = -1
    for asn in sorted(asns):
        assert before < asn <= ASN_MAX, (before, asn)
        gap = asn - before - 1
        while gap >= 0x80:
            out.append(gap & 0x7F | 0x80)
            gap >>= 7
        out.append(gap)
        before = asn
    return bytes(out)


def decode_set(raw: bytes) -> frozenset[int]:
    """The set from its bytes. Raises WIRE_LIST naming the offset of the first bad number."""
    found: list[int] = []
    before = -1
    at = 0
    while at < len(raw):
        gap, at = _leb128(raw, at)
        before += gap + 1
        if before > ASN_MAX or len(found) >= CARDS_MAX:
            raise ListError(field="asn", offset=at, clause=_CLAUSE)
        found.append(before)
    return frozenset(found)


def _leb128(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(_LEB_BYTES_MAX):
        if at + n >= len(raw):
            break
        byte = raw[at + n]
        value |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            if byte == 0 and n:  # a longer spelling of the same number
                break
            return value, at + n + 1
    raise ListError(field="leb128", offset=at, clause=_CLAUSE)


def asn_number(asn: bytes) -> int:
    """A card number of 10 bytes as the list's integer."""
    assert len(asn) == ASN_BYTES, len(asn)
    return int.from_bytes(asn, "big")


def delta_of(name: str, base: int, before: frozenset[int], after: frozenset[int]) -> ListDelta:
    """The delta from version `base` to `base + 1`."""
    whole = encode_set(after)
    return ListDelta(
        name=name,
        base=base,
        version=base + 1,
        adds=encode_set(after - before),
        dels=encode_set(before - after),
        count=len(after),
        sha256=sha256(whole).digest(),
    )


def apply_delta(before: frozenset[int], version: int, delta: ListDelta) -> frozenset[int]:
    """The set after a delta. Raises WIRE_LIST when base, count or digest do not fit."""
    if delta.base != version or delta.version != version + 1:
        raise ListError(field="base", offset=0, got=delta.base, clause=_CLAUSE)
    after = (before - decode_set(delta.dels)) | decode_set(delta.adds)
    if len(after) != delta.count or sha256(encode_set(after)).digest() != delta.sha256:
        raise ListError(field="sha256", offset=0, clause=_CLAUSE)
    return after


def head_of(name: str, version: int, content: bytes, count: int) -> ListHead:
    """The head that puts `content` in force."""
    return ListHead(name, version, sha256(content).digest(), count, len(content))


def parts_of(name: str, version: int, content: bytes) -> list[ListPart]:
    """The content cut into parts; an empty content is one empty part."""
    pieces = [content[n : n + PART_BYTES] for n in range(0, len(content), PART_BYTES)] or [b""]
    assert len(pieces) <= PARTS_MAX, len(pieces)
    return [ListPart(name, version, n, len(pieces), piece) for n, piece in enumerate(pieces)]


def join_parts(head: ListHead, parts: Sequence[ListPart]) -> bytes:
    """The content a head promises, from its parts in order. Raises WIRE_LIST."""
    version, content = join_snapshot(head.name, parts)
    if version != head.version or not fits(head, content):
        raise ListError(field="sha256", offset=0, clause=_CLAUSE)
    return content


def join_snapshot(name: str, parts: Sequence[ListPart]) -> tuple[int, bytes]:
    """(version, content) of parts that belong together; no head vouches for it yet. WIRE_LIST."""
    if not parts:
        raise ListError(field="parts", offset=0, clause=_CLAUSE)
    version = parts[0].version
    for n, part in enumerate(parts):
        if (part.name, part.version, part.index, part.parts) != (name, version, n, len(parts)):
            raise ListError(field="part", offset=n, clause=_CLAUSE)
    return version, b"".join(part.body for part in parts)


def fits(head: ListHead, content: bytes) -> bool:
    """Whether the content is the one a head promises."""
    return len(content) == head.size and sha256(content).digest() == head.sha256


def set_at(head: ListHead, parts: Sequence[ListPart], deltas: Sequence[ListDelta]) -> bytes:
    """The `cards` content a head promises: an older snapshot led on by consecutive deltas.

    Only the head's digest over the result makes it true. Raises WIRE_LIST.
    """
    version, content = join_snapshot(head.name, parts)
    found = decode_set(content)
    for delta in deltas:
        if delta.name != head.name:
            raise ListError(field="name", offset=0, clause=_CLAUSE)
        found = apply_delta(found, version, delta)
        version = delta.version
    content = encode_set(found)
    if version != head.version or not fits(head, content):
        raise ListError(field="sha256", offset=0, clause=_CLAUSE)
    return content
