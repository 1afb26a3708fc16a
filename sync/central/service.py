"""`onecard central --config FILE`: the process around the centre; and what other commands need of it.

One thread takes messages, commits, acknowledges, publishes; one more serves /enrol and /status with
an engine of its own. A message is acknowledged to the broker only after its transaction, and every
message is, good or bad (sync.md §6).
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn

from firmware.base.clock import Clock, SystemClock, Trust
from firmware.base.keys import DeviceKey
from firmware.base.log import event, failure, setup
from firmware.base.rng import SystemRng
from protocols.wire import topics
from sync.central.acts import Acts
from sync.central.audit import Check, audit_books
from sync.central.broker_users import write_users
from sync.central.ca import Authority
from sync.central.centre import Centre
from sync.central.engine import in_transaction, open_engine
from sync.central.enrol import Enroller, Place
from sync.central.enrolment import application
from sync.central.mail import Outbound
from sync.central.migrations import prepare
from sync.central.settings import FILE, SERVICE, CentreConfig, load
from sync.central.tac import StoredKeys, TacDesk
from sync.errors import BusyError, CentreDownError
from sync.link import Broker, CentralLink, Connected, Inbound, LinkEvent, Lost, TlsFiles

LOG = logging.getLogger("onecard.central")
TAKE_MAX, TAKE_MS = 20, 50
USERS_EVERY_US = 2_000_000
RETRY_S_MAX = 5.0
ENROL_START_S = 10.0


def run(config_path: Path) -> int:
    """Serve until SIGTERM or SIGINT; 0. Raises CONFIG, KEYS_*, CENTRE_SCHEMA, CENTRE_DOWN."""
    setup(logging.INFO, sys.stderr)
    config = load(config_path)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    clock = SystemClock(Trust.SYNCED)
    engine = open_engine(config.database)
    prepare(engine)
    write_users(config, engine)
    tac = TacDesk(StoredKeys(config.masters()))
    centre = Centre(engine, config.desk(), clock, SystemRng(), tac, config.settings, pause)
    enrolment = EnrolmentServer(config, clock)
    link = CentralLink(_broker(config), (topics.up_filter(config.site),))
    enrolment.start()
    link.start()
    event(LOG, logging.INFO, "central_ready", site=config.site, enrol_port=config.enrol_port)
    try:
        Loop(config, centre, link, clock).run(stopping)
    finally:
        link.close()
        enrolment.stop()
        engine.dispose()
    return 0


class Loop:
    """Takes messages from the link, gives them to the centre, and only then acknowledges."""

    def __init__(
        self, config: CentreConfig, centre: Centre, link: CentralLink, clock: Clock
    ) -> None:
        self._config = config
        self._centre = centre
        self._link = link
        self._clock = clock
        self._connected = False
        self._full_since_us: int | None = None
        self._users_us = 0

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop."""
        while not stopping.is_set():
            events = self._link.take(TAKE_MAX, TAKE_MS)
            self._turn(events, stopping)

    def _turn(self, events: Sequence[LinkEvent], stopping: threading.Event) -> None:
        messages = []
        for found in events:
            if isinstance(found, Inbound):
                messages.append(found)
            elif isinstance(found, Connected | Lost):
                self._session(isinstance(found, Connected))
        if messages:
            self._take(messages, stopping)
        self._publish(self._centre.tick(hand_out=self._connected))
        now_us = self._clock.mono_us()
        if now_us - self._users_us >= USERS_EVERY_US:
            self._users_us = now_us
            write_users(self._config, self._centre.engine)

    def _session(self, connected: bool) -> None:
        self._connected = connected
        event(LOG, logging.INFO, "broker_session", connected=connected)
        if connected:
            self._publish(self._centre.heads())

    def _take(self, messages: list[Inbound], stopping: threading.Event) -> None:
        """Commit, then acknowledge, then answer; a busy or missing database is tried again."""
        wait_s = 0.05
        lag_ms = self._lag_ms(len(messages))
        while (out := self._tried(messages, lag_ms)) is None:
            if stopping.wait(wait_s):
                return  # unacknowledged: the broker gives them again
            wait_s = min(wait_s * 2, RETRY_S_MAX)
        self._link.ack(messages)
        self._publish(out)

    def _tried(self, messages: list[Inbound], lag_ms: int) -> list[Outbound] | None:
        """The answers of a committed batch, None when nothing was committed."""
        try:
            return self._centre.receive(messages, lag_ms=lag_ms)
        except (BusyError, CentreDownError) as fault:
            failure(LOG, "not_committed", fault)
            return None

    def _lag_ms(self, count: int) -> int:
        """How long batches have been full: the age of the backlog, from below."""
        now_us = self._clock.mono_us()
        if count < TAKE_MAX:
            self._full_since_us = None
        elif self._full_since_us is None:
            self._full_since_us = now_us
        return 0 if self._full_since_us is None else (now_us - self._full_since_us) // 1_000

    def _publish(self, out: Sequence[Outbound]) -> None:
        for one in out:
            self._link.publish(one.topic, one.payload, one.qos, one.retain)


