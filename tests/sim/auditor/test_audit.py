"""The auditor is not blind: each way of cooking the books of a healed campus is named (faults.md §1).

One small campus is played once; every test tampers with its own copy of the database, the way a
person with SQL could, and the audit must say which invariant broke and name the place.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sim.auditor.audit import Auditor
from sim.world.world import Plan, World

Tamper = Callable[[sqlite3.Connection], None]


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two tills, a day with torn cards, healed and clean."""
    logging.getLogger("onecard").setLevel(logging.CRITICAL)
    world = World(Plan(3, 1, 2, 30, 0, "tear,relay"), tmp_path_factory.mktemp("campus"))
    assert world.run().violations == ()
    yield world
    world.close()


def found(campus: World, folder: Path, tamper: Tamper) -> list[str]:
    """What the audit says of tampered books, as `I4 text`."""
    path = folder / "books.db"
    source = sqlite3.connect(campus.office.path)
    copy = sqlite3.connect(path)
    source.backup(copy)
    source.close()
    names = copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        copy.execute(f"DROP TRIGGER {name}")
    tamper(copy)
    copy.commit()
    copy.close()
    campus.truth.violations.clear()
    stations = {name: counter.station for name, counter in campus.counters.items()}
    Auditor(path, campus.truth, stations).final()
    said = [f"{one.invariant} {one.text}" for one in campus.truth.violations]
    campus.truth.violations.clear()
    shutil.rmtree(folder)
    return said


def one(connection: sqlite3.Connection, query: str) -> tuple[int, ...]:
    """The first row of a query."""
    row: tuple[int, ...] = connection.execute(query).fetchone()
    return row


SALE = "SELECT rowid, debit, credit, fen FROM transfer WHERE code = 10 ORDER BY rowid LIMIT 1"


def test_clean_books_are_clean(campus: World, tmp_path: Path) -> None:
    """The control: an untouched copy says nothing."""
    assert found(campus, tmp_path, lambda connection: None) == []


def test_a_balance_that_its_transfers_do_not_make(campus: World, tmp_path: Path) -> None:
    """I1 names the account, and that the sum is no longer 0."""

    def tamper(connection: sqlite3.Connection) -> None:
        _, _, merchant, _ = one(connection, SALE)
        connection.execute("UPDATE balance SET fen = fen + 7 WHERE account = ?", (merchant,))

    said = found(campus, tmp_path, tamper)
    assert "I1 the balances add up to 7 fen, not to 0" in said
    assert any("account merchant:m-t00" in line and line.startswith("I1") for line in said)


def test_an_amount_changed_in_transfer_and_balances_alike(campus: World, tmp_path: Path) -> None:
    """Sums agree, but the chip paid another amount: I4 or I2 names record, card and counter."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, purse, merchant, _ = one(connection, SALE)
        connection.execute("UPDATE transfer SET fen = fen + 5 WHERE rowid = ?", (row,))
        connection.execute("UPDATE balance SET fen = fen - 5 WHERE account = ?", (purse,))
        connection.execute("UPDATE balance SET fen = fen + 5 WHERE account = ?", (merchant,))

    said = found(campus, tmp_path, tamper)
    assert any("the chip paid" in line and "the purse account" in line for line in said)


def test_a_sale_moved_to_another_merchant(campus: World, tmp_path: Path) -> None:
    """I2: who gave the goods does not have the money."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, _, merchant, fen = one(connection, SALE)
        query = f"SELECT merchant FROM terminal WHERE merchant <> {merchant}"
        (other,) = one(connection, query)
        connection.execute("UPDATE transfer SET credit = ? WHERE rowid = ?", (other, row))
        connection.execute("UPDATE balance SET fen = fen - ? WHERE account = ?", (fen, merchant))
        connection.execute("UPDATE balance SET fen = fen + ? WHERE account = ?", (fen, other))

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I2") and "the merchant has 0" in line for line in said)


