"""Journal volumes as files: their names, birth, head and rows (ledger.md §3.1).

A volume is born in one transaction together with its first records, so a file is either unborn
(no tables: the power went before the commit, nothing in it was acknowledged) or complete.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.errors import WireFormError
from protocols.wire import cbor
from terminal.errors import JournalChainError, JournalVersionError

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("schema.sql")
INSERT = "INSERT INTO journal(seq, kind, body, h) VALUES (?, ?, ?, ?)"
_NAME = re.compile(r"E([0-9]{5,10})-([0-9]{10,20})\.db", re.ASCII)

# SQLite quotes a damaged schema in its message; Python then fails to decode that message.
READ_FAULTS = (sqlite3.Error, UnicodeDecodeError)
_DAMAGED = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a table or a column that should be there is not
)

Connect = Callable[[Path], sqlite3.Connection]
Row = tuple[int, int, bytes, bytes]  # seq, kind, body, h


@dataclass(frozen=True, slots=True, order=True)
class VolumeFile:
    """A volume by its place: epoch and first seq, as its name says."""

    epoch: int
    first_seq: int
    path: Path


@dataclass(frozen=True, slots=True)
class Head:
    """The meta table: whose volume this is and which hash it continues."""

    terminal: str
    epoch: int
    first_seq: int
    prev_h: bytes
    created_us: int
    schema: int = SCHEMA_VERSION


def volume_path(folder: Path, epoch: int, first_seq: int) -> Path:
    """`E00001-0000000001.db`: names sort in the order of the journal."""
    return folder / f"E{epoch:05d}-{first_seq:010d}.db"


def volumes(folder: Path) -> list[VolumeFile]:
    """Every volume file of the folder, oldest first."""
    found = []
    for path in folder.iterdir():
        named = _NAME.fullmatch(path.name)
        if named is not None:
            found.append(VolumeFile(int(named[1]), int(named[2]), path))
    return sorted(found)


def create(folder: Path, head: Head, rows: Sequence[Row], open_file: Connect) -> sqlite3.Connection:
    """A new volume with its first rows, durable on return. Raises JOURNAL_FAIL."""
    path = volume_path(folder, head.epoch, head.first_seq)
    connection = open_file(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA_FILE.read_text("utf-8").splitlines():
            connection.execute(statement)
        connection.executemany("INSERT INTO meta(k, v) VALUES (?, ?)", _meta(head))
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
        # Into the file itself: a volume that lost its WAL must not look like an unborn one.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sync_folder(folder)
    except (sqlite3.Error, OSError) as fault:
        connection.close()
        raise JournalFailError(path=path.name, reason=str(fault)) from fault
    return connection


def read_head(connection: sqlite3.Connection, name: str = "") -> Head | None:
    """The meta table, or None for an unborn file.

    Raises JOURNAL_VERSION for a newer schema, JOURNAL_CHAIN for an unreadable one, JOURNAL_FAIL.
    """
    try:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            return None
        stored = dict(connection.execute("SELECT k, v FROM meta"))
    except READ_FAULTS as fault:
        raise broken(fault, name) from fault
    try:
        values = {key: cbor.loads(raw) for key, raw in stored.items()}
        if values["schema"] > SCHEMA_VERSION:
            raise JournalVersionError(volume=name, schema=values["schema"], known=SCHEMA_VERSION)
        return Head(**values)
    except (WireFormError, KeyError, TypeError) as fault:
        raise JournalChainError(volume=name, reason="meta") from fault


def rows(connection: sqlite3.Connection, from_seq: int = 0, limit: int = -1) -> Iterator[Row]:
    """Rows in seq order from `from_seq`; limit -1 means all. sqlite3 errors pass through."""
    return connection.execute(
        "SELECT seq, kind, body, h FROM journal WHERE seq >= ? ORDER BY seq LIMIT ?",
        (from_seq, limit),
    )


def hash_in(file: VolumeFile, seq: int) -> bytes | None:
    """h(seq) from a volume opened for reading only. Raises JOURNAL_FAIL."""
    connection = connect(file.path, read_only=True)
    try:
        row = connection.execute("SELECT h FROM journal WHERE seq = ?", (seq,)).fetchone()
    except sqlite3.Error as fault:
        raise JournalFailError(path=file.path.name, reason=str(fault)) from fault
    finally:
        connection.close()
    return None if row is None else bytes(row[0])


def unlink(file: VolumeFile) -> None:
    """Remove a volume with its WAL; the folder is synced by the caller. Raises JOURNAL_FAIL."""
    try:
        for suffix in ("", "-wal", "-shm"):
            file.path.with_name(file.path.name + suffix).unlink(missing_ok=True)
    except OSError as fault:
        raise JournalFailError(path=file.path.name, reason=str(fault)) from fault


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable. OSError passes through."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_volume(path: Path, open_file: Connect) -> sqlite3.Connection:
    """A volume's connection; a file that is no database is JOURNAL_CHAIN, else JOURNAL_FAIL."""
    try:
        return open_file(path)
    except UnicodeDecodeError as fault:
        raise broken(fault, path.name) from fault
    except JournalFailError as fault:
        if isinstance(fault.__cause__, sqlite3.DatabaseError):
            raise broken(fault.__cause__, path.name) from fault
        raise


def broken(
    fault: sqlite3.Error | UnicodeDecodeError, name: str
) -> JournalChainError | JournalFailError:
    """What a read fault of a volume means: a damaged file, or a disk that does not answer."""
    code = getattr(fault, "sqlite_errorcode", None)
    undecodable = isinstance(fault, UnicodeDecodeError)
    if undecodable or (code is not None and code & 0xFF in _DAMAGED):
        return JournalChainError(volume=name, reason=str(fault))
    return JournalFailError(path=name, reason=str(fault))


def _meta(head: Head) -> list[tuple[str, bytes]]:
    fields = ("terminal", "epoch", "first_seq", "prev_h", "created_us", "schema")
    return [(name, cbor.dumps(getattr(head, name))) for name in fields]
