"""Connections of the centre: SQLite through the product's one factory, PostgreSQL by URL.

A writing transaction on SQLite begins IMMEDIATE, so that it can only wait at its first statement;
lock and serialization failures become BUSY, never an answer about money (ledger.md §5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from sync.errors import BusyError, CentreDownError

T = TypeVar("T")
READ = "onecard_read"
TRIES_MAX = 5
_PG_BUSY = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://…`; opens nothing yet.

    Raises CENTRE_DOWN for any other URL.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        return _sqlite(target)
    if target.get_backend_name() == "postgresql":
        return create_engine(target.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise CentreDownError(url=target.render_as_string(hide_password=True)[:64])


def _sqlite(target: URL) -> Engine:
    if not target.database:
        raise CentreDownError(url=str(target)[:64])
    path = Path(target.database)
    # The pool hands a connection to one thread at a time; sqlite3's own check would refuse that.
    engine = create_engine(
        "sqlite://", creator=lambda: connect(path, any_thread=True), poolclass=QueuePool
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READ, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot; on SQLite it does not block the writer."""
    with engine.connect() as connection:
        options: dict[str, object] = {READ: True}
        if engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        shared = connection.execution_options(**options)
        with shared.begin():
            yield shared


def is_busy(fault: DBAPIError) -> bool:
    """Whether the database only asks for another try."""
    state = getattr(fault.orig, "sqlstate", None)
    if state is not None:
        return state in _PG_BUSY
    return "locked" in str(fault.orig) or "busy" in str(fault.orig)


def in_transaction(
    engine: Engine, act: Callable[[Connection], T], pause: Callable[[int], None]
) -> T:
    """What `act` returns from one committed transaction; `pause(n)` waits before try n + 1.

    Raises BUSY after TRIES_MAX lock or serialization failures, CENTRE_DOWN when the database
    cannot be reached. Nothing of a failed try remains.
    """
    for attempt in range(1, TRIES_MAX + 1):
        try:
            with engine.begin() as connection:
                return act(connection)
        except DBAPIError as fault:
            if not is_busy(fault):
                if isinstance(fault, OperationalError):
                    raise CentreDownError(reason=str(fault.orig)[:120]) from fault
                raise
        except BusyError:
            if attempt == TRIES_MAX:
                raise
        except JournalFailError as fault:
            raise CentreDownError(reason=str(fault)[:120]) from fault
        pause(attempt)
    raise BusyError(tries=TRIES_MAX)


def no_pause(attempt: int) -> None:
    """For callers in virtual time: the database's own busy wait is enough."""
