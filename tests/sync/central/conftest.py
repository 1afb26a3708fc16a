"""Books on SQLite and PostgreSQL, and a pen that writes authentic terminal records for them."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, text

from firmware.base.clock import Trust
from protocols.bizday import local_date_time
from protocols.card.suite import Pboc3Des, purchase_tac_message
from protocols.money import Fen
from protocols.wire import topics
from protocols.wire.chain import NOWHERE, Position, chain, genesis
from protocols.wire.cose import KeyRing, P256Signer, sign1
from protocols.wire.messages import Hello, decode_down
from protocols.wire.record import Kind, Record, own_of
from protocols.wire.segment import Segment
from sync.central.acts import Desk, Settings
from sync.central.ca import Authority, create_root
from sync.central.centre import Centre
from sync.central.claims import CHEAP
from sync.central.engine import open_engine
from sync.central.enrol import Enroller, Place
from sync.central.mail import Letter, Outbound
from sync.central.migrations import prepare
from sync.central.tac import GivenKeys, TacDesk

NOON_US = 1_900_000_000_000_000
MTK = bytes(range(16))
SITE, CAMPUS = "s1", "campus"


class ManualClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_us = NOON_US

    def wall_us(self) -> int:
        return self.now_us

    def mono_us(self) -> int:
        return self.now_us - NOON_US

    def trust(self) -> Trust:
        return Trust.SYNCED

    def step(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)


class SeededRng:
    """Chance from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        return self._random.randint(low_ms, high_ms)


