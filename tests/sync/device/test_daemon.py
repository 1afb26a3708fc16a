"""The daemon over a real journal and sync.db, with a link in memory and a centre that signs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.base.clock import Trust
from firmware.base.sqlite import connect
from protocols.wire import cbor, lists, topics
from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.cose import KeyRing, P256Signer, sign1
from protocols.wire.messages import Ack, Cmd, Grant, Hello, Message, Request, Welcome
from protocols.wire.record import Kind
from protocols.wire.segment import Segment
from sim.seeded import SeededRng
from sync.core import Phase
from sync.device.daemon import Daemon, Lane
from sync.device.journal_view import JournalReader
from sync.device.store import SyncStore, position_of
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal

DEVICE = P256Signer(ec.derive_private_key(11, ec.SECP256R1()))
CENTRE = P256Signer(ec.derive_private_key(22, ec.SECP256R1()))
STRANGER = P256Signer(ec.derive_private_key(33, ec.SECP256R1()))
TERM = "T0001"
LANE = Lane("s1", topics.partition_of(TERM), TERM)
GRANT = Grant(TERM, 1, 1, NOWHERE, genesis(TERM, 1, NOWHERE), 0)


class HandClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_us = 1_764_000_000_000_000

    def mono_us(self) -> int:
        return self.now_us

    def wall_us(self) -> int:
        return self.now_us

    def trust(self) -> Trust:
        return Trust.SYNCED


class MemoryLink:
    """Keeps what is published; connected by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.dials = 0
        self.up = True

    def dial(self) -> None:
        self.dials += 1

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        self.sent.append((topic.rsplit("/", 1)[-1], payload))
        return len(self.sent) if self.up else None

    def take(self, leaf: str) -> list[bytes]:
        found = [KeyRing([DEVICE.spki]).open(p) for name, p in self.sent if name == leaf]
        self.sent = [(name, p) for name, p in self.sent if name != leaf]
        return found


class Rig:
    """One terminal's folder with journal, daemon and a centre's key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.link = MemoryLink()
        self.journal: Journal = open_journal(folder / "journal", GRANT, self.clock, bytes(8))
        self.view = JournalReader(folder / "journal")
        self.store = SyncStore(folder / "sync.db")
        self.daemon = self.make()

    def make(self) -> Daemon:
        ring = KeyRing([CENTRE.spki])
        rng = SeededRng(1)
        return Daemon(LANE, DEVICE, ring, self.view, self.store, self.link, self.clock, rng)

    def down(self, message: Message, signer: P256Signer = CENTRE, leaf: str = "ack") -> None:
        self.daemon.inbound(topics.down("s1", TERM, leaf), sign1(message.encode(), signer))

    def connect(self) -> None:
        self.daemon.connected()
        hello = Hello.decode(self.link.take("hello")[-1])
        now_us = self.clock.now_us
        pos = self.daemon.core.acked
        self.down(Welcome(TERM, pos, hello.t1_us, now_us, now_us, 4, 2_000, 30, {}))

    def ack(self, seq: int) -> Ack:
        found = self.view.hash_at(seq)
        assert found is not None
        return Ack(TERM, 1, seq, found, self.clock.now_us, 4)

    def close(self) -> None:
        self.view.close()
        self.store.close()
        self.journal.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def test_records_travel_as_stored(rig: Rig) -> None:
    """The segment carries the journal's own bytes, chained from the right place, signed."""
    rig.connect()
    segment = Segment.decode(rig.link.take("journal")[0])
    assert (segment.first, segment.epoch, segment.term) == (1, 1, TERM)
    assert segment.hashes()[-1] == segment.tip == rig.journal.tip.hash
    assert segment.prev == GRANT.h0
    assert list(segment.bodies) == rig.view.bodies(1, segment.last)


def test_ack_is_kept_as_signed_and_survives_a_restart(rig: Rig) -> None:
    """The envelope lies in sync.db for the terminal; a new daemon goes on from it."""
    rig.connect()
    rig.link.take("journal")
    rig.down(rig.ack(rig.journal.tip.seq))
    kept = rig.store.kept("ack")
    assert kept is not None
    assert Ack.decode(KeyRing([CENTRE.spki]).open(kept)).seq == rig.journal.tip.seq
    assert rig.make().core.acked == rig.journal.tip


def test_notebook_lost_after_pruning(rig: Rig) -> None:
    """sync.db deleted when the volume with record 1 is gone: the welcome says where to go on."""
    rig.journal.roll(1)
    min((rig.folder / "journal").glob("E*.db")).unlink()
    rig.view.close()
    rig.view.refresh()
    assert rig.view.hash_at(0) is None
    rig.daemon = rig.make()
    rig.daemon.turn()
    rig.daemon.connected()
    hello = Hello.decode(rig.link.take("hello")[-1])
    assert (hello.acked.epoch, hello.acked.seq) == (1, 0)
    known = rig.ack(rig.journal.tip.seq - 1)
    pos = Position(1, known.seq, known.hash)
    rig.down(Welcome(TERM, pos, hello.t1_us, 1, 1, 4, 2_000, 30, {}))
    assert [Segment.decode(raw).first for raw in rig.link.take("journal")] == [known.seq + 1]


