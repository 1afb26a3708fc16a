"""Each invariant of a journal is broken once on purpose, and named."""

import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from firmware.base.errors import JournalFailError
from protocols.wire.record import Kind, Record, own_of
from sim.till_office import OPERATOR, TID, asn, grant
from sim.till_rig import RigClock
from terminal.errors import JournalChainError
from terminal.ledger.audit import audit_journal, demand_clean
from terminal.ledger.patrol import EVERY_US, Patrol
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal

FIRST = "E00001-0000000001.db"


def _intent(journal: Journal) -> int:
    own = own_of(
        Kind.INTENT,
        means=0,
        type=6,
        tid=TID,
        date=bytes.fromhex("20260302"),
        time=bytes.fromhex("100000"),
    )
    return journal.append(Kind.INTENT, inst=asn(1), ctr=5, fen=100, own=own).seq


def _capture(journal: Journal, ref: int) -> int:
    own = own_of(Kind.CAPTURE, purse_after=1)
    return journal.append(Kind.CAPTURE, ref=ref, inst=asn(1), ctr=5, fen=100, own=own).seq


def _void(journal: Journal, ref: int) -> int:
    own = own_of(Kind.VOID, via="sw")
    return journal.append(Kind.VOID, ref=ref, inst=asn(1), fen=100, own=own).seq


def _reverse(journal: Journal, ref: int) -> int:
    own = own_of(Kind.REVERSAL, operator=OPERATOR, reason="void")
    return journal.append(Kind.REVERSAL, ref=ref, inst=asn(1), fen=100, own=own).seq


def _broken(folder: Path) -> set[str]:
    return {check.id for check in audit_journal(folder) if not check.ok}


def _order_faults() -> dict[str, Callable[[Journal], Any]]:
    return {
        "two captures": lambda j: (_capture(j, n := _intent(j)), _capture(j, n)),
        "void after capture": lambda j: (_capture(j, n := _intent(j)), _void(j, n)),
        "capture of nothing": lambda j: _capture(j, 77),
        "two reversals": lambda j: (_reverse(j, n := _capture(j, _intent(j))), _reverse(j, n)),
        "reversal of nothing": lambda j: _reverse(j, 77),
        "abandon after capture": lambda j: (
            _capture(j, n := _intent(j)),
            j.append(Kind.ABANDON, ref=n),
        ),
        "done after void": lambda j: (
            _void(j, n := _intent(j)),
            j.append(Kind.DOUBT_DONE, ref=n, own=own_of(Kind.DOUBT_DONE, decision="void")),
        ),
    }


@pytest.mark.parametrize("name", sorted(_order_faults()))
def test_kinds_in_order(tmp_path: Path, name: str) -> None:
    """J4 names an outcome without its INTENT, a second outcome, a second reversal."""
    journal = open_journal(tmp_path, grant(), RigClock(), bytes(8))
    _capture(journal, _intent(journal))
    assert _broken(tmp_path) == set()
    _order_faults()[name](journal)
    journal.close()
    assert _broken(tmp_path) == {"J4"}
    with pytest.raises(JournalChainError):
        demand_clean(tmp_path)


def _edit(folder: Path, *sql: str, body: tuple[int, bytes] | None = None) -> None:
    connection = sqlite3.connect(folder / FIRST, isolation_level=None)
    connection.execute("DROP TRIGGER journal_no_update")
    connection.execute("DROP TRIGGER journal_no_delete")
    for statement in sql:
        connection.execute(statement)
    if body is not None:
        seq, raw = body
        row = connection.execute("SELECT h FROM journal WHERE seq = ?", (seq - 1,)).fetchone()
        h = sha256(row[0] + raw).digest()
        connection.execute("UPDATE journal SET body = ?, h = ? WHERE seq = ?", (raw, h, seq))
    connection.close()


def test_gap_chain_and_body(tmp_path: Path) -> None:
    """J1 a missing row, J2 another hash, J3 a body that says something else or nothing."""
    for name, wanted in (
        ("gap", {"J1", "J2"}),
        ("hash", {"J2"}),
        ("body", {"J3"}),
        ("raw", {"J3"}),
    ):
        folder = tmp_path / name
        journal = open_journal(folder, grant(), RigClock(), bytes(8))
        for _ in range(3):
            journal.append(Kind.MARK)
        journal.close()
        if name == "gap":
            _edit(folder, "DELETE FROM journal WHERE seq = 3")
        elif name == "hash":
            _edit(folder, "UPDATE journal SET h = zeroblob(32) WHERE seq = 5")
        elif name == "body":
            _edit(folder, body=(5, Record(6, 5, 0, 1, 1, 1).encode()))
        else:
            _edit(folder, body=(5, b"\xff\xff"))
        assert _broken(folder) == wanted, name


def test_no_epoch_first(tmp_path: Path) -> None:
    """An epoch that does not begin with EPOCH."""
    open_journal(tmp_path, grant(), RigClock(), bytes(8)).close()
    raw = Record(1, int(Kind.MARK), 0, 1, 1, 0).encode()
    connection = sqlite3.connect(tmp_path / FIRST, isolation_level=None)
    connection.execute("DROP TRIGGER journal_no_update")
    connection.execute("UPDATE journal SET body = ?, kind = 5 WHERE seq = 1", (raw,))
    connection.close()
    assert "J4" in _broken(tmp_path)


def test_volume_missing_in_the_middle(tmp_path: Path) -> None:
    """Three volumes without the second: J1 and J2; without the first (pruned): clean."""
    journal = open_journal(tmp_path, grant(), RigClock(), bytes(8))
    for _ in range(3):
        for _ in range(4):
            _capture(journal, _intent(journal))
        journal.roll(records=4)
    journal.close()
    files = sorted(path for path in tmp_path.iterdir() if path.suffix == ".db")
    assert _broken(tmp_path) == set()
    kept = files[0].read_bytes()
    files[0].unlink()
    assert _broken(tmp_path) == set()
    files[0].write_bytes(kept)
    files[1].unlink()
    assert {"J1", "J2"} <= _broken(tmp_path)


def test_not_a_journal(tmp_path: Path) -> None:
    """No folder is JOURNAL_FAIL; a file that is no database is J2."""
    with pytest.raises(JournalFailError):
        audit_journal(tmp_path / "none")
    (tmp_path / FIRST).write_bytes(b"x" * 5_000)
    assert _broken(tmp_path) == {"J2"}


def test_patrol_finds_rot_within_a_day(tmp_path: Path) -> None:
    """Nothing before it is due; a whole volume in steps; a changed row is JOURNAL_CHAIN."""
    journal = open_journal(tmp_path, grant(), RigClock(), bytes(8))
    for _ in range(1_200):
        journal.append(Kind.MARK)
    patrol = Patrol(journal, now_us=0)
    for now_us in (0, EVERY_US - 1, *range(EVERY_US, EVERY_US + 5)):
        patrol.step(now_us)
    _edit(tmp_path, "UPDATE journal SET body = x'80' WHERE seq = 700")
    patrol.step(2 * EVERY_US + 10)  # rows up to 500 are right
    with pytest.raises(JournalChainError):
        patrol.step(2 * EVERY_US + 11)
    journal.roll(records=1)
    Patrol(journal, now_us=-EVERY_US).step(0)
    journal.close()
