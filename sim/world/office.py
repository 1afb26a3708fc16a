"""The centre's node: the product's Centre on SQLAlchemy and SQLite, its MQTT session, its people.

A crash falls between the commit and everything that follows it: answers are lost, nothing was
acknowledged to the broker, and a new process starts on the same database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import insert, update

from protocols.wire import cbor
from protocols.wire.cose import KeyRing, P256Signer
from protocols.wire.messages import Grant
from sim.card_memory import Masters
from sim.world.chance import Chance
from sim.world.clock import NodeClock
from sim.world.heap import SECOND_US, Heap
from sim.world.parts import Parts
from sim.world.transport import CENTRE, Peer, SimTransport, centre_filters
from sim.world.truth import Truth
from sync.central import lanes, office, schema
from sync.central.acts import Desk, Settings
from sync.central.centre import Centre
from sync.central.claims import CHEAP
from sync.central.engine import open_engine
from sync.central.ingest_core import KeyState, LaneState
from sync.central.mail import Letter, Outbound
from sync.central.migrations import prepare
from sync.central.registry import TerminalState
from sync.central.tac import GivenKeys, TacDesk
from sync.errors import OfficeStateError

SITE = "sim"
WORK_US = 3 * SECOND_US  # messages of this span share a transaction
TICK_US = 60 * SECOND_US
DOWN_US = (5 * SECOND_US, 120 * SECOND_US)
PERSONS = ("zhang", "li")
KEY_VERSION = 1


class Office(Peer):
    """The centre and the people who work there."""

    def __init__(
        self,
        folder: Path,
        heap: Heap,
        chance: Chance,
        transport: SimTransport,
        truth: Truth,
        parts: Parts,
        masters: Masters,
    ) -> None:
        self.path = folder / "centre.db"
        self.signer: P256Signer = chance.signer(CENTRE)
        spare = chance.signer("centre-next")
        self.ring = KeyRing([self.signer.spki, spare.spki])
        self.clock = NodeClock(heap)
        self.crash_next = False
        self.crashed: Callable[[], None] = lambda: None  # somebody compares the books
        self._heap = heap
        self._chance = chance
        self._transport = transport
        self._truth = truth
        self._parts = parts
        self._tac = TacDesk(GivenKeys({KEY_VERSION: masters.mtk}))
        self._desk = Desk("sim", SITE, self.signer, (self.signer.spki, spare.spki))
        self._engine = open_engine(f"sqlite:///{self.path}")
        prepare(self._engine)
        self._inbox: list[tuple[str, bytes, int]] = []
        self._oldest_us = 0
        self._working = self._ticking = False
        self.up = True
        self.centre = self._made()
        transport.register(CENTRE, self, centre_filters(SITE), keeps=True)

    def _made(self) -> Centre:
        settings = Settings(claim_cost=CHEAP)
        rng = self._chance.stream(CENTRE, "rng")
        return Centre(self._engine, self._desk, self.clock, rng, self._tac, settings)

    def start(self) -> None:
        """Connect to the broker."""
        self._transport.dial(CENTRE)

    def close(self) -> None:
        """The world ends."""
        self._engine.dispose()

    # ---- enrolment and acts of people

    def idem(self) -> bytes:
        """A new idem key."""
        return self._chance.stream(CENTRE, "idem").token(16)

    def enrol(self, term: str, signer: P256Signer) -> Grant:
        """A terminal with its key and its first epoch; what POST /enrol does, without the TLS."""
        merchant = f"m-{term.lower()}"
        self.centre.create_terminal(self.idem(), "sim", term, place="hall", merchant=merchant)
        now_us = self.clock.wall_us()
        with self._engine.begin() as connection:
            terminal = office.terminal_id(connection, term)
            row = schema.terminal
            state = {"state": int(TerminalState.ENROLLED), "generation": 1}
            connection.execute(update(row).where(row.c.id == terminal).values(state))
            key = {"kid": signer.kid, "terminal": terminal, "spki": signer.spki, "generation": 1}
            rest = {"state": int(KeyState.ACTIVE), "cert_pem": "", "until_us": now_us * 2}
            connection.execute(insert(schema.terminal_key), key | rest)
            return lanes.grant_epoch(connection, terminal, term, now_us, LaneState.CLOSED)

    def publish_first(self, operators: Sequence[tuple[bytes, str]], policy: dict[str, int]) -> None:
        """The four lists without which nothing is sold."""
        rows = [(asn, name, None, ["shift", "void"]) for asn, name in operators]
        self.centre.publish_operators(self.idem(), "sim", rows)
        self.centre.publish_list(self.idem(), "sim", "policy", cbor.dumps(policy))
        tariff = cbor.dumps({"prices": {"1": ["noodles", 800]}})
        self.centre.publish_list(self.idem(), "sim", "tariff", tariff)
        self.centre.publish_cards(self.idem(), "sim")
        self.tick_soon()

    def resolve_forks(self) -> int:
        """Two persons open a new epoch for every fenced terminal; how many."""
        rows = self.read(
            "SELECT t.code FROM terminal t JOIN lane l ON l.terminal = t.id WHERE l.state = 1"
            " AND l.epoch = (SELECT max(epoch) FROM lane WHERE terminal = t.id) ORDER BY t.code"
        )
        done = 0
        for (code,) in rows:
            try:
                self.centre.fork_resolve(self.idem(), PERSONS, str(code))
            except OfficeStateError:
                continue
            done += 1
        if done:
            self.tick_soon()
        return done

    def read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Rows of the books, read past the product."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    # ---- the session

    def on_connected(self) -> None:
        """After every reconnect the retained heads and the acknowledgements go out again."""
        self._inbox.clear()
        self._publish(self.centre.heads())
        self.tick_soon()

    def on_lost(self, *, refused: bool, reason: str) -> None:
        """The session is down; the adapter dials again by itself."""
        self._inbox.clear()
        if self.up:
            self._redial((1 * SECOND_US, 8 * SECOND_US))

    def on_message(self, topic: str, payload: bytes, mid: int) -> None:
        """A message; it waits for its batch."""
        if not self._inbox:
            self._oldest_us = self._heap.now_us
        self._inbox.append((topic, payload, mid))
        if not self._working and self.up:
            self._working = True
            self._heap.after(WORK_US, CENTRE, b"work", self._work)

    def tick_soon(self, delay_us: int = SECOND_US) -> None:
        """Workers and outbox should be looked at."""
        if not self._ticking:
            self._ticking = True
            self._heap.after(delay_us, CENTRE, b"tick", self._tick)

    def _work(self) -> None:
        self._working = False
        taken, self._inbox = self._inbox, []
        if not taken or not self.up:
            return
        letters = [Letter(topic, payload) for topic, payload, _ in taken]
        lag_ms = (self._heap.now_us - self._oldest_us) // 1_000
        if self.crash_next:
            self._crash_in(letters, lag_ms)
            return
        self._publish(self.centre.receive(letters, lag_ms=lag_ms))
        for _, _, mid in taken:
            self._transport.ack(CENTRE, mid)
        self.tick_soon(TICK_US)

    def _crash_in(self, letters: list[Letter], lag_ms: int) -> None:
        """The process dies after its commit, before anybody hears of it."""
        self.crash_next = False
        self._truth.count("centre_crashes")
        if self._parts.ack_first:
            files = {path: path.read_bytes() for path in self._files()}
            self._publish(self.centre.receive(letters, lag_ms=lag_ms))
            self._engine.dispose()
            for path in self._files():
                path.unlink()
            for path, raw in files.items():
                path.write_bytes(raw)
        else:
            self.centre.receive(letters, lag_ms=lag_ms)
        self.crash()

    def crash(self, span_us: tuple[int, int] = DOWN_US) -> None:
        """The process is gone; a new one starts after a while."""
        self.up = False
        self._inbox.clear()
        self._transport.hang_up(CENTRE)
        self._engine.dispose()
        self._redial(span_us)
        self._heap.after(2 * SECOND_US, CENTRE, b"books?", self.crashed)

    def _redial(self, span_us: tuple[int, int]) -> None:
        delay_us = self._chance.stream(CENTRE, "life").between(*span_us)
        self._heap.after(delay_us, CENTRE, b"start", self._dial)

    def _dial(self) -> None:
        if not self.up:
            self.up = True
            self.centre = self._made()
        self._transport.dial(CENTRE)

    def _tick(self) -> None:
        self._ticking = False
        if self.up:
            self._publish(self.centre.tick())

    def settle(self) -> None:
        """Workers to the end, and every open doubt looked at."""
        self.centre.workers.settle_now(self.clock.wall_us())
        self._publish(self.centre.tick())

    def _publish(self, out: Sequence[Outbound]) -> None:
        for one in out:
            self._transport.publish(CENTRE, one.topic, one.payload, one.retain)

    def _files(self) -> list[Path]:
        return sorted(self.path.parent.glob(self.path.name + "*"))
