"""A terminal's disk: real SQLite files, power cuts that keep only what was synced, and the truth of
what the terminal was told is durable.

A commit is durable as far as the connection's own `PRAGMA synchronous` made it: FULL syncs the WAL
at every commit, anything less only when a checkpoint ran. A cut truncates the WAL to that.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from firmware.base.sqlite import connect

WAL_HEADER, FRAME_HEADER = 32, 24
BACKFILL_AT = 96  # of the -shm file: how many frames are in the database file, and synced
FULL = 2

Row = tuple[int, int, bytes, bytes]  # seq, kind, body, h
Image = dict[Path, bytes]


class PowerLostError(BaseException):
    """The current of this terminal is gone; no code of the product may catch it."""


class Breaker:
    """Cuts at the n-th action from now: between any two actions of one step."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.process_only = False

    def arm(self, actions: int, *, process_only: bool = False) -> None:
        """Cut after so many actions; `process_only` is a kill, the disk keeps everything."""
        self.left = actions
        self.process_only = process_only

    def point(self) -> None:
        """One action is done. Raises PowerLostError when this was the one."""
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            self.left = None
            raise PowerLostError


class Shadow:
    """Every record whose append returned, as the journal must still hold it."""

    def __init__(
        self, told: Callable[[int, Row, bool], None], broken: Callable[[str], None]
    ) -> None:
        self.rows: dict[int, list[tuple[bytes, bytes]]] = {}  # epoch -> (body, h) by seq - 1
        self.abandoned: list[tuple[int, int, bytes]] = []  # epoch, seq, body: lost by a restore
        self.unsure: list[tuple[int, Row]] = []  # committed, but the answer never came
        self._told = told
        self._broken = broken

    def noted(self, epoch: int, row: Row) -> None:
        """An append returned; the record must continue what was durable before."""
        mine = self.rows.setdefault(epoch, [])
        self._adopt(epoch, mine, row[0])
        self.unsure.clear()
        before = mine[-1][1] if mine else None
        if row[0] != len(mine) + 1:
            self._broken(f"epoch {epoch}: seq {row[0]} written, {len(mine)} were durable")
        elif before is not None and sha256(before + row[2]).digest() != row[3]:
            self._broken(f"epoch {epoch}: seq {row[0]} does not continue the chain")
        mine.append((row[2], row[3]))
        self._told(epoch, row, True)

    def _adopt(self, epoch: int, mine: list[tuple[bytes, bytes]], upto: int) -> None:
        """Commits whose answer never came may have reached the disk: the next record tells."""
        for at, maybe in self.unsure:
            if at != epoch or maybe[0] >= upto or maybe[0] != len(mine) + 1:
                continue
            if mine and sha256(mine[-1][1] + maybe[2]).digest() != maybe[3]:
                continue
            mine.append((maybe[2], maybe[3]))
            self._told(epoch, maybe, False)

    def known(self, epoch: int) -> list[tuple[bytes, bytes]]:
        """(body, h) of an epoch, with commits that may have reached the disk unanswered."""
        found = list(self.rows.get(epoch, []))
        for at, maybe in self.unsure:
            if at == epoch and maybe[0] == len(found) + 1:
                found.append((maybe[2], maybe[3]))
        return found

    def tip(self) -> tuple[int, int, bytes]:
        """(epoch, seq, h) of the last durable record."""
        if not self.rows:
            return 0, 0, b""
        epoch = max(self.rows)
        return epoch, len(self.rows[epoch]), self.rows[epoch][-1][1]

    def lengths(self) -> dict[int, int]:
        """How many records each epoch has."""
        return {epoch: len(rows) for epoch, rows in self.rows.items()}

    def roll_back(self, lengths: dict[int, int]) -> int:
        """An old copy was put back: what lies behind is abandoned; how many records."""
        gone = 0
        for epoch, rows in self.rows.items():
            keep = lengths.get(epoch, 0)
            lost = [(epoch, keep + 1 + n, body) for n, (body, _) in enumerate(rows[keep:])]
            self.abandoned += lost
            gone += len(lost)
            del rows[keep:]
        self.rows = {epoch: rows for epoch, rows in self.rows.items() if rows}
        self.unsure.clear()
        return gone


