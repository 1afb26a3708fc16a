"""The terminal's sync core: each event of sync.md §5, then a lossy world against a model centre."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire.chain import NOWHERE, Position, genesis, link
from protocols.wire.messages import Ack, Grant, Halt, Need, Reject, Welcome
from sync.core import (
    ACK_AFTER_PUBACK_MS,
    ACK_AFTER_SEND_MS,
    HELLO_ANSWER_MS,
    RETRY_HOLD_MS,
    Alarm,
    AskStatus,
    Dial,
    Keep,
    KeepDseq,
    Phase,
    SendHello,
    SendSegment,
    SyncCore,
)

TERM = "T0001"


class Lane:
    """A journal in memory: one hash per record."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.hashes = [genesis(TERM, epoch, NOWHERE)]

    def append(self, body: bytes) -> None:
        self.hashes.append(link(self.hashes[-1], body))

    def tip(self) -> Position:
        return Position(self.epoch, len(self.hashes) - 1, self.hashes[-1])

    def hash_at(self, seq: int) -> bytes | None:
        return self.hashes[seq] if 0 <= seq < len(self.hashes) else None

    def at(self, seq: int) -> Position:
        return Position(self.epoch, seq, self.hashes[seq])

    def fit(self, first: int, last: int) -> int:
        return last


class Low:
    """Chance without chance: the upper end."""

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        return high_ms


def lane_of(count: int) -> Lane:
    lane = Lane()
    for n in range(count):
        lane.append(b"r%d" % n)
    return lane


def core_of(lane: Lane, acked: int = 0) -> SyncCore:
    return SyncCore(lane, Low(), lane.at(acked))


def welcome(pos: Position, t1: int = 5, credit: int = 4) -> Welcome:
    return Welcome(TERM, pos, t1, 1, 2, credit, 2_000, 30, {})


def ack(pos: Position, credit: int = 4) -> Ack:
    return Ack(TERM, pos.epoch, pos.seq, pos.hash, 1, credit)


def streaming(lane: Lane, acked: int = 0) -> SyncCore:
    core = core_of(lane, acked)
    assert core.connected(0) == [SendHello()]
    core.hello_sent(5)
    core.received(welcome(lane.at(acked)), 0)
    assert core.phase is Phase.STREAM
    return core


def test_no_segment_before_welcome() -> None:
    """Connected says hello and nothing else, however much waits."""
    lane = lane_of(300)
    core = core_of(lane)
    assert core.connected(0) == [SendHello()]
    assert core.appended(10) == []
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(0)), 20)
    assert sent == [
        Keep("welcome"),
        SendSegment(1, 100),
        SendSegment(101, 200),
        SendSegment(201, 300),
    ]


def test_replayed_welcome_is_ignored() -> None:
    """A welcome whose t1 is not that of the outstanding hello does nothing."""
    lane = lane_of(3)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    assert core.received(welcome(lane.at(0), t1=4), 0) == []
    assert core.phase is Phase.HELLO
    core.received(welcome(lane.at(0)), 0)
    assert core.received(welcome(lane.at(2)), 0) == []  # the same one again


def test_welcome_moves_acked_back() -> None:
    """A centre restored from backup gets everything again from where it stands."""
    lane = lane_of(50)
    core = core_of(lane, acked=40)
    core.connected(0)
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(10)), 0)
    assert core.acked == lane.at(10)
    assert SendSegment(11, 50) in sent


@pytest.mark.parametrize("how", ["welcome", "ack"])
def test_position_beyond_our_tip_is_rollback(how: str) -> None:
    """The centre knows more than we: our disk went back in time."""
    lane = lane_of(5)
    ahead = Position(1, 9, bytes(32))
    core = streaming(lane) if how == "ack" else core_of(lane)
    if how == "welcome":
        core.connected(0)
        core.hello_sent(5)
    actions = core.received(ack(ahead) if how == "ack" else welcome(ahead), 0)
    assert actions == [Keep(how), Alarm("JOURNAL_ROLLBACK"), SendHello()]
    assert core.phase is Phase.FORKED
    assert core.positions() == (lane.at(5), ahead)  # an acked above the tip: the centre fences
    assert core.acked == lane.at(0)


