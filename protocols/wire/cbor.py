"""Core deterministic CBOR (RFC 8949 §4.2.1) without tags, floats or indefinite lengths.

`loads` walks the heads of untrusted bytes before the library sees them, so hostile input costs
bounded time and memory; `loads_own` skips that walk for bytes that a hash chain already guards.
"""

from __future__ import annotations

from typing import Any

import cbor2

from protocols.errors import WireFormError

DEPTH_MAX = 4
_CLAUSE = "RFC 8949 4.2.1"
_MINIMUM = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
_NULL = 0xF6


def dumps(value: object) -> bytes:
    """Deterministic encoding of ints, byte and text strings, arrays, maps and null."""
    raw: bytes = cbor2.dumps(value, canonical=True)
    return raw


def loads(raw: bytes, depth_max: int = DEPTH_MAX) -> Any:
    """The value of untrusted bytes. Raises WIRE_FORM with the offset of the first bad head."""
    _walk(raw, depth_max)
    value = loads_own(raw)
    if dumps(value) != raw:  # map keys out of order or twice
        raise WireFormError(field="map", offset=0, clause=_CLAUSE)
    return value


def loads_own(raw: bytes) -> Any:
    """The value of bytes that are known to be ours. Raises WIRE_FORM."""
    try:
        return cbor2.loads(raw)
    except (cbor2.CBORDecodeError, ValueError) as exc:
        raise WireFormError(field="cbor", offset=0, clause=_CLAUSE) from exc


def head(raw: bytes, at: int) -> tuple[int, int, int]:
    """(major type, argument, offset behind the head) at an offset. Raises WIRE_FORM."""
    if at >= len(raw):
        raise WireFormError(field="head", offset=at, clause=_CLAUSE)
    major, low = raw[at] >> 5, raw[at] & 31
    if low < 24:
        return major, low, at + 1
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(low)
    if size is None or at + 1 + size > len(raw):
        raise WireFormError(field="head", offset=at, clause=_CLAUSE)
    argument = int.from_bytes(raw[at + 1 : at + 1 + size], "big")
    if argument < _MINIMUM[low] and major != 7:
        raise WireFormError(field="head", offset=at, clause=_CLAUSE)
    return major, argument, at + 1 + size


def _walk(raw: bytes, depth_max: int) -> None:
    at = 0
    open_items = [1]  # items still expected on each level; bounded by depth_max
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        start = at
        major, argument, at = head(raw, at)
        if major in (2, 3):
            at += argument
        elif major in (4, 5):
            if len(open_items) > depth_max or argument > len(raw) - at:
                raise WireFormError(field="nesting", offset=start, clause=_CLAUSE)
            open_items.append(argument * (major - 3))
        elif major > 5 and raw[start] != _NULL:
            raise WireFormError(field="type", offset=start, clause=_CLAUSE)
    if at != len(raw):  # also a string that runs past the end
        raise WireFormError(field="length", offset=at, clause=_CLAUSE)
