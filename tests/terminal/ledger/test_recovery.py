"""Boot: what is found is verified, what was cut off is said, what does not verify is not touched."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.wire import cbor
from protocols.wire.chain import Position
from protocols.wire.record import Kind, own_of
from sim.seeded import SeededRng
from sim.till_office import START_US, TID, asn, grant
from sim.till_rig import RigClock
from terminal.errors import (
    JournalChainError,
    JournalEpochError,
    JournalForkError,
    JournalRollbackError,
    JournalVersionError,
)
from terminal.ledger.audit import audit_journal
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal
from terminal.ledger.volume import volumes

FIRST = "E00001-0000000001.db"


def _open(folder: Path, epoch: int = 1, acked: Position | None = None) -> Journal:
    prev = grant().prev if epoch == 1 else Position(1, 3, bytes(32))
    return open_journal(folder, grant(epoch, prev), RigClock(), bytes(8), acked=acked)


def _intent(journal: Journal, n: int = 1) -> int:
    own = own_of(
        Kind.INTENT,
        means=0,
        purse_before=900,
        type=6,
        tid=TID,
        date=bytes.fromhex("20260302"),
        time=bytes.fromhex("100000"),
    )
    return journal.append(Kind.INTENT, inst=asn(n), ctr=5, fen=100, own=own).seq


def test_first_boot(tmp_path: Path) -> None:
    """EPOCH with hw0 is record 1, BOOT follows, the clock starts at hw0."""
    journal = _open(tmp_path / "new")
    kinds = [record.kind for record in journal.scan(1)]
    assert kinds == [Kind.EPOCH, Kind.BOOT]
    first = next(journal.scan(1))
    assert first.get("hw0") == grant().hw0_us
    assert journal.state.boot_no == 1
    journal.close()


def test_restart_says_what_it_cut_off(tmp_path: Path) -> None:
    """INTENT without outcome gets DOUBT{restart} once; CMD without CMD_DONE gets unknown."""
    journal = _open(tmp_path)
    intent = _intent(journal)
    command = journal.append(
        Kind.CMD, own=own_of(Kind.CMD, command_id=bytes(16), command_kind=1)
    ).seq
    journal.close()
    for boots in (2, 3):
        journal = _open(tmp_path)
        tail = [(r.kind, r.ref) for r in journal.scan(command + 1)]
        assert tail.count((Kind.DOUBT, intent)) == 1
        assert tail.count((Kind.CMD_DONE, command)) == 1
        assert journal.state.boot_no == boots
        assert journal.state.hold == intent
        journal.close()


def test_ack_below_at_and_above_the_tip(tmp_path: Path) -> None:
    """An ack within our chain is fine; above it ROLLBACK; another hash FORK; nothing is written."""
    journal = _open(tmp_path)
    tip = journal.tip
    journal.close()
    assert _closed(_open(tmp_path, acked=tip)).tip.seq == tip.seq + 1
    before = (tmp_path / FIRST).read_bytes()
    with pytest.raises(JournalRollbackError):
        _open(tmp_path, acked=Position(1, 99, bytes(32)))
    with pytest.raises(JournalForkError):
        _open(tmp_path, acked=Position(1, 1, bytes(32)))
    assert (tmp_path / FIRST).read_bytes() == before


def _closed(journal: Journal) -> Journal:
    journal.close()
    return journal


def test_older_copy_of_the_disk(tmp_path: Path) -> None:
    """A restored backup ends below the ack: JOURNAL_ROLLBACK before anything is sold."""
    journal = _open(tmp_path / "live")
    journal.close()
    shutil.copytree(tmp_path / "live", tmp_path / "backup")
    journal = _open(tmp_path / "live")
    tip = journal.tip
    journal.close()
    with pytest.raises(JournalRollbackError):
        _open(tmp_path / "backup", acked=Position(1, tip.seq + 1, tip.hash))


def test_new_epoch_keeps_the_old_files_and_no_rights(tmp_path: Path) -> None:
    """A granted epoch opens its own chain; open intents of the old one belong to the centre."""
    journal = _open(tmp_path)
    _intent(journal)
    journal.close()
    hw0_us = START_US + 5_000_000_000
    prev = Position(1, 3, bytes(range(32)))
    journal = open_journal(tmp_path, grant(2, prev, hw0_us), RigClock(), bytes(8))
    assert [(file.epoch, file.first_seq) for file in volumes(tmp_path)] == [(1, 1), (2, 1)]
    assert journal.state.intents == {}
    assert journal.state.hw_us == hw0_us
    record = next(journal.scan(1))
    assert (record.get("prev_seq"), record.get("prev_h")) == (3, prev.hash)
    journal.close()
    assert all(check.ok for check in audit_journal(tmp_path))
    with pytest.raises(JournalEpochError):
        _open(tmp_path, epoch=1)


def test_newer_version_is_left_alone(tmp_path: Path) -> None:
    """JOURNAL_VERSION: the file is not opened for writing, not renamed, not changed."""
    _open(tmp_path).close()
    connection = connect(tmp_path / FIRST)
    connection.execute("UPDATE meta SET v = ? WHERE k = 'schema'", (cbor.dumps(2),))
    connection.close()
    before = (tmp_path / FIRST).read_bytes()
    with pytest.raises(JournalVersionError):
        _open(tmp_path)
    assert (tmp_path / FIRST).read_bytes() == before


def test_foreign_journal(tmp_path: Path) -> None:
    """A disk of another terminal is refused."""
    _open(tmp_path).close()
    connection = connect(tmp_path / FIRST)
    connection.execute("UPDATE meta SET v = ? WHERE k = 'terminal'", (cbor.dumps("T0002"),))
    connection.close()
    with pytest.raises(JournalChainError, match="owner"):
        _open(tmp_path)


def test_no_folder_no_disk(tmp_path: Path) -> None:
    """A folder that cannot be made is JOURNAL_FAIL."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalFailError):
        _open(tmp_path / "file" / "journal")


