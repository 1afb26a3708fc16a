"""The accounts that exist before the first card: suspense, clearing, holds, losses."""

from __future__ import annotations

from sqlalchemy import Connection

from sync.central.accounts import FIXED, create


def seed(connection: Connection) -> None:
    """Create the fixed accounts of ledger.md §4 with balance 0."""
    for code, kind in FIXED:
        create(connection, code, kind)
