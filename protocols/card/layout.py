"""Fixed-width layouts, cut in one place, so that every codec refuses wrong lengths alike."""

from collections.abc import Sequence

from protocols.errors import FrameError

Layout = Sequence[tuple[str, int]]


def cut(raw: bytes, layout: Layout, error: type[FrameError], clause: str) -> tuple[bytes, ...]:
    """Cut `raw` into the layout's fields, using every byte exactly once.

    Raises `error` naming the first field that is cut short, or `trailing` with the offset of
    the first byte too many.
    """
    parts: list[bytes] = []
    offset = 0
    for name, size in layout:
        part = raw[offset : offset + size]
        if len(part) != size:
            raise error(field=name, offset=offset, clause=clause)
        parts.append(part)
        offset += size
    if offset != len(raw):
        raise error(field="trailing", offset=offset, clause=clause)
    return tuple(parts)


def uint(raw: bytes) -> int:
    """Big-endian unsigned integer."""
    return int.from_bytes(raw, "big")
