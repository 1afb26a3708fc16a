"""The connection factory sets and reads back what keeps a journal alive through a power cut."""

import os
import sqlite3
from pathlib import Path

import pytest

from firmware.base import sqlite as factory
from firmware.base.errors import JournalFailError, SqliteOldError
from firmware.base.sqlite import connect

EXPECTED = {
    "journal_mode": "wal",
    "synchronous": 2,
    "wal_autocheckpoint": 1000,
    "busy_timeout": 250,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "foreign_keys": 1,
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("read_only", [False, True])
def test_each_pragma_is_in_force(name: str, read_only: bool, tmp_path: Path) -> None:
    """Every pragma of ledger.md §3.1 holds on writing and reading connections."""
    path = tmp_path / "j.db"
    connect(path).close()
    connection = connect(path, read_only=read_only)
    assert connection.execute(f"PRAGMA {name}").fetchone()[0] == EXPECTED[name]
    connection.close()


def test_autocommit(tmp_path: Path) -> None:
    """No implicit transaction: another connection sees a row at once."""
    path = tmp_path / "j.db"
    writer, reader = connect(path), None
    writer.execute("CREATE TABLE t(x)")
    writer.execute("INSERT INTO t VALUES(1)")
    reader = connect(path, read_only=True)
    assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]
    writer.close()
    reader.close()


def test_read_only_cannot_write(tmp_path: Path) -> None:
    """The reader of another process's file cannot change it, and cannot create it."""
    path = tmp_path / "j.db"
    with pytest.raises(JournalFailError):
        connect(path, read_only=True)
    assert not path.exists()
    connect(path).close()
    reader = connect(path, read_only=True)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("CREATE TABLE t(x)")
    reader.close()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_pragma_that_does_not_take_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pragma that reads back as something else: JOURNAL_FAIL naming it (negative control)."""
    wrong = tuple((n, v, "other" if n == name else e) for n, v, e in factory.PRAGMAS)
    monkeypatch.setattr(factory, "PRAGMAS", wrong)
    with pytest.raises(JournalFailError) as found:
        connect(tmp_path / "j.db")
    assert found.value.facts["pragma"] == name


def test_old_library_is_refused(tmp_path: Path) -> None:
    """SQLite below 3.37 is JOURNAL_SQLITE_OLD."""
    with pytest.raises(SqliteOldError):
        connect(tmp_path / "j.db", version=(3, 36, 9))


@pytest.mark.parametrize("content", [b"not a database" * 100, os.urandom(4096)])
def test_not_a_database(content: bytes, tmp_path: Path) -> None:
    """A file that is no database is JOURNAL_FAIL, and stays as it was."""
    path = tmp_path / "j.db"
    path.write_bytes(content)
    with pytest.raises(JournalFailError):
        connect(path)
    assert path.read_bytes() == content


def test_folder_missing(tmp_path: Path) -> None:
    """A folder that does not exist is JOURNAL_FAIL."""
    with pytest.raises(JournalFailError):
        connect(tmp_path / "none" / "j.db")
