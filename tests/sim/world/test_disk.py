"""The disk model: a power cut keeps what the connection's own synchronous made durable, no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from firmware.base.sqlite import connect
from sim.world.disk import Breaker, Disk, PowerLostError, Row, Shadow

Told = list[tuple[int, int, bool]]
INSERT = "INSERT INTO journal(seq, kind, body, h) VALUES (?, ?, ?, ?)"


class Rig:
    """One volume on one disk."""

    def __init__(self, folder: Path, open_file: Callable[[Path], sqlite3.Connection]) -> None:
        self.told: Told = []
        self.broken: list[str] = []
        self.shadow = Shadow(
            lambda epoch, row, now: self.told.append((epoch, row[0], now)), self.broken.append
        )
        self.disk = Disk(folder, self.shadow)
        self.disk.open_file = open_file
        self.path = folder / "E00001-0000000001.db"
        self.before = b""
        self.open()
        self.connection.execute("CREATE TABLE journal(seq, kind, body, h)")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def open(self) -> None:
        """Open the volume as the journal does."""
        self.connection = self.disk.open(self.path)

    def append(self, seq: int) -> Row:
        """One record, durable on return."""
        row = (seq, 5, b"body%d" % seq, sha256(self.before + b"body%d" % seq).digest())
        self.connection.execute(INSERT, row)
        self.before = row[3]
        return row

    def cut(self) -> list[int]:
        """The power goes and comes back; the seqs that are still there."""
        image = self.disk.image(powered=False)
        self.connection.close()
        self.disk.put(image)
        self.open()
        return [seq for (seq,) in self.connection.execute("SELECT seq FROM journal ORDER BY seq")]


def normal(path: Path) -> sqlite3.Connection:
    """synchronous=NORMAL, as the plant has it."""
    connection = connect(path)
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def test_full_keeps_every_commit(tmp_path: Path) -> None:
    """The product's own setting: nothing that was acknowledged is lost."""
    rig = Rig(tmp_path, connect)
    for seq in (1, 2, 3):
        rig.append(seq)
    assert rig.cut() == [1, 2, 3]


def test_normal_keeps_what_a_checkpoint_synced(tmp_path: Path) -> None:
    """Frames behind the last checkpoint are gone, also after the WAL started again."""
    rig = Rig(tmp_path, normal)
    rig.append(1)
    rig.append(2)
    rig.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    rig.append(3)  # the WAL starts again from its beginning, over the old frames
    assert rig.cut() == [1, 2]


def test_a_breaker_falls_between_two_actions() -> None:
    """The n-th action from now, then never again."""
    breaker = Breaker()
    breaker.arm(2)
    breaker.point()
    with pytest.raises(PowerLostError):
        breaker.point()
    breaker.point()


def test_a_cut_before_the_commit_writes_nothing(tmp_path: Path) -> None:
    """The action did not happen."""
    rig = Rig(tmp_path, connect)
    rig.disk.breaker.arm(1)
    with pytest.raises(PowerLostError):
        rig.append(1)
    assert rig.cut() == []
    assert rig.told == []


def test_a_commit_whose_answer_never_came_is_adopted_by_the_next(tmp_path: Path) -> None:
    """It may be on the disk; the record behind it says so, and it is not judged as of now."""
    rig = Rig(tmp_path, connect)
    rig.append(1)
    rig.disk.breaker.arm(2)
    with pytest.raises(PowerLostError):
        rig.append(2)
    assert rig.cut() == [1, 2]
    assert [h for _, h in rig.shadow.known(1)][-1] == sha256(rig.before + b"body2").digest()
    rig.before = sha256(rig.before + b"body2").digest()
    rig.append(3)
    assert rig.told == [(1, 1, True), (1, 2, False), (1, 3, True)]
    assert rig.broken == []


def test_a_lost_record_is_named(tmp_path: Path) -> None:
    """A seq that was durable and is written again, or a chain that does not continue."""
    rig = Rig(tmp_path, connect)
    rig.append(1)
    rig.append(2)
    rig.append(2)
    assert rig.broken == ["epoch 1: seq 2 written, 2 were durable"]


@pytest.mark.parametrize("written", [False, True])
def test_an_io_error_is_an_error_of_sqlite(tmp_path: Path, written: bool) -> None:
    """With or without having reached the medium: both happen after a failed fsync."""
    rig = Rig(tmp_path, connect)
    rig.disk.fail_next(written=written)
    with pytest.raises(sqlite3.OperationalError):
        rig.append(1)
    assert rig.cut() == ([1] if written else [])
    assert rig.disk.errors == 1


def test_an_old_copy_abandons_what_came_after(tmp_path: Path) -> None:
    """What a restore forgets is kept apart, for the audit."""
    rig = Rig(tmp_path, connect)
    for seq in (1, 2, 3):
        rig.append(seq)
    assert rig.shadow.roll_back({1: 1}) == 2
    assert [(epoch, seq) for epoch, seq, _ in rig.shadow.abandoned] == [(1, 2), (1, 3)]
    assert rig.shadow.tip()[:2] == (1, 1)