def test_puback_is_not_an_ack(rig: Rig) -> None:
    """The broker's word moves nothing that is stored."""
    rig.connect()
    before = rig.daemon.core.acked
    for number in range(1, len(rig.link.sent) + 3):
        rig.daemon.puback(number)
    assert rig.daemon.core.acked == before
    assert rig.store.kept("ack") is None


def test_unsigned_or_foreign_word_is_dropped(rig: Rig) -> None:
    """An ack by another key, for another terminal, or rubbish: nothing kept, an alarm."""
    rig.connect()
    seq = rig.journal.tip.seq
    rig.down(rig.ack(seq), signer=STRANGER)
    rig.daemon.inbound(topics.down("s1", TERM, "ack"), b"rubbish")
    other = rig.ack(seq)
    rig.down(Ack("T0002", 1, other.seq, other.hash, other.at_us, 4))
    assert rig.daemon.alarms == ["WIRE_SIG", "WIRE_FORM", "WIRE_TOPIC"]
    assert rig.store.kept("ack") is None


def test_new_records_flush_after_two_seconds(rig: Rig) -> None:
    """`turn` sees the journal grow and sends when flush_ms has passed."""
    rig.connect()
    rig.link.take("journal")
    rig.down(rig.ack(rig.journal.tip.seq))
    rig.journal.append(Kind.MARK)
    rig.daemon.turn()
    assert rig.link.take("journal") == []
    rig.clock.now_us += 2_000_000
    rig.daemon.turn()
    assert Segment.decode(rig.link.take("journal")[0]).first == rig.journal.tip.seq


def test_records_seen_first_by_a_message_are_sent_too(rig: Rig) -> None:
    """A message that makes the daemon look at the journal must not hide new records from the core."""
    rig.connect()
    rig.link.take("journal")
    rig.down(rig.ack(rig.journal.tip.seq))
    rig.daemon.turn()
    rig.journal.append(Kind.MARK)
    rig.down(rig.ack(1))  # an old ack: refreshes the view, means nothing
    rig.daemon.turn()
    rig.clock.now_us += 2_000_000
    rig.daemon.turn()
    assert Segment.decode(rig.link.take("journal")[0]).last == rig.journal.tip.seq


def test_hundreds_of_records_are_cut(rig: Rig) -> None:
    """At most 100 records a segment, consecutive, and never more than the credit at once."""
    for _ in range(450):
        rig.journal.append(Kind.MARK)
    rig.connect()
    found = [Segment.decode(raw) for raw in rig.link.take("journal")]
    assert [len(s.bodies) for s in found] == [100] * 4
    assert [s.first for s in found] == [1, 101, 201, 301]
    assert found[1].prev == found[0].tip


def test_volumes_are_one_lane(rig: Rig) -> None:
    """A rolled volume goes on in the same lane: hashes and bodies across the border."""
    for _ in range(30):
        rig.journal.append(Kind.MARK)
    assert rig.journal.roll(10)
    rig.journal.append(Kind.MARK)
    rig.connect()
    segment = Segment.decode(rig.link.take("journal")[0])
    assert segment.last == rig.journal.tip.seq
    assert segment.hashes()[-1] == rig.journal.tip.hash


def test_hello_says_where_we_stand(rig: Rig) -> None:
    """tip, acked, boot id, list versions, dseq."""
    rig.store.keep({"dseq": (7).to_bytes(8, "big")})
    rig.daemon = rig.make()
    rig.daemon.connected()
    hello = Hello.decode(rig.link.take("hello")[0])
    assert hello.tip == rig.journal.tip
    assert hello.acked == Position(1, 0, GRANT.h0)
    assert hello.dseq == 7
    assert hello.boot == bytes(8)
    assert hello.lists == {}


def test_list_is_fetched_and_stored_whole(rig: Rig) -> None:
    """A newer head asks for its parts; head and parts are stored together, as signed."""
    content = lists.encode_set(range(0, 60_000 * 977, 977))
    head = lists.head_of("cards", 3, content, 60_000)
    rig.connect()
    topic = topics.list_head("s1", "cards")
    rig.daemon.inbound(topic, sign1(head.encode(), CENTRE))
    ask = Request.decode(rig.link.take("req")[0])
    assert (ask.what, ask.body) == ("list", ["cards", 3])
    parts = lists.parts_of("cards", 3, content)
    assert len(parts) > 1
    for part in reversed(parts):
        assert rig.store.kept("list_head:cards") is None
        rig.down(part, leaf="list/cards/part")
    assert rig.store.versions() == {"cards": 3}
    assert rig.store.kept("list_head:cards") == sign1(head.encode(), CENTRE)
    rig.daemon.inbound(topic, sign1(head.encode(), CENTRE))
    assert rig.link.take("req") == []  # known already


