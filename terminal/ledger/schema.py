"""The journal's tables in SQLAlchemy Core: the source of schema.sql (ledger.md §3.1).

A running terminal reads schema.sql and never imports this module; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BLOB, INTEGER, TEXT, CheckConstraint, Column, MetaData, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("k", TEXT, primary_key=True, nullable=False),
    Column("v", BLOB, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

JOURNAL = Table(
    "journal",
    METADATA,
    Column("seq", INTEGER, CheckConstraint("seq > 0"), primary_key=True, nullable=False),
    Column("kind", INTEGER, nullable=False),
    Column("body", BLOB, nullable=False),
    Column("h", BLOB, CheckConstraint("length(h) = 32"), nullable=False),
    sqlite_strict=True,
)

TRIGGERS = tuple(
    f"CREATE TRIGGER journal_no_{verb.lower()} BEFORE {verb} ON journal "
    "BEGIN SELECT RAISE(ABORT,'append-only'); END"
    for verb in ("UPDATE", "DELETE")
)


def schema_sql() -> str:
    """The text of schema.sql."""
    dialect = sqlite.dialect()
    tables = (str(CreateTable(t).compile(dialect=dialect)).strip() for t in (META, JOURNAL))
    statements = [" ".join(part.split()) for part in (*tables, *TRIGGERS)]
    return "".join(f"{statement};\n" for statement in statements)
