"""One number for a whole run: every delivered event, then books, journals and chips as they ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.world.people import Counter
    from sim.world.truth import Holder


class Digest:
    """SHA-256 over what happened."""

    def __init__(self) -> None:
        self._hash = sha256()

    def event(self, t_us: int, node: str, what: bytes) -> None:
        """One delivered event."""
        self._hash.update(t_us.to_bytes(8, "big") + node.encode() + b"\0" + what)

    def state(
        self, books: Path, counters: Mapping[str, Counter], holders: Iterable[Holder]
    ) -> None:
        """The final state: central tables in key order, journal heads, chips."""
        connection = sqlite3.connect(books)
        try:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            ).fetchall()
            for (name,) in names:
                keys = [r[1] for r in connection.execute(f"PRAGMA table_info({name})") if r[5]]
                order = f" ORDER BY {', '.join(keys)}" if keys else ""
                query = f"SELECT * FROM {name}{order}"  # noqa: S608 - names from the schema itself
                for row in connection.execute(query):
                    self._hash.update(repr(row).encode())
        finally:
            connection.close()
        for name, counter in counters.items():
            self._hash.update(repr((name, counter.station.shadow.tip())).encode())
        for holder in holders:
            purse = holder.card.purse
            self._hash.update(repr((holder.asn, purse.balance, purse.offline)).encode())

    def hex(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()
