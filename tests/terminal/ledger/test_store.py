"""The journal's file: append-only, chained, forgotten only on a verified word."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.wire.chain import Position, genesis, link
from protocols.wire.record import Kind, own_of
from sim.till_office import TERM, asn, grant
from sim.till_rig import RigClock
from terminal.errors import JournalForkError, JournalRollbackError
from terminal.ledger import schema, volume
from terminal.ledger.audit import audit_journal
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal
from terminal.ledger.volume import SCHEMA_FILE, volumes

DAY_US = 86_400_000_000


def _open(folder: Path, clock: RigClock | None = None, **more: Any) -> Journal:
    return open_journal(folder, grant(), clock or RigClock(), bytes(8), **more)


def _mark(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.append(Kind.MARK)


def test_schema_file_is_generated() -> None:
    """schema.sql is what the SQLAlchemy tables say."""
    assert SCHEMA_FILE.read_text("utf-8") == schema.schema_sql()


def test_chain_from_h0(tmp_path: Path) -> None:
    """h(0) names the terminal and its past; each hash covers the stored body."""
    journal = _open(tmp_path)
    _mark(journal, 3)
    connection = connect(tmp_path / "E00001-0000000001.db", read_only=True)
    h = genesis(TERM, 1, grant().prev)
    for _, _, body, stored in volume.rows(connection):
        h = link(h, body)
        assert stored == h
    connection.close()
    assert journal.tip == Position(1, 5, h)
    assert journal.hash_at(0) == genesis(TERM, 1, grant().prev)
    journal.close()


@pytest.mark.parametrize(
    "sql", ["UPDATE journal SET kind = 5 WHERE seq = 1", "DELETE FROM journal WHERE seq = 1"]
)
def test_rows_cannot_be_changed(tmp_path: Path, sql: str) -> None:
    """Triggers refuse UPDATE and DELETE."""
    _open(tmp_path).close()
    connection = connect(tmp_path / "E00001-0000000001.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(sql)
    connection.close()


def test_second_writer_meets_the_sequence(tmp_path: Path) -> None:
    """Two journals on one file cannot both write a seq; the loser is out of service for good."""
    first, second = _open(tmp_path), None
    clock = RigClock()
    second = _open(tmp_path, clock)
    _mark(second, 1)
    with pytest.raises(JournalFailError):
        first.append(Kind.MARK)
    with pytest.raises(JournalFailError):
        first.checkpoint()
    second.close()


def test_wall_time_never_goes_back(tmp_path: Path) -> None:
    """wall = max(clock, last wall), flagged while the clock is behind."""
    clock = RigClock()
    journal = _open(tmp_path, clock)
    high = journal.append(Kind.MARK).wall_us
    clock.jump(-DAY_US)
    late = journal.append(Kind.MARK)
    assert (late.wall_us, late.flags) == (high, 1)
    clock.jump(2 * DAY_US)
    assert journal.append(Kind.MARK).flags == 0
    journal.close()


def test_roll_carries_the_state(tmp_path: Path) -> None:
    """A new volume begins with STATE and the state goes on; older volumes are not needed to run."""
    clock = RigClock()
    journal = _open(tmp_path, clock)
    journal.append(Kind.POLICY, own=own_of(Kind.POLICY, list="cards", version=4))
    _mark(journal, 5)
    assert not journal.roll(records=100)
    assert journal.roll(records=5)
    assert [file.first_seq for file in volumes(tmp_path)] == [1, 9]
    _mark(journal, 2)
    tip = journal.tip
    journal.close()
    volumes(tmp_path)[0].path.unlink()
    again = _open(tmp_path, clock)
    assert again.state.versions == {"cards": 4}
    assert again.tip.seq == tip.seq + 1
    again.close()


def test_interrupted_birth_of_a_volume(tmp_path: Path) -> None:
    """A file without tables was never acknowledged: it is removed, the one before goes on."""
    journal = _open(tmp_path)
    tip = journal.tip
    journal.close()
    connect(tmp_path / "E00001-0000000099.db").close()
    again = _open(tmp_path)
    assert again.tip.seq == tip.seq + 1
    assert [file.first_seq for file in volumes(tmp_path)] == [1]
    again.close()


def _rolled(tmp_path: Path, clock: RigClock) -> Journal:
    journal = _open(tmp_path, clock)
    _mark(journal, 10)
    assert journal.roll(records=10)
    clock.now_us += 31 * DAY_US
    return journal


def test_prune_needs_the_ack_of_the_last_record(tmp_path: Path) -> None:
    """Below it nothing goes; at it the volume goes, after keep_days; the newest never."""
    clock = RigClock()
    journal = _rolled(tmp_path, clock)
    last = volumes(tmp_path)[1].first_seq - 1
    assert journal.prune() == []
    journal.note_ack(Position(1, last - 1, journal.hash_at(last - 1) or b""))
    assert journal.prune() == []
    journal.note_ack(Position(1, last, journal.hash_at(last) or b""))
    assert journal.prune(keep_days=40) == []
    assert [file.first_seq for file in journal.prune()] == [1]
    journal.note_ack(journal.tip)
    assert journal.prune() == []
    assert journal.hash_at(3) is None
    assert all(check.ok for check in audit_journal(tmp_path))
    journal.close()


def test_prune_needs_the_ack_in_this_process(tmp_path: Path) -> None:
    """After a restart nothing is forgotten before the signed word was seen again."""
    clock = RigClock()
    journal = _rolled(tmp_path, clock)
    journal.note_ack(journal.tip)
    journal.close()
    again = _open(tmp_path, clock)
    assert again.prune() == []
    again.close()


def test_ack_above_tip_and_other_hash(tmp_path: Path) -> None:
    """JOURNAL_ROLLBACK and JOURNAL_FORK, and what was acked stays acked; other epochs are nothing."""
    journal = _open(tmp_path)
    journal.note_ack(journal.tip)
    with pytest.raises(JournalRollbackError):
        journal.note_ack(Position(1, journal.tip.seq + 1, bytes(32)))
    with pytest.raises(JournalForkError):
        journal.note_ack(Position(1, 1, bytes(32)))
    journal.note_ack(Position(2, 1, bytes(32)))
    assert journal.acked == journal.tip
    journal.close()


def test_unsynced_value_follows_the_acks(tmp_path: Path) -> None:
    """What is exposed offline is what was captured and not acknowledged, across a roll and a boot."""
    clock = RigClock()
    journal = _open(tmp_path, clock)
    seqs = []
    for n in range(4):
        own = own_of(Kind.CAPTURE, purse_after=1)
        seqs.append(journal.append(Kind.CAPTURE, inst=asn(n), fen=100, own=own).seq)
    journal.note_ack(Position(1, seqs[1], journal.hash_at(seqs[1]) or b""))
    assert journal.state.unsynced_fen == 200
    journal.roll(records=1)
    journal.close()
    again = _open(tmp_path, clock)
    assert again.state.unsynced_fen == 200
    assert again.state.unsynced_fen_of(asn(3)) == 100
    again.close()