@pytest.mark.parametrize("how", ["welcome", "ack"])
def test_foreign_hash_is_fork(how: str) -> None:
    """Same seq, other hash: a clone wrote there. Nothing is acknowledged by it."""
    lane = lane_of(5)
    other = Position(1, 3, bytes(32))
    core = streaming(lane) if how == "ack" else core_of(lane)
    if how == "welcome":
        core.connected(0)
        core.hello_sent(5)
    actions = core.received(ack(other) if how == "ack" else welcome(other), 0)
    assert actions == [Keep(how), Alarm("JOURNAL_FORK"), SendHello()]
    assert core.fork_code == "JOURNAL_FORK"
    assert core.positions() == (lane.at(3), other)  # two hashes at one place
    core.hello_sent(7)
    assert SendHello() not in core.received(welcome(other, t1=7), 1)  # said once, then hourly
    assert core.received(ack(lane.at(5)), 1) == []  # no further ack counts while forked


def test_old_ack_is_a_no_op_but_a_wrong_one_forks() -> None:
    """An ack at or below acked with our hash is nothing; with another hash it is a fork."""
    lane = lane_of(5)
    core = streaming(lane, acked=4)
    assert core.received(ack(lane.at(2)), 0) == []
    core.received(ack(Position(1, 2, bytes(32))), 0)
    assert core.phase is Phase.FORKED


def test_puback_acknowledges_nothing() -> None:
    """After every PUBACK the acked position stands where the centre put it (rule 1)."""
    lane = lane_of(10)
    core = streaming(lane)
    assert core.timer(1) == []
    assert core.puback(10, 50) == []
    assert core.acked == lane.at(0)
    assert core.deadline_ms() == 50 + ACK_AFTER_PUBACK_MS


def test_ack_timeout_says_hello_not_resend() -> None:
    """10 s after PUBACK or 30 s after sending: hello, and the welcome decides where to go on."""
    lane = lane_of(10)
    core = streaming(lane)
    assert core.timer(ACK_AFTER_SEND_MS - 1) == []
    assert core.timer(ACK_AFTER_SEND_MS) == [SendHello()]
    assert core.phase is Phase.HELLO
    core.hello_sent(6)
    assert core.received(welcome(lane.at(10), t1=6), ACK_AFTER_SEND_MS) == [Keep("welcome")]


def test_window_is_the_credit() -> None:
    """At most `credit` unacknowledged segments; an ack opens the window again."""
    lane = lane_of(500)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(0), credit=2), 0)
    assert [a for a in sent if isinstance(a, SendSegment)] == [
        SendSegment(1, 100),
        SendSegment(101, 200),
    ]
    assert core.received(ack(lane.at(100), credit=1), 1) == [Keep("ack")]
    assert core.received(ack(lane.at(200), credit=1), 2) == [Keep("ack"), SendSegment(201, 300)]


def test_flush_waits_then_sends() -> None:
    """Fewer than 100 records go when flush_ms has passed since the oldest."""
    lane = lane_of(1)
    core = streaming(lane, acked=1)
    lane.append(b"new")
    assert core.appended(10_000) == []
    assert core.deadline_ms() == 12_000
    assert core.timer(12_000) == [SendSegment(2, 2)]


def test_need_rewinds_only_on_our_hash() -> None:
    """`need` rewinds when its prev is ours, forks when not, and is ignored when replayed."""
    lane = lane_of(10)
    core = streaming(lane)
    need = Need(TERM, 1, 3, 4, lane.hashes[3])
    assert core.received(need, 0) == [KeepDseq(3), SendSegment(4, 10)]
    assert core.received(need, 0) == []
    core.received(Need(TERM, 1, 4, 4, bytes(32)), 0)
    assert core.phase is Phase.FORKED


def test_need_beyond_tip_forks() -> None:
    """A `need` from behind our tip cannot be ours."""
    lane = lane_of(3)
    core = streaming(lane)
    core.received(Need(TERM, 1, 1, 9, bytes(32)), 0)
    assert core.phase is Phase.FORKED


def test_reject_holds_and_retries_hourly() -> None:
    """HOLD keeps trading, retries with a hello after an hour, and an ack ends it."""
    lane = lane_of(3)
    core = streaming(lane)
    stale = Reject(TERM, 1, 1, 0, 0, "SYNC_BAD_SIG")
    assert core.received(stale, 0) == [KeepDseq(1)]
    reject = Reject(TERM, 1, 2, 1, 3, "SYNC_BAD_SIG")
    assert core.received(reject, 0) == [KeepDseq(2), Keep("reject"), Alarm("SYNC_BAD_SIG")]
    assert core.phase is Phase.HOLD
    assert core.timer(RETRY_HOLD_MS) == [SendHello()]
    core.received(ack(lane.at(3)), 0)
    assert core.phase is Phase.STREAM


