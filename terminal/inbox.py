"""sync.db as the terminal sees it: read-only, polled, and believed in nothing (sync.md §11).

What lies there are messages as the centre signed them; acks and lists verify them here, in this
process. The daemon is the file's only writer, so a missing or broken file, or a value that is no
bounded byte string, only means no news.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect

VALUE_BYTES_MAX = 1 << 18  # the broker's own maximum; a longer value is a read error


class Inbox(Protocol):
    """What the till asks of sync.db; production and simulator read the same file."""

    def changed(self) -> bool:
        """Whether anything was written since the last call that said yes."""

    def kept(self, name: str) -> bytes | None:
        """The signed message under a name."""

    def parts(self, name: str) -> list[bytes]:
        """The signed parts of the list stored under a name, in order."""

    def deltas(self, name: str) -> list[bytes]:
        """The signed deltas that lead those parts on, in order."""

    def commands(self) -> list[tuple[bytes, bytes]]:
        """Commands as (id, signed message), oldest first; the id is the daemon's word only."""


def _read_only(path: Path) -> sqlite3.Connection:
    return connect(path, read_only=True)


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class InboxFile:
    """Inbox over the file; it may appear later, and a read error means no news."""

    def __init__(
        self, path: Path, open_file: Callable[[Path], sqlite3.Connection] = _read_only
    ) -> None:
        self._path = path
        self._open_file = open_file
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._file: tuple[int, int] | None = None  # device and inode that is open

    def changed(self) -> bool:
        """True after a commit of the daemon, and the first time the file, or a new one, is there."""
        if self._connection is not None and self._file != _file_at(self._path):
            self.close()  # deleted, perhaps made again: what is open here would never change
        connection = self._connection or self._open()
        if connection is None:
            return False
        try:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            self.close()
            return False
        if version == self._seen:
            return False
        self._seen = version
        return True

    def kept(self, name: str) -> bytes | None:
        """The signed message under a name, None if there is none."""
        found = self._rows("SELECT v FROM kept WHERE name = ?", name)
        return found[0] if found else None

    def parts(self, name: str) -> list[bytes]:
        """Parts of the newest stored version, in order."""
        return self._rows(
            "SELECT cose FROM list_part WHERE name = ?1 AND version ="
            " (SELECT max(version) FROM list_part WHERE name = ?1) ORDER BY idx LIMIT 1000",
            name,
        )

    def deltas(self, name: str) -> list[bytes]:
        """Deltas behind the stored parts, in order."""
        return self._rows(
            "SELECT cose FROM list_delta WHERE name = ? ORDER BY version LIMIT 1000", name
        )

    def commands(self) -> list[tuple[bytes, bytes]]:
        """Commands received, oldest first."""
        ids = self._rows("SELECT id FROM cmd ORDER BY received_us, id LIMIT ?", 1_000)
        signed = self._rows("SELECT cose FROM cmd ORDER BY received_us, id LIMIT ?", 1_000)
        return list(zip(ids, signed, strict=False))

    def close(self) -> None:
        """Release the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._seen = None

    def _open(self) -> sqlite3.Connection | None:
        self._file = _file_at(self._path)
        if self._file is None:
            return None
        try:
            self._connection = self._open_file(self._path)
        except JournalFailError:
            return None
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
        return self._connection

    def _rows(self, query: str, bound: str | int) -> list[bytes]:
        connection = self._connection or self._open()
        if connection is None:
            return []
        try:
            found = connection.execute(query, (bound,))
            return [value for (value,) in found if type(value) is bytes]
        except sqlite3.Error:
            return []