class Tracked:
    """A journal connection whose commits the world notes; the surface the journal uses."""

    def __init__(self, real: sqlite3.Connection, disk: Disk, path: Path) -> None:
        self._real = real
        self._disk = disk
        self._epoch = int(path.name[1:].split("-")[0])
        self._batch: list[Row] = []
        disk.synchronous[path] = int(real.execute("PRAGMA synchronous").fetchone()[0])

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """As sqlite3's; an INSERT in autocommit or a COMMIT makes records durable."""
        if sql.startswith("INSERT INTO journal"):
            return self._write(sql, parameters, [cast(Row, tuple(parameters))])
        if sql == "COMMIT":
            return self._write(sql, (), self._batch)
        return self._real.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:
        """As sqlite3's; records wait for the COMMIT."""
        listed = list(rows)
        if sql.startswith("INSERT INTO journal"):
            self._batch = [cast(Row, tuple(row)) for row in listed]
        return self._real.executemany(sql, listed)

    def close(self) -> None:
        """As sqlite3's."""
        self._real.close()

    def _write(self, sql: str, parameters: Sequence[Any], rows: list[Row]) -> sqlite3.Cursor:
        disk = self._disk
        disk.breaker.point()
        disk.maybe_fail(written=False)
        done = disk.commit(self._real, sql, parameters)
        disk.shadow.unsure += [(self._epoch, row) for row in rows]
        disk.maybe_fail(written=True)
        disk.breaker.point()
        del disk.shadow.unsure[len(disk.shadow.unsure) - len(rows) :]
        for row in rows:
            disk.shadow.noted(self._epoch, row)
        self._batch = []
        return done


class Disk:
    """The journal folder of one terminal."""

    def __init__(self, folder: Path, shadow: Shadow) -> None:
        self.folder = folder
        self.breaker = Breaker()
        self.shadow = shadow
        self.synchronous: dict[Path, int] = {}
        self.open_file: Callable[[Path], sqlite3.Connection] = connect
        self.commit: Callable[[sqlite3.Connection, str, Sequence[Any]], sqlite3.Cursor] = _commit
        self.errors = 0
        self._fail: bool | None = None  # None: sound; else whether the data gets there

    def open(self, path: Path) -> sqlite3.Connection:
        """A tracked connection: what open_journal is given."""
        return cast(sqlite3.Connection, Tracked(self.open_file(path), self, path))

    def fail_next(self, *, written: bool) -> None:
        """The next commit reports an I/O error, with or without having reached the medium."""
        self._fail = written

    def maybe_fail(self, *, written: bool) -> None:
        """Raises sqlite3.OperationalError when an error was arranged for this place."""
        if self._fail is not None and self._fail is written:
            self._fail = None
            self.errors += 1
            raise sqlite3.OperationalError("disk I/O error")

    def image(self, *, powered: bool) -> Image:
        """Every file as a cut would leave it; `powered` keeps what the kernel had."""
        found: Image = {}
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(".db"):
                found[path] = path.read_bytes()
                wal = path.with_name(path.name + "-wal")
                if wal.exists():
                    durable = powered or self.synchronous.get(path, FULL) == FULL
                    raw = wal.read_bytes()
                    found[wal] = raw if durable else raw[: _synced(path, raw)]
        return found

    def first_seqs(self, epoch: int) -> list[int]:
        """Where each volume of an epoch begins."""
        names = (path.name for path in self.folder.glob(f"E{epoch:05d}-*.db"))
        return sorted(int(name[:-3].split("-")[1]) for name in names)

    def put(self, image: Image) -> None:
        """Make the folder hold exactly these files."""
        for path in sorted(self.folder.iterdir()):
            path.unlink()
        for path, raw in image.items():
            path.write_bytes(raw)


def _commit(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
    return connection.execute(sql, parameters)


def _synced(path: Path, wal: bytes) -> int:
    """Bytes of the WAL that a checkpoint has synced: the frames it has moved, of this restart."""
    shm = path.with_name(path.name + "-shm")
    if len(wal) < WAL_HEADER or not shm.exists():
        return 0
    (backfill,) = struct.unpack_from("=I", shm.read_bytes(), BACKFILL_AT)
    (page,) = struct.unpack_from(">I", wal, 8)
    return WAL_HEADER + backfill * (FRAME_HEADER + page) if backfill else 0
