"""Test doubles of the centre's surroundings: clock, chance, a chip, and a pen for terminal records.

The pen writes authentic journals (chained, signed) without a terminal, so that a test can also
write what no honest terminal would.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, text

from firmware.base.clock import Trust
from protocols.bizday import local_date_time
from protocols.card.files import PurseRecord
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


def shown(intent: Record) -> bytes:
    """The card's own record of a debit, as the next terminal reads it."""
    names = ("type", "tid", "date", "time")
    kind, tid, date, time = (intent.get(n) for n in names)
    assert intent.ctr is not None
    return PurseRecord(intent.ctr, 0, Fen(intent.fen), kind, tid, date, time).encode()


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

    def doubt(self, intent: Record, reason: str = "link") -> Record:
        own = own_of(Kind.DOUBT, reason=reason)
        facts = {"inst": intent.inst, "ctr": intent.ctr, "fen": intent.fen}
        return self.add(Kind.DOUBT, ref=intent.seq, own=own, **facts)

    def late(self, chip: Chip, intent: Record, tac: bytes | None, via: str) -> Record:
        return self.capture(chip, intent, tac, late=1, via=via)

    def reverse(self, chip: Chip, seq: int, fen: int) -> Record:
        own = own_of(Kind.REVERSAL, operator=bytes(10), reason="void")
        return self.add(Kind.REVERSAL, ref=seq, inst=chip.asn, fen=fen, own=own)

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

    def send(self, *pens: Pen) -> None:
        """Everything unsent, and a MARK of everybody."""
        for pen in pens:
            pen.add(Kind.MARK)
            self.give(pen.segment())

    def marks(self, *pens: Pen) -> None:
        """Time passes, every terminal says that it is quiet, the workers look."""
        self.clock.step(60)
        self.send(*pens)
        self.work(30)

    def open_items(self) -> list[str]:
        sql = "SELECT reason FROM suspense_item WHERE state = 0 ORDER BY id"
        return [row.reason for row in self.rows(sql)]

    def doubts(self) -> list[tuple[int, str]]:
        sql = "SELECT state, via FROM doubt ORDER BY terminal, epoch, seq"
        return [tuple(row) for row in self.rows(sql)]

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