def test_damaged_list_is_asked_for_again(rig: Rig) -> None:
    """Parts that do not make the promised content are thrown away and asked for again."""
    head = lists.head_of("policy", 2, b"right", 1)
    rig.connect()
    rig.daemon.inbound(topics.list_head("s1", "policy"), sign1(head.encode(), CENTRE))
    rig.link.take("req")
    rig.down(lists.parts_of("policy", 2, b"wrong")[0], leaf="list/policy/part")
    assert rig.store.versions() == {}
    rig.daemon.turn()
    assert len(rig.link.take("req")) == 1
    rig.down(lists.parts_of("policy", 2, b"right")[0], leaf="list/policy/part")
    assert rig.store.versions() == {"policy": 2}


def _first_cards(rig: Rig, version: int, asns: frozenset[int]) -> None:
    content = lists.encode_set(asns)
    head = lists.head_of("cards", version, content, len(asns))
    rig.connect()
    rig.daemon.inbound(topics.list_head("s1", "cards"), sign1(head.encode(), CENTRE))
    for part in lists.parts_of("cards", version, content):
        rig.down(part, leaf="list/cards/part")
    rig.link.take("req")


def _step(rig: Rig, base: int, before: frozenset[int], after: frozenset[int]) -> list[bytes]:
    delta = lists.delta_of("cards", base, before, after)
    head = lists.head_of("cards", base + 1, lists.encode_set(after), len(after))
    return [sign1(delta.encode(), CENTRE), sign1(head.encode(), CENTRE)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_delta_leads_a_stored_list_on(rig: Rig, order: tuple[int, int]) -> None:
    """A loss report travels as a delta, whichever of delta and head comes first; no parts asked."""
    before, after = frozenset({5, 9}), frozenset({5, 7, 9})
    _first_cards(rig, 3, before)
    sent = _step(rig, 3, before, after)
    for n in order:
        rig.daemon.inbound(topics.list_head("s1", "cards"), sent[n])
    assert rig.link.take("req") == []
    assert rig.store.versions() == {"cards": 4}
    parts, deltas = rig.store.snapshot("cards")
    assert (len(parts), deltas) == (1, [sent[0]])
    assert rig.store.kept("list_head:cards") == sent[1]


def test_missing_delta_falls_back_to_the_snapshot(rig: Rig) -> None:
    """A gap, or a delta that does not lead to the head's digest: after a second the parts."""
    before = frozenset({5})
    _first_cards(rig, 3, before)
    wrong = _step(rig, 3, frozenset({6}), frozenset({6, 7}))[0]
    right = _step(rig, 3, before, frozenset({5, 7}))[1]
    for raw in (wrong, right):
        rig.daemon.inbound(topics.list_head("s1", "cards"), raw)
    rig.daemon.turn()
    assert rig.link.take("req") == []
    rig.clock.now_us += 1_000_000
    rig.daemon.turn()
    assert Request.decode(rig.link.take("req")[0]).body == ["cards", 4]
    assert rig.store.versions() == {"cards": 3}


def test_grant_waits_in_sync_db(rig: Rig) -> None:
    """A grant is kept as signed; the terminal opens the epoch, then the daemon follows it."""
    rig.connect()
    prev = rig.journal.tip
    grant = Grant(TERM, 1, 2, prev, genesis(TERM, 2, prev), 0)
    rig.down(grant)
    kept = rig.store.kept("grant")
    assert kept == sign1(grant.encode(), CENTRE)
    rig.journal.close()
    rig.journal = open_journal(rig.folder / "journal", grant, rig.clock, bytes(8))
    rig.link.take("hello")
    rig.daemon.turn()
    hello = Hello.decode(rig.link.take("hello")[0])
    assert (hello.tip.epoch, hello.acked) == (2, Position(2, 0, grant.h0))


def test_command_is_kept_once(rig: Rig) -> None:
    """A command lies in sync.db once, however often it is sent."""
    command = Cmd(TERM, bytes(16), 1, 99, None)
    for _ in range(3):
        rig.down(command, leaf="cmd")
    connection = connect(rig.folder / "sync.db", read_only=True)
    assert connection.execute("SELECT count(*) FROM cmd").fetchone() == (1,)
    connection.close()


def test_fork_is_kept_for_the_terminal(rig: Rig) -> None:
    """A conflicting ack is stored as evidence and stops the uplink."""
    rig.connect()
    rig.down(Ack(TERM, 1, 1, bytes(32), 5, 4))
    assert rig.daemon.core.phase is Phase.FORKED
    assert rig.store.kept("ack") is not None
    raw = rig.store.kept("acked")
    assert raw is not None
    assert position_of(raw).seq == 0
    assert rig.daemon.alarms == ["JOURNAL_FORK"]


def test_dials_again_with_backoff(rig: Rig) -> None:
    """A lost link is dialled after the core's delay, not before."""
    rig.daemon.lost(refused=False, reason="x")
    rig.clock.now_us += 60_000_000
    rig.daemon.turn()
    assert rig.link.dials == 1
    rig.daemon.turn()
    assert rig.link.dials == 1


def test_stored_position_of_a_newer_disk_is_not_believed(rig: Rig) -> None:
    """sync.db from after a restore of the journal: start from zero, let the centre speak."""
    rig.store.keep({"acked": cbor.dumps([1, 99, bytes(32)])})
    assert rig.make().core.acked == Position(1, 0, GRANT.h0)
