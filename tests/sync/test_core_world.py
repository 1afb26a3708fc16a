"""The sync core in a lossy, doubling, amnesiac world against the simplest centre that is right."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire.chain import Position, link
from protocols.wire.messages import Ack, Need, Welcome
from sim.memory_lane import TERM, Lane, ack, welcome
from sync.core import Phase, SendHello, SendSegment, SyncCore


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
