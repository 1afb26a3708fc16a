"""The schema itself: types, triggers, migrations, connections."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from sync.central import migrations, schema
from sync.central.audit_money import total
from sync.central.engine import open_engine, reading
from sync.errors import CentreDownError, CentreSchemaError

ALLOWED = ("BIGINT", "INTEGER", "SMALLINT", "TEXT", "BLOB", "BYTEA")
FILLED = {
    "batch": "INSERT INTO batch VALUES (1, 1, 1, 1, 1)",
    "segment": "INSERT INTO segment VALUES (1, 1, 1, 1, :b, :b, 1, 1, 0)",
    "transfer": "INSERT INTO transfer VALUES (1, 1, 1, 0, 1, 2, 5, 10, 1, 1, 1, 1)",
    "tac_result": "INSERT INTO tac_result VALUES (1, 1, 1, 0, 1, 1)",
    "reversal": "INSERT INTO reversal VALUES (1, 1, 1, 0, 1, 1, 2)",
    "operation": "INSERT INTO operation VALUES (1, :b, 'a', 'k', :b, :b, 1)",
    "quarantine": "INSERT INTO quarantine (sha256, topic, raw, code, received_us)"
    " VALUES (:b, 't', :b, 'c', 1)",
}


def test_no_column_is_inexact(engine: Engine) -> None:
    """No NUMERIC, REAL, DOUBLE or DATE anywhere: money and time are integers."""
    migrations.prepare(engine)
    seen = 0
    for table in inspect(engine).get_table_names():
        if table == "alembic_version":
            continue
        for column in inspect(engine).get_columns(table):
            assert str(column["type"]) in ALLOWED, (table, column["name"], column["type"])
            seen += 1
    assert seen > 150


def test_migrations_give_the_schema(engine: Engine) -> None:
    """The frozen migrations and the tables in code are the same thing."""
    migrations.prepare(engine)
    migrations.prepare(engine)  # a second time finds nothing to do
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
        assert migrations.version_of(connection) == migrations.HEAD


def test_a_foreign_version_is_refused(engine: Engine) -> None:
    """A database of a newer program is not touched."""
    migrations.prepare(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CentreSchemaError):
        migrations.prepare(engine)


@pytest.mark.parametrize("table", sorted(FILLED))
def test_journal_like_tables_only_grow(engine: Engine, table: str) -> None:
    """UPDATE and DELETE (and TRUNCATE) are refused by the database itself."""
    migrations.prepare(engine)
    with engine.begin() as connection:
        connection.execute(text(FILLED[table]), {"b": bytes(32)})
    first = inspect(engine).get_columns(table)[-1]["name"]
    attempts = [f"UPDATE {table} SET {first} = {first}", f"DELETE FROM {table}"]
    if engine.dialect.name == "postgresql":
        attempts.append(f"TRUNCATE {table}")
    for sql in attempts:
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text(sql))


def test_every_journal_like_table_is_covered() -> None:
    """The list of the test above is the schema's, but for card_seen, which needs a card."""
    assert {*FILLED, "card_seen"} == set(schema.JOURNAL_LIKE)


def test_sums_are_integers(engine: Engine) -> None:
    """sum(bigint) arrives as int on both databases, never as Decimal."""
    migrations.prepare(engine)
    with engine.begin() as connection:
        for account in (1, 2):
            connection.execute(
                text("UPDATE balance SET fen = :f WHERE account = :a"),
                {"f": 2**61, "a": account},
            )
        found = connection.execute(
            schema.balance.select().with_only_columns(total(schema.balance.c.fen))
        ).scalar_one()
    assert type(found) is int
    assert found == 2**62


def test_a_transfer_needs_two_sides_and_an_amount(engine: Engine) -> None:
    """fen > 0 and debit <> credit are held by the database."""
    migrations.prepare(engine)
    for sides in ("1, 1, 5", "1, 2, 0", "1, 2, -5"):
        sql = f"INSERT INTO transfer VALUES (1, 1, 1, 0, {sides}, 10, 1, 1, 1, 1)"
        with pytest.raises(DBAPIError), engine.begin() as connection:
            connection.execute(text(sql))


def test_sqlite_uses_the_power_safe_factory(tmp_path: Any) -> None:
    """Every connection of the engine runs WAL and FULL."""
    engine = open_engine(f"sqlite:///{tmp_path / 'c.db'}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    engine.dispose()


def test_a_reader_does_not_block_the_writer(campus: Any) -> None:
    """An audit's snapshot stays open while a batch is posted, and does not see it."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    with reading(campus.engine) as connection:
        before = connection.execute(text("SELECT count(*) FROM transfer")).scalar()
        campus.give(pen.segment())
        assert connection.execute(text("SELECT count(*) FROM transfer")).scalar() == before
    assert campus.value("SELECT count(*) FROM transfer") == before + 1


def test_other_databases_are_refused() -> None:
    """Only the two that are tested can be named."""
    for url in ("mysql://localhost/x", "sqlite://"):
        with pytest.raises(CentreDownError):
            open_engine(url)


def test_a_ready_database_is_prepared_beside_a_writer(engine: Engine) -> None:
    """An audit or an office command starts while ingest writes: nothing to do, nothing to wait for."""
    migrations.prepare(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE balance SET fen = fen"))
        migrations.prepare(engine)
