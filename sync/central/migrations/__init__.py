"""Forward-only migrations of the centre's database, run by `prepare`; no command line of their own.

`prepare` is cheap when the database is at HEAD: alembic is imported only when there is work.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from sync.central.engine import in_transaction, no_pause, reading
from sync.errors import CentreSchemaError

HEAD = "0002"
KNOWN = ("0001", "0002")


def version_of(connection: Connection) -> str | None:
    """The database's version, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def prepare(engine: Engine) -> None:
    """Bring the database to HEAD in one transaction; at HEAD it waits for no writer.

    Raises CENTRE_SCHEMA for an unknown version, BUSY, CENTRE_DOWN.
    """
    with reading(engine) as connection:
        if version_of(connection) == HEAD:
            return
    in_transaction(engine, _bring, no_pause)


def _bring(connection: Connection) -> None:
    found = version_of(connection)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise CentreSchemaError(found=found, known=HEAD)
    _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
