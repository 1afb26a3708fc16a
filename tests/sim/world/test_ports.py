"""The ports of the world: heap, chance, clock. Their order and their bytes are what a seed means."""

from __future__ import annotations

from firmware.base.clock import Trust
from protocols.wire.cose import KeyRing, sign1
from sim.world.chance import Chance
from sim.world.clock import WORLD_BEGINS_US, NodeClock
from sim.world.heap import SECOND_US, Heap


def quiet(t_us: int, node: str, what: bytes) -> None:
    """Nobody listens."""


def test_equal_instants_come_in_the_order_they_were_asked_for() -> None:
    """n breaks ties; an instant already past means now."""
    heap, came = Heap(quiet), []
    heap.at(5, "a", b"", lambda: came.append("first"))
    heap.at(5, "b", b"", lambda: came.append("second"))
    heap.at(3, "c", b"", lambda: heap.at(1, "c", b"", lambda: came.append("late")))
    heap.run(10, lambda: False)
    assert came == ["late", "first", "second"]
    assert heap.now_us == 10


def test_a_stopped_world_delivers_no_further_event() -> None:
    """A planted run ends at its first violation."""
    heap, came = Heap(quiet), []
    for n in range(3):
        heap.at(n, "a", b"", lambda n=n: came.append(n))  # type: ignore[misc]
    heap.run(10, lambda: len(came) == 2)
    assert came == [0, 1]
    assert heap.now_us == 1


def test_a_draw_shifts_no_other_stream() -> None:
    """One stream per node and purpose."""
    one, other = Chance(7), Chance(7)
    one.stream("T001", "tear").below(100)
    assert one.stream("T001", "net").token(8) == other.stream("T001", "net").token(8)
    assert Chance(8).stream("T001", "net").token(8) != Chance(7).stream("T001", "net").token(8)


def test_keys_and_signatures_follow_from_the_seed() -> None:
    """The digest needs equal bytes: derived key, deterministic k."""
    one, other = Chance(7).signer("T001"), Chance(7).signer("T001")
    assert sign1(b"x", one) == sign1(b"x", other)
    assert KeyRing([one.spki]).open(sign1(b"x", one)) == b"x"


def test_shuffling_keeps_everything() -> None:
    """Another order, the same messages."""
    stream = Chance(1).stream("a", "b")
    assert sorted(stream.shuffled(range(50))) == list(range(50))


def test_a_clock_drifts_jumps_and_is_set_right() -> None:
    """Wall time may lie by years; monotonic time only drifts, and starts again at a boot."""
    heap = Heap(quiet)
    clock = NodeClock(heap, drift_ppm=100)
    heap.run(1_000 * SECOND_US, lambda: False)
    assert clock.mono_us() == 1_000_100_000
    assert clock.at_mono_us(clock.mono_us()) >= heap.now_us
    clock.jump(-3_600 * SECOND_US)
    assert clock.wall_us() == WORLD_BEGINS_US + 1_000_100_000 - 3_600 * SECOND_US
    clock.corrected()
    clock.booted()
    assert (clock.mono_us(), clock.trust()) == (0, Trust.HELD)
    assert clock.wall_us() == WORLD_BEGINS_US + 1_000_100_000
