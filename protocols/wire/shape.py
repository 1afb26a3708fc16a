"""Checks of positional arrays: one small function per field of wire.cddl.

A check takes (value, field name, position) and returns the value or raises WIRE_FORM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.errors import WireFormError

Check = Callable[[Any, str, int], Any]
U32_MAX = 2**32 - 1
UINT_MAX = 2**62 - 1  # the sum of two still fits a signed 64-bit column of any database


def bad(field: str, position: int) -> WireFormError:
    """The error for a field of the wrong type, size or range; offset is the element's position."""
    return WireFormError(field=field, offset=position, clause="wire.cddl")


def uint(limit: int = UINT_MAX) -> Check:
    """An unsigned integer up to `limit`."""

    def check(value: Any, field: str, position: int) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise bad(field, position)
        return value

    return check


def raw(size: int | None = None, limit: int = 65_536) -> Check:
    """A byte string, of exactly `size` bytes where given."""

    def check(value: Any, field: str, position: int) -> bytes:
        if type(value) is not bytes or len(value) > limit:
            raise bad(field, position)
        if size is not None and len(value) != size:
            raise bad(field, position)
        return value

    return check


def text(limit: int = 64) -> Check:
    """A text string of at most `limit` characters without NUL, which PostgreSQL cannot hold."""

    def check(value: Any, field: str, position: int) -> str:
        if type(value) is not str or len(value) > limit or "\0" in value:
            raise bad(field, position)
        return value

    return check


def optional(inner: Check) -> Check:
    """`inner` or null."""

    def check(value: Any, field: str, position: int) -> Any:
        return None if value is None else inner(value, field, position)

    return check


def anything(value: Any, field: str, position: int) -> Any:
    """Any value of the strict subset."""
    return value


def versions(value: Any, field: str, position: int) -> dict[str, int]:
    """A map of list name to version, at most 32 entries."""
    if type(value) is not dict or len(value) > 32:
        raise bad(field, position)
    for name, version in value.items():
        if type(name) is not str or type(version) is not int or not 0 <= version <= UINT_MAX:
            raise bad(field, position)
    return dict(value)


def array(value: Any, sizes: range, field: str = "array") -> list[Any]:
    """A list whose length lies in `sizes`. Raises WIRE_FORM."""
    if type(value) is not list or len(value) not in sizes:
        raise bad(field, 0)
    return value
