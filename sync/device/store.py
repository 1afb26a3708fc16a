"""sync.db: what the centre said, as it signed it (sync.md §11). The daemon is its only writer.

The terminal process reads it and verifies every signature itself; nothing here is believed because
it is here. `acked` is the daemon's own notebook, not evidence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from firmware.base.sqlite import connect
from protocols.errors import WireFormError
from protocols.wire import cbor
from protocols.wire.chain import Position

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS kept(name TEXT PRIMARY KEY, v BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS list_part(name TEXT NOT NULL, version INTEGER NOT NULL,"
    " idx INTEGER NOT NULL, cose BLOB NOT NULL, PRIMARY KEY(name, version, idx)) STRICT",
    "CREATE TABLE IF NOT EXISTS list_delta(name TEXT NOT NULL, version INTEGER NOT NULL,"
    " cose BLOB NOT NULL, PRIMARY KEY(name, version)) STRICT",
    "CREATE TABLE IF NOT EXISTS cmd(id BLOB PRIMARY KEY, cose BLOB NOT NULL,"
    " received_us INTEGER NOT NULL) STRICT",
)
COMMANDS_MAX = 1_000


class SyncStore:
    """One open sync.db."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection = connect(path)
        for statement in SCHEMA:
            self._connection.execute(statement)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def kept(self, name: str) -> bytes | None:
        """The value under a name."""
        row = self._connection.execute("SELECT v FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep(self, values: dict[str, bytes]) -> None:
        """Store values together, durable on return."""
        self._connection.execute("BEGIN IMMEDIATE")
        for name, value in values.items():
            self._put(name, value)
        self._connection.execute("COMMIT")

    def acked(self) -> Position | None:
        """The position last acknowledged, as the daemon noted it."""
        raw = self.kept("acked")
        return None if raw is None else Position(*cbor.loads(raw))

    def dseq(self) -> int:
        """The highest dseq seen."""
        raw = self.kept("dseq")
        return 0 if raw is None else int.from_bytes(raw, "big")

    def versions(self) -> dict[str, int]:
        """Version of each list stored here: its snapshot led on by its deltas."""
        rows = self._connection.execute(
            "SELECT name, max(version) FROM (SELECT name, version FROM list_part"
            " UNION ALL SELECT name, version FROM list_delta) GROUP BY name"
        )
        return {str(name): int(version) for name, version in rows}

    def keep_list(self, name: str, version: int, head: bytes, parts: Sequence[bytes]) -> None:
        """Replace a list by a new version: head and parts in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM list_part WHERE name = ?", (name,))
        self._connection.execute("DELETE FROM list_delta WHERE name = ?", (name,))
        self._connection.executemany(
            "INSERT INTO list_part(name, version, idx, cose) VALUES (?, ?, ?, ?)",
            [(name, version, n, part) for n, part in enumerate(parts)],
        )
        self._put(f"list_head:{name}", head)
        self._connection.execute("COMMIT")

    def keep_deltas(self, name: str, head: bytes, deltas: Sequence[tuple[int, bytes]]) -> None:
        """Lead a stored list on: deltas and the head they reach in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO list_delta(name, version, cose) VALUES (?, ?, ?)",
            [(name, version, cose) for version, cose in deltas],
        )
        self._put(f"list_head:{name}", head)
        self._connection.execute("COMMIT")

    def snapshot(self, name: str) -> tuple[list[bytes], list[bytes]]:
        """(parts, deltas) of a stored list, as signed, in order."""
        parts = self._connection.execute(
            "SELECT cose FROM list_part WHERE name = ? ORDER BY idx", (name,)
        )
        deltas = self._connection.execute(
            "SELECT cose FROM list_delta WHERE name = ? ORDER BY version", (name,)
        )
        return [bytes(row[0]) for row in parts], [bytes(row[0]) for row in deltas]

    def _put(self, name: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO kept(name, v) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET v = excluded.v",
            (name, value),
        )

    def keep_command(self, command_id: bytes, cose: bytes, received_us: int) -> None:
        """Store a command once; the oldest go first beyond COMMANDS_MAX."""
        self._connection.execute(
            "INSERT OR IGNORE INTO cmd(id, cose, received_us) VALUES (?, ?, ?)",
            (command_id, cose, received_us),
        )
        self._connection.execute(
            "DELETE FROM cmd WHERE id NOT IN"
            " (SELECT id FROM cmd ORDER BY received_us DESC LIMIT ?)",
            (COMMANDS_MAX,),
        )


def position_raw(position: Position) -> bytes:
    """A position as stored under `acked`."""
    return cbor.dumps([position.epoch, position.seq, position.hash])


def position_of(raw: bytes) -> Position:
    """A position as stored. Raises WIRE_FORM."""
    items = cbor.loads(raw)
    if type(items) is not list or len(items) != 3:
        raise WireFormError(field="pos", offset=0, clause="sync.md 3")
    return Position(*items)