def test_a_sale_left_out(campus: World, tmp_path: Path) -> None:
    """I2: acknowledged to a person, absent from the books."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, purse, merchant, fen = one(connection, SALE)
        connection.execute("DELETE FROM transfer WHERE rowid = ?", (row,))
        connection.execute("UPDATE balance SET fen = fen + ? WHERE account = ?", (fen, purse))
        connection.execute("UPDATE balance SET fen = fen - ? WHERE account = ?", (fen, merchant))

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I2") and "purse account 0 fen" in line for line in said)


def test_a_transfer_about_nothing(campus: World, tmp_path: Path) -> None:
    """I4: money moved for a record that no terminal wrote."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, purse, merchant, fen = one(connection, SALE)
        connection.execute(
            "INSERT INTO transfer SELECT terminal, epoch, 999999, leg, debit, credit, fen, code,"
            " event_us, event_day, day, batch FROM transfer WHERE rowid = ?",
            (row,),
        )
        connection.execute("UPDATE balance SET fen = fen - ? WHERE account = ?", (fen, purse))
        connection.execute("UPDATE balance SET fen = fen + ? WHERE account = ?", (fen, merchant))

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I4") and "seq 999999" in line for line in said)


def test_a_segment_gone_from_the_archive(campus: World, tmp_path: Path) -> None:
    """I2: the lane's cursor and head stand on records that are not there."""

    def tamper(connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM segment WHERE rowid ="
            " (SELECT rowid FROM segment ORDER BY first_seq DESC LIMIT 1)"
        )

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I2") and "archived" in line for line in said)


def test_a_cursor_set_back(campus: World, tmp_path: Path) -> None:
    """I2: the books claim to end before the archive does."""

    def tamper(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE lane SET next_seq = next_seq - 3 WHERE terminal = 1")

    assert any(line.startswith("I2") for line in found(campus, tmp_path, tamper))


def test_suspense_without_a_reason(campus: World, tmp_path: Path) -> None:
    """I4: fen on a suspense account that no open item explains."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, _, merchant, fen = one(connection, SALE)
        (held,) = one(connection, "SELECT id FROM account WHERE code = 'suspense:tac'")
        connection.execute("UPDATE transfer SET credit = ? WHERE rowid = ?", (held, row))
        connection.execute("UPDATE balance SET fen = fen - ? WHERE account = ?", (fen, merchant))
        connection.execute("UPDATE balance SET fen = fen + ? WHERE account = ?", (fen, held))

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I4 account suspense:tac") for line in said)


def test_a_wallet_below_its_floor(campus: World, tmp_path: Path) -> None:
    """I5 names the account and its floor."""

    def tamper(connection: sqlite3.Connection) -> None:
        row, _, _, fen = one(connection, SALE)
        (wallet,) = one(connection, "SELECT id FROM account WHERE code LIKE 'wallet:%' AND guarded")
        connection.execute("UPDATE transfer SET debit = ? WHERE rowid = ?", (wallet, row))
        connection.execute("UPDATE balance SET fen = fen - ? WHERE account = ?", (fen, wallet))

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I5 account wallet:") and "floor 0" in line for line in said)


def test_a_counter_that_no_chip_reached(campus: World, tmp_path: Path) -> None:
    """I4: the books take a debit for proved that the card's chip does not know."""

    def tamper(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE card_seen SET ctr = 60000 WHERE rowid = (SELECT min(rowid) FROM card_seen)"
        )

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I4") and "ctr 60000" in line for line in said)


def test_a_balance_on_the_chip_that_the_books_do_not_share(campus: World, tmp_path: Path) -> None:
    """I4: before and after in the books are not the chip's."""

    def tamper(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE card_seen SET before_fen = before_fen + 1"
            " WHERE rowid = (SELECT min(rowid) FROM card_seen)"
        )

    said = found(campus, tmp_path, tamper)
    assert any(line.startswith("I4") and "in the books" in line for line in said)


def test_goods_that_nobody_paid_for(campus: World, tmp_path: Path) -> None:
    """I2: a person was told `paid`, and the books know no such sale: the truth is tampered here."""
    given = next(one for one in campus.truth.given if one.how == "beep" and not one.returned)
    campus.truth.given.append(given)
    try:
        said = found(campus, tmp_path, lambda connection: None)
    finally:
        campus.truth.given.pop()
    assert any(line.startswith("I2") and "given twice" in line for line in said)