class EnrolmentServer:
    """uvicorn in a thread, with its own engine: SQLite connections stay with their thread."""

    def __init__(self, config: CentreConfig, clock: Clock) -> None:
        engine = open_engine(config.database)
        acts = Acts(engine, config.desk(), clock, SystemRng(), config.settings, pause)
        key = DeviceKey.load(config.keys / "ca.key").private_key
        root = config.ca_pem.read_bytes()
        authority = Authority(config.campus, key, root, SystemRng())
        place = Place(config.broker_host, config.broker_port)
        enroller = Enroller(acts, authority, place, clock, self._admitted)
        self._config = config
        self._engine = engine
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(enroller, root),
                host=config.enrol_bind,
                port=config.enrol_port,
                ssl_certfile=str(config.keys / "enrol.crt"),
                ssl_keyfile=str(config.keys / "enrol.key"),
                log_level="warning",
                log_config=None,
                timeout_keep_alive=5,
                limit_concurrency=64,
            )
        )
        self._thread = threading.Thread(target=self._server.run, name="enrol", daemon=True)

    def start(self) -> None:
        """Begin to serve. Raises CENTRE_DOWN when the port cannot be opened."""
        self._thread.start()
        deadline = time.monotonic() + ENROL_START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise CentreDownError(reason="enrolment port cannot be opened")
            time.sleep(0.02)

    def _admitted(self) -> None:
        """A terminal was enrolled: the broker must know it before its first connect."""
        write_users(self._config, self._engine)

    def stop(self) -> None:
        """Finish what is running and end."""
        self._server.should_exit = True
        self._thread.join(ENROL_START_S)
        self._engine.dispose()


def pause(attempt: int) -> None:
    """A short wait with jitter before the next try of a busy transaction."""
    time.sleep(SystemRng().uniform_ms(5, 20 * attempt) / 1_000)


def office(config: CentreConfig, clock: Clock | None = None) -> Acts:
    """The office's half of the facade, for one command in its own process."""
    engine = open_engine(config.database)
    prepare(engine)
    when = clock or SystemClock(Trust.SYNCED)
    return Acts(engine, config.desk(), when, SystemRng(), config.settings, pause)


def audit_command(db: str | None, config: Path | None, full: bool) -> list[Check]:
    """What `onecard audit` shows; with a configuration the certificates are recomputed too.

    Raises CENTRE_DOWN when the database cannot be reached, CONFIG.
    """
    found = None
    if db is None:
        found = load(config or Path(FILE))
    url = db if found is None else found.database
    assert url is not None, "one of db, config"
    tac = None if found is None else TacDesk(StoredKeys(found.masters()))
    engine = open_engine(url)
    if engine.dialect.name == "sqlite" and not Path(url.removeprefix("sqlite:///")).is_file():
        raise CentreDownError(url=url[:80], reason="no such file")
    in_transaction(engine, lambda _: None, pause)
    try:
        return audit_books(engine, full, tac, SystemClock().wall_us())
    finally:
        engine.dispose()


def broker_settings(config: Path) -> dict[str, Any]:
    """The arguments of `sync.broker.BrokerSettings`, from the centre's configuration."""
    found = load(config)
    return {
        "folder": found.broker_folder,
        "host": found.broker_bind,
        "port": found.broker_port,
        "core_port": found.broker_core_port,
        "ca": found.ca_pem,
        "certificate": found.keys / "broker.crt",
        "key": found.keys / "broker.key",
    }


def _broker(config: CentreConfig) -> Broker:
    files = TlsFiles(
        str(config.ca_pem), str(config.keys / f"{SERVICE}.crt"), str(config.keys / f"{SERVICE}.key")
    )
    return Broker(config.broker_host, config.broker_port, config.client_id, files)