def test_halt_and_grant() -> None:
    """halt is kept for the terminal; a grant of a newer epoch too, an older one is not."""
    lane = lane_of(3)
    core = streaming(lane)
    halt = Halt(TERM, 1, 1, "SYNC_FENCED")
    assert core.received(halt, 0) == [KeepDseq(1), Keep("halt"), Alarm("SYNC_FENCED")]
    grant = Grant(TERM, 2, 2, lane.at(3), bytes(32), 0)
    assert core.received(grant, 0) == [KeepDseq(2), Keep("grant")]
    assert core.received(Grant(TERM, 3, 1, lane.at(3), bytes(32), 0), 0) == [KeepDseq(3)]


def test_new_epoch_starts_from_zero() -> None:
    """When the terminal opened its new epoch the core says hello with it, and sends from 1."""
    lane = lane_of(3)
    core = streaming(lane)
    lane.epoch, lane.hashes = 2, [bytes(32), link(bytes(32), b"EPOCH")]
    assert core.appended(0) == [SendHello()]
    assert core.acked == Position(2, 0, bytes(32))
    core.hello_sent(7)
    assert SendSegment(1, 1) in core.received(welcome(lane.at(0), t1=7), 0)


def test_welcome_of_another_epoch_is_ignored() -> None:
    """A position of another epoch says nothing about this journal."""
    lane = lane_of(3)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    assert core.received(welcome(Position(2, 0, bytes(32))), 0) == []


def test_backoff_grows_and_resets() -> None:
    """Full jitter up to 300 s; a minute connected starts again at 1 s; 5 refusals ask /status."""
    core = core_of(lane_of(1))
    delays = [core.disconnected(0) for _ in range(12)]
    assert [a[0] for a in delays[:3]] == [Dial(1_000), Dial(2_000), Dial(4_000)]
    assert delays[-1] == [Dial(300_000)]
    core.connected(0)
    assert core.disconnected(60_000) == [Dial(1_000)]
    asked = [AskStatus() in core.disconnected(0, refused=True) for _ in range(6)]
    assert asked == [False, False, False, False, True, False]


def test_no_hello_answer_says_hello_again() -> None:
    """A lost welcome costs ten seconds."""
    core = core_of(lane_of(1))
    core.connected(0)
    assert core.deadline_ms() == HELLO_ANSWER_MS
    assert core.timer(HELLO_ANSWER_MS) == [SendHello()]


# --- a lossy world ------------------------------------------------------------------------------


@dataclass
class Centre:
    """The simplest centre that is right: a lane cursor and the hashes behind it."""

    hashes: list[bytes]
    dseq: int = 0
    bodies: list[bytes] = field(default_factory=list)
    fenced: bool = False

    def pos(self) -> Position:
        return Position(1, len(self.hashes) - 1, self.hashes[-1])

    def segment(self, first: int, bodies: list[bytes], prev: bytes) -> Ack | Need | None:
        if self.fenced:
            return None
        if first > len(self.hashes):
            self.dseq += 1
            return Need(TERM, 1, self.dseq, len(self.hashes), self.hashes[-1])
        if self.hashes[first - 1] != prev:
            self.fenced = True
            return None
        seq = first
        for body in bodies:
            if seq < len(self.hashes):
                if link(self.hashes[seq - 1], body) != self.hashes[seq]:
                    self.fenced = True
                    return None
            else:
                self.hashes.append(link(self.hashes[-1], body))
                self.bodies.append(body)
            seq += 1
        return ack(self.pos())


