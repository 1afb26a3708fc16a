"""Books on SQLite and PostgreSQL, with a centre over them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from sync.central.engine import open_engine
from tests.sync.central.pens import Campus


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL cluster of our own: temporary folder, random port, user postgres."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert binaries, "PostgreSQL is missing: apt install postgresql"
    home = Path(tempfile.mkdtemp(prefix="onecard-pg-"))
    shutil.chown(home, "postgres", "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = home / "cluster"

    def run(name: str, *args: str) -> None:
        command = [*as_postgres, str(binaries[-1] / name), "-D", str(folder), *args]
        subprocess.run(command, check=True, capture_output=True, cwd=home, timeout=120)

    run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-h 127.0.0.1 -p {port} -k {home} -F -c timezone=UTC"
    run("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        found = open_engine(f"sqlite:///{tmp_path / 'centre.db'}")
        yield found
        found.dispose()
        return
    server = request.getfixturevalue("postgres_url")
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    admin = open_engine(f"{server}/postgres")
    with admin.connect() as connection:
        free = connection.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        free.execute(text(f"CREATE DATABASE {name}"))
    found = open_engine(f"{server}/{name}")
    yield found
    found.dispose()
    with admin.connect() as connection:
        free = connection.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def campus(engine: Engine) -> Campus:
    """A centre over an empty database."""
    return Campus(engine)


@pytest.fixture
def pens(campus: Campus) -> list[Any]:
    """Two terminals of two merchants, both started."""
    found = [campus.terminal("T0001", "north", 101), campus.terminal("T0002", "south", 102)]
    for pen in found:
        pen.begin()
    return found


@pytest.fixture
def another(campus: Campus) -> Callable[[], Campus]:
    """A second centre process over the same database."""
    return lambda: Campus(campus.engine, clock=campus.clock)
