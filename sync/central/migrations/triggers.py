"""Append-only by trigger: UPDATE, DELETE and TRUNCATE are refused, whoever asks (ledger.md §4)."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

_PG_FUNCTION = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'append-only: %', TG_TABLE_NAME; END $$
"""


def refuse_changes(connection: Connection, tables: Iterable[str]) -> None:
    """Create the triggers on these tables."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(_PG_FUNCTION))
        for name in tables:
            connection.execute(text(_pg_rows(name)))
            connection.execute(text(_pg_truncate(name)))
        return
    for name in tables:
        for act in ("UPDATE", "DELETE"):
            connection.execute(text(_sqlite(name, act)))


def _pg_rows(name: str) -> str:
    return (
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE ON {name} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )


def _pg_truncate(name: str) -> str:
    return (
        f"CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _sqlite(name: str, act: str) -> str:
    return (
        f"CREATE TRIGGER {name}_no_{act.lower()} BEFORE {act} ON {name} "
        "BEGIN SELECT RAISE(ABORT, 'append-only'); END"
    )