class World:
    """Terminal and centre over a network that loses, doubles and forgets."""

    def __init__(self, seed: int, core_type: type[SyncCore]) -> None:
        self.rng = Random(seed)
        self.lane = Lane()
        self.bodies: list[bytes] = []
        self.centre = Centre([self.lane.hashes[0]])
        self.core = core_type(self.lane, self, self.lane.at(0))
        self.now = 0
        self.lossy = True
        self.t1 = 0
        self.forgotten = 0  # what the terminal would prune: its acked seq, highest ever
        self.run(self.core.connected(0))

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        return self.rng.randint(low_ms, high_ms)

    def lost(self) -> bool:
        return self.lossy and self.rng.random() < 0.3

    def tell(self, message: Ack | Need | Welcome | None) -> None:
        for _ in range(1 + (self.lossy and self.rng.random() < 0.2)):
            if message is not None and not self.lost():
                self.run(self.core.received(message, self.now))

    def run(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, SendHello):
                self.t1 += 1
                self.core.hello_sent(self.t1)
                if not self.lost():
                    self.tell(welcome(self.centre.pos(), self.t1))
            elif isinstance(action, SendSegment):
                bodies = self.bodies[action.first - 1 : action.last]
                prev = self.lane.hashes[action.first - 1]
                if self.lost():
                    continue
                for _ in range(1 + (self.lossy and self.rng.random() < 0.2)):
                    self.tell(self.centre.segment(action.first, bodies, prev))
                if not self.lost():
                    self.run(self.core.puback(action.last, self.now))
        self.forgotten = max(self.forgotten, self.core.acked.seq)

    def tap(self) -> None:
        body = b"%d" % self.rng.getrandbits(64)
        self.bodies.append(body)
        self.lane.append(body)
        self.run(self.core.appended(self.now))

    def restore(self, to: int) -> None:
        """The terminal's disk is replaced by an older copy of itself."""
        del self.bodies[to:]
        del self.lane.hashes[to + 1 :]
        acked = self.lane.at(min(to, self.core.acked.seq))
        self.core = type(self.core)(self.lane, self, acked)
        self.run(self.core.connected(self.now))

    def heal(self) -> None:
        self.lossy = False
        self.run(self.core.disconnected(self.now))
        self.run(self.core.connected(self.now))
        for _ in range(60):
            self.now += 10_000
            self.run(self.core.timer(self.now))


def _play(seed: int, steps: list[int], core_type: type[SyncCore] = SyncCore) -> World:
    world = World(seed, core_type)
    for step in steps:
        world.now += step * 700
        if step < 6:
            world.tap()
        elif step < 8:
            world.run(world.core.timer(world.now))
        else:
            world.run(world.core.disconnected(world.now))
            world.run(world.core.connected(world.now))
    return world


STEPS = st.lists(st.integers(0, 8), max_size=60)


@given(st.integers(0, 2**32), STEPS)
@settings(max_examples=150, deadline=None)
def test_lossy_world_ends_equal(seed: int, steps: list[int]) -> None:
    """After heal the centre has every record once, in order, and the terminal knows it."""
    world = _play(seed, steps)
    assert world.forgotten <= len(world.centre.bodies)  # nothing forgotten before it was there
    world.heal()
    assert world.centre.bodies == world.bodies
    assert world.core.acked == world.lane.tip()


class SeqOnlyCore(SyncCore):
    """Mutant M12: an ack without a hash."""

    def _fault(self, pos: Position) -> str | None:
        return None


class PubackCore(SyncCore):
    """Mutant M11: the PUBACK acknowledges."""

    def puback(self, last: int, now_ms: int) -> list[object]:  # type: ignore[override]
        own = self._view.hash_at(last)
        assert own is not None
        self.acked = Position(self.acked.epoch, max(last, self.acked.seq), own)
        return []


def _restore_loses(core_type: type[SyncCore], seed: int) -> bool:
    """Whether a restore from backup ends silently wrong."""
    world = World(seed, core_type)
    for _ in range(20):
        world.tap()
    world.heal()
    world.restore(8)
    for _ in range(world.rng.randint(3, 14)):
        world.tap()
    world.heal()
    flagged = world.core.phase is Phase.FORKED or world.centre.fenced
    return not flagged and world.centre.bodies != world.bodies


def test_restore_is_never_silent() -> None:
    """A terminal restored from a backup is flagged, in each of 40 worlds."""
    assert not any(_restore_loses(SyncCore, seed) for seed in range(40))


def test_mutant_ack_without_hash_is_caught() -> None:
    """The same worlds with an ack by seq alone lose records silently (M12)."""
    assert any(_restore_loses(SeqOnlyCore, seed) for seed in range(40))


def _forgets_early(core_type: Callable[..., SyncCore], seed: int) -> bool:
    world = World(seed, core_type)  # type: ignore[arg-type]
    world.centre.segment = lambda *_: None  # type: ignore[method-assign]  # an amnesiac broker
    for _ in range(150):
        world.tap()
    world.now += 5_000
    world.run(world.core.timer(world.now))
    return world.forgotten > len(world.centre.bodies)


def test_mutant_puback_prunes_is_caught() -> None:
    """A core that believes PUBACK forgets what the centre never had (M11); ours does not."""
    assert any(_forgets_early(PubackCore, seed) for seed in range(10))
    assert not any(_forgets_early(SyncCore, seed) for seed in range(10))