def key_of(seed: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(seed + 10_000, ec.SECP256R1())


def csr_of(key: ec.EllipticCurvePrivateKey, name: str = "anything") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass
class Chip:
    """What a purse card would say: counter, balance, certificate."""

    asn: bytes
    balance: int
    ctr: int = 0
    mtk: bytes = MTK

    def tac(self, intent: Record) -> bytes:
        suite = Pboc3Des()
        names = ("type", "tid", "termseq", "date", "time")
        message = purchase_tac_message(Fen(intent.fen), *(intent.get(n) for n in names))
        return suite.tac(suite.diversify(self.mtk, self.asn[-8:]), message)

    def paid(self, fen: int) -> None:
        self.ctr += 1
        self.balance -= fen


class Pen:
    """One terminal: appends records to its chain and packs them into signed segments."""

    def __init__(self, clock: ManualClock, code: str, key: P256Signer, seed: int) -> None:
        self.clock, self.code, self.key = clock, code, key
        self.tid = b"TID" + seed.to_bytes(3, "big")
        self.termseq = count(1)
        self.boot_id = seed.to_bytes(8, "big")
        self.start(1, NOWHERE)

    def start(self, epoch: int, prev: Position) -> None:
        self.epoch, self.prev = epoch, prev
        self.bodies: list[bytes] = []
        self.hashes = [genesis(self.code, epoch, prev)]
        self.sent = 0

    @property
    def tip(self) -> Position:
        return Position(self.epoch, len(self.bodies), self.hashes[-1])

    def add(self, kind: int, *, own: tuple[Any, ...] = (), **fields: Any) -> Record:
        wall_us = fields.pop("wall_us", self.clock.wall_us())
        flags = fields.pop("flags", 0)
        seq = len(self.bodies) + 1
        record = Record(seq, kind, flags, wall_us, self.clock.mono_us(), 1, own=own, **fields)
        self.raw(record.encode())
        return record

    def raw(self, body: bytes) -> None:
        self.bodies.append(body)
        self.hashes = [*self.hashes, *chain(self.hashes[-1], [body])]

    def begin(self) -> None:
        """EPOCH and BOOT, as every journal begins."""
        p = self.prev
        own = own_of(
            Kind.EPOCH, epoch=self.epoch, prev_epoch=p.epoch, prev_seq=p.seq, prev_h=p.hash, hw0=0
        )
        self.add(Kind.EPOCH, own=own)
        self.add(Kind.BOOT, own=own_of(Kind.BOOT, boot_id=self.boot_id))

    def intent(self, chip: Chip, fen: int, **own: Any) -> Record:
        date, time = local_date_time(self.clock.wall_us())
        facts: dict[str, Any] = {
            "means": 0,
            "purse_before": chip.balance,
            "type": 6,
            "tid": self.tid,
            "termseq": next(self.termseq),
            "date": date,
            "time": time,
            "keyver": 1,
            "mac1": b"mac1",
        }
        filled = own_of(Kind.INTENT, **{**facts, **own})
        return self.add(Kind.INTENT, inst=chip.asn, ctr=chip.ctr, fen=fen, own=filled)

    def capture(self, chip: Chip, intent: Record, tac: bytes | None, **own: Any) -> Record:
        filled = own_of(Kind.CAPTURE, tac=tac, **own)
        return self.add(
            Kind.CAPTURE, ref=intent.seq, inst=chip.asn, ctr=intent.ctr, fen=intent.fen, own=filled
        )

    def sale(self, chip: Chip, fen: int, **own: Any) -> tuple[Record, Record]:
        """A whole tap: INTENT, debit on the chip, CAPTURE."""
        intent = self.intent(chip, fen, **own)
        tac = chip.tac(intent)
        chip.paid(fen)
        return intent, self.capture(chip, intent, tac)

    def segment(self, first: int | None = None, last: int | None = None, **swap: Any) -> Letter:
        first = self.sent + 1 if first is None else first
        last = len(self.bodies) if last is None else last
        self.sent = max(self.sent, last)
        plain = Segment(
            site=swap.get("site", SITE),
            part=swap.get("part", topics.partition_of(self.code)),
            term=swap.get("term", self.code),
            epoch=swap.get("epoch", self.epoch),
            first=first,
            prev=swap.get("prev", self.hashes[first - 1]),
            tip=swap.get("tip", self.hashes[last]),
            sent_us=self.clock.wall_us(),
            bodies=tuple(self.bodies[first - 1 : last]),
        )
        return Letter(self.topic("journal"), plain.signed(swap.get("key", self.key)))

    def topic(self, leaf: str) -> str:
        return topics.up(SITE, topics.partition_of(self.code), self.code, leaf)

    def hello(self, **swap: Any) -> Letter:
        facts: dict[str, Any] = {
            "term": self.code,
            "boot": self.boot_id,
            "tip": self.tip,
            "acked": Position(self.epoch, 0, self.hashes[0]),
            "lists": {},
            "t1_us": self.clock.wall_us(),
            "mono_us": self.clock.mono_us(),
            "firmware": "test",
            "outbox_pct": 0,
            "dseq": 0,
        }
        return Letter(self.topic("hello"), sign1(Hello(**{**facts, **swap}).encode(), self.key))


@dataclass
class Campus:
    """A centre with its clock, and whatever a test needs around it."""

    engine: Engine
    clock: ManualClock = field(default_factory=ManualClock)
    rng: SeededRng = field(default_factory=lambda: SeededRng(7))
    settings: Settings = field(default_factory=lambda: Settings(claim_cost=CHEAP))
    mtk: dict[int, bytes] = field(default_factory=lambda: {1: MTK})

    def __post_init__(self) -> None:
        prepare(self.engine)
        current, following = P256Signer(key_of(1)), P256Signer(key_of(2))
        self.desk = Desk(CAMPUS, SITE, current, (current.spki, following.spki))
        self.ring = KeyRing([current.spki])
        root = create_root(CAMPUS, key_of(3), self.rng, self.clock.now_us)
        self.authority = Authority(CAMPUS, key_of(3), root, self.rng)
        self.enrolments = 0
        self.cards = count(1)
        self.restart()

    def restart(self) -> None:
        """A new process over the same database."""
        tac = TacDesk(GivenKeys(self.mtk))
        self.centre = Centre(self.engine, self.desk, self.clock, self.rng, tac, self.settings)
        self.enroller = Enroller(
            self.centre, self.authority, Place("127.0.0.1", 8883), self.clock, self._enrolled
        )

    def _enrolled(self) -> None:
        self.enrolments += 1

    def idem(self) -> bytes:
        return self.rng.token(16)

    def terminal(self, code: str = "T0001", merchant: str = "north", seed: int = 100) -> Pen:
        claim = self.centre.create_terminal(
            self.idem(), "office", code, place="hall", merchant=merchant
        )
        key = key_of(seed)
        self.enroller.admit(claim, csr_of(key))
        return Pen(self.clock, code, P256Signer(key), seed)

    def card(self, fen: int = 10_000, known: bool = True) -> Chip:
        asn = bytes.fromhex(f"{next(self.cards):020d}")
        if known:
            self.centre.issue_card(self.idem(), "office", asn, fen)
        return Chip(asn, fen)

    def give(self, *letters: Letter, lag_ms: int = 0) -> list[Any]:
        """Messages in, decoded answers out (envelopes verified)."""
        return self.decode(self.centre.receive(letters, lag_ms=lag_ms))

    def decode(self, out: list[Outbound]) -> list[Any]:
        shown = [o for o in out if o.payload and not o.topic.endswith("/state")]
        return [decode_down(self.ring.open(o.payload)) for o in shown]

    def work(self, seconds: float = 60.0) -> list[Any]:
        """Time passes and the workers run."""
        self.clock.step(seconds)
        return self.decode(self.centre.tick())

    def rows(self, sql: str, **params: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), params).all())

    def value(self, sql: str, **params: Any) -> Any:
        return self.rows(sql, **params)[0][0]

    def fen(self, account: str) -> int:
        sql = "SELECT b.fen FROM balance b JOIN account a ON a.id = b.account WHERE a.code = :c"
        return int(self.value(sql, c=account))

    def purse(self, chip: Chip) -> int:
        return self.fen(f"purse:{chip.asn.hex()}")

    def wallet(self, chip: Chip) -> int:
        sql = "SELECT b.fen FROM balance b JOIN card c ON c.wallet = b.account WHERE c.asn = :a"
        return int(self.value(sql, a=chip.asn))

    def behind_triggers(self, table: str, sql: str, **params: Any) -> None:
        """What somebody with the database's own rights could do."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                connection.execute(text(sql), params)
                return
            found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t"
            triggers = connection.execute(text(found), {"t": table}).all()
            for trigger in triggers:
                connection.execute(text(f"DROP TRIGGER {trigger.name}"))
            connection.execute(text(sql), params)
            for trigger in triggers:
                connection.execute(text(trigger.sql))


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
def another(campus: Campus) -> Callable[[], Campus]:
    """A second centre process over the same database."""
    return lambda: Campus(campus.engine, clock=campus.clock)
