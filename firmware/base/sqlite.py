"""The one SQLite connection factory of the product: journal, sync.db and the SQLite centre.

All pragmas are per connection, so every connection comes from here, and each pragma is read
back: WAL/FULL is what the crash explorations found to lose nothing (ledger.md §3.1, faults.md §3).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from firmware.base.errors import JournalFailError, SqliteOldError

SQLITE_MIN = (3, 37, 0)

PRAGMAS: tuple[tuple[str, str, str | int], ...] = (
    # name, value to set, value read back
    ("busy_timeout", "250", 250),  # first: switching to WAL may meet another opener
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("wal_autocheckpoint", "1000", 1000),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
    ("foreign_keys", "ON", 1),
)


def connect(
    path: Path | str,
    *,
    read_only: bool = False,
    any_thread: bool = False,
    version: tuple[int, ...] = sqlite3.sqlite_version_info,
) -> sqlite3.Connection:
    """A connection in autocommit with every pragma of ledger.md §3.1 set and read back.

    read_only opens an existing file with query_only: the reader of another process's file.
    any_thread lifts sqlite3's own thread check, for an owner that serialises by itself.
    Raises JOURNAL_FAIL (unreadable, not a database, pragma refused), JOURNAL_SQLITE_OLD.
    """
    if version < SQLITE_MIN:
        raise SqliteOldError(got=".".join(map(str, version)), min=".".join(map(str, SQLITE_MIN)))
    if read_only and not Path(path).is_file():
        raise JournalFailError(path=str(path), reason="missing")
    try:
        found = sqlite3.connect(
            str(path), isolation_level=None, timeout=0.25, check_same_thread=not any_thread
        )
    except sqlite3.Error as fault:
        raise JournalFailError(path=str(path), reason=str(fault)) from fault
    try:
        _configure(found, read_only)
    except sqlite3.Error as fault:
        found.close()
        raise JournalFailError(path=str(path), reason=str(fault)) from fault
    except JournalFailError:
        found.close()
        raise
    return found


def _configure(connection: sqlite3.Connection, read_only: bool) -> None:
    """Set and read back each pragma; raises JOURNAL_FAIL at the first that did not take."""
    for name, value, expected in PRAGMAS:
        if name == "journal_mode" and read_only and _read(connection, name) == expected:
            continue  # already WAL: a reader has no business to write the header
        connection.execute(f"PRAGMA {name}={value}")
        _demand(connection, name, expected)
    if read_only:
        connection.execute("PRAGMA query_only=ON")
        _demand(connection, "query_only", 1)


def _read(connection: sqlite3.Connection, name: str) -> str | int | None:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def _demand(connection: sqlite3.Connection, name: str, expected: str | int) -> None:
    got = _read(connection, name)
    if got != expected:
        raise JournalFailError(pragma=name, got=got, expected=expected)
