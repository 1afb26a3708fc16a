"""Connections of the centre: SQLite through the product's one factory, PostgreSQL by URL.

There is one writer at a time on both: SQLite begins IMMEDIATE, PostgreSQL takes an advisory lock
for the transaction. So a decision is always "after batch n", and a writer can only wait at its
first statement. Lock and serialization failures become BUSY, never an answer about money.
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
LOCK_WAIT_MS = 250  # as SQLite's busy_timeout
WRITER = 0x0C_A2D  # advisory lock of whoever writes the books
_PG_DOWN = ("08", "53", "57", "58")  # connection, resources, operator, system
_SQLITE_DOWN = ("unable to open", "disk", "readonly", "malformed", "not a database")
_PG_BUSY = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://…`; opens nothing yet.

    Raises CENTRE_DOWN for any other URL.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        return _sqlite(target)
    if target.get_backend_name() == "postgresql":
        return _postgresql(target)
    raise CentreDownError(url=target.render_as_string(hide_password=True)[:64])


def _postgresql(target: URL) -> Engine:
    engine = create_engine(
        target.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        hide_parameters=True,  # a fault's text may reach a log: no card numbers, no claims
        connect_args={"options": f"-c lock_timeout={LOCK_WAIT_MS}", "connect_timeout": 5},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(READ, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER})")

    return engine


def _sqlite(target: URL) -> Engine:
    if not target.database:
        raise CentreDownError(url=str(target)[:64])
    path = Path(target.database)
    # The pool hands a connection to one thread at a time; sqlite3's own check would refuse that.
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect(path, any_thread=True),
        poolclass=QueuePool,
        hide_parameters=True,
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


def is_down(fault: DBAPIError) -> bool:
    """Whether the database itself cannot be reached or written, rather than a statement be wrong."""
    if not isinstance(fault, OperationalError):
        return False
    state = getattr(fault.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PG_DOWN)
    said = str(fault.orig)
    return "sqlite" not in type(fault.orig).__module__ or any(word in said for word in _SQLITE_DOWN)


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
                if is_down(fault):
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
