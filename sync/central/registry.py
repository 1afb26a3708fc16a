"""Enrolled terminals and their keys, cached: what rows 2 and 3 of sync.md §6 compare with.

The cache only saves reads. Whether a terminal may still post is decided by its lane's state inside
the posting transaction, so a stale entry cannot let a revoked terminal through.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import Connection, Engine, bindparam, select

from protocols.wire.cose import load_spki
from sync.central import schema
from sync.central.engine import reading
from sync.central.ingest_core import Enrolled, Key, KeyState


class TerminalState(IntEnum):
    """State of a terminal; stored."""

    NEW = 0
    ENROLLED = 1
    REVOKED = 2
    CLOSED = 3


_terminal, _key = schema.terminal, schema.terminal_key
_ROW = select(_terminal).where(_terminal.c.code == bindparam("c"))
_KEYS = select(_key.c.kid, _key.c.spki, _key.c.state).where(_key.c.terminal == bindparam("t"))


def load(connection: Connection, code: str) -> Enrolled | None:
    """The enrolment of a terminal, None where the office knows no such name."""
    row = connection.execute(_ROW, {"c": code}).one_or_none()
    if row is None:
        return None
    keys = connection.execute(_KEYS, {"t": row.id}).all()
    return Enrolled(
        terminal=row.id,
        code=row.code,
        site=row.site,
        part=row.part,
        merchant=row.merchant,
        role=row.role,
        revoked=row.state in (TerminalState.REVOKED, TerminalState.CLOSED),
        keys={key.kid: Key(key.kid, KeyState(key.state), load_spki(key.spki)) for key in keys},
    )


class Registry:
    """Enrolments by name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, Enrolled] = {}

    def get(self, code: str, kid: bytes | None = None) -> Enrolled | None:
        """The enrolment; read again when it is unknown or does not hold `kid`."""
        found = self._known.get(code)
        if found is None or (kid is not None and kid not in found.keys):
            with reading(self._engine) as connection:
                found = load(connection, code)
            if found is not None:
                self._known[code] = found
        return found

    def forget(self, code: str | None = None) -> None:
        """Drop one cached enrolment, or all."""
        if code is None:
            self._known.clear()
        else:
            self._known.pop(code, None)