def _drop_trigger_and(sql: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        connection = connect(path)
        connection.execute("DROP TRIGGER journal_no_update")
        connection.execute("DROP TRIGGER journal_no_delete")
        connection.execute(sql)
        connection.close()

    return edit


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET kind = 6 WHERE seq = 2",
        "UPDATE journal SET h = zeroblob(32) WHERE seq = 2",
        "UPDATE journal SET body = x'80' WHERE seq = 2",
        "DELETE FROM journal",
        "DROP TABLE journal",
        "DELETE FROM meta WHERE k = 'epoch'",
        "UPDATE meta SET v = x'ff' WHERE k = 'epoch'",
    ],
)
def test_edited_journal(tmp_path: Path, sql: str) -> None:
    """A row taken out, changed or emptied is JOURNAL_CHAIN, and the audit says so too."""
    journal = _open(tmp_path)
    _intent(journal)
    journal.close()
    _drop_trigger_and(sql)(tmp_path / FIRST)
    with pytest.raises(JournalChainError):
        _open(tmp_path)
    assert not all(check.ok for check in audit_journal(tmp_path))


def test_bit_flips_are_never_silent(tmp_path: Path) -> None:
    """400 single flips in a closed journal: refused, or every record reads back the same."""
    journal = _open(tmp_path / "good")
    for n in range(30):
        _intent(journal, n)
    journal.close()
    path = tmp_path / "good" / FIRST
    good = path.read_bytes()
    rows = _rows(path)
    rng = SeededRng(5)
    silent = 0
    for n in range(400):
        folder = tmp_path / f"flip{n}"
        folder.mkdir()
        at = rng.below(len(good) * 8)
        spoiled = bytearray(good)
        spoiled[at // 8] ^= 1 << (at % 8)
        (folder / FIRST).write_bytes(spoiled)
        try:
            _open(folder).close()
        except (JournalChainError, JournalFailError, JournalVersionError, JournalEpochError):
            continue
        silent += _rows(folder / FIRST)[: len(rows)] != rows
    assert silent == 0


def _rows(path: Path) -> list[tuple[object, ...]]:
    connection = connect(path, read_only=True)
    try:
        return connection.execute("SELECT seq, kind, body, h FROM journal ORDER BY seq").fetchall()
    finally:
        connection.close()
