"""The reactor: order within a turn, timers, posts from threads, and no silent drop."""

import logging
import os
import signal
import threading

import pytest

from firmware.base.clock import SystemClock, Trust
from firmware.errors import QueueFullError
from firmware.reactor import QUEUE_MAX, Reactor


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_us = 0

    def mono_us(self) -> int:
        return self.now_us

    def wall_us(self) -> int:
        return self.now_us

    def trust(self) -> Trust:
        return Trust.SYNCED


def test_timers_run_by_deadline_then_insertion() -> None:
    """Due timers run by deadline, equal ones by insertion; later ones wait."""
    clock, seen = HandClock(), list[str]()
    loop = Reactor(clock)
    for name, due_ms in (("c", 20), ("a", 10), ("b", 10), ("later", 30)):
        loop.call_later(due_ms, lambda name=name: seen.append(name))  # type: ignore[misc]
    loop.turn()
    assert seen == []
    clock.now_us = 20_000
    loop.turn()
    assert seen == ["a", "b", "c"]
    assert loop.next_due_us() == 30_000


def test_a_timer_set_within_a_turn_waits_for_the_next() -> None:
    """A handler that re-arms itself for now cannot starve the turn."""
    clock, seen = HandClock(), list[int]()
    loop = Reactor(clock, deliver=lambda event: seen.append(-1))

    def again() -> None:
        seen.append(len(seen))
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.post("event")
    loop.turn()
    assert seen == [0, -1]
    loop.turn()
    assert seen == [0, -1, 2]


def test_cancelled_timer_does_not_run() -> None:
    """A cancelled timer is forgotten, in the same turn too."""
    clock, seen = HandClock(), list[str]()
    loop = Reactor(clock)
    second = loop.call_at(1, lambda: seen.append("second"))
    loop.call_at(0, lambda: loop.cancel(second))
    clock.now_us = 5
    loop.turn()
    assert seen == []
    assert loop.next_due_us() is None


def test_order_within_a_turn() -> None:
    """Timers, then descriptors, then posted events."""
    read_end, write_end = os.pipe()
    seen = list[str]()
    loop = Reactor(SystemClock(), deliver=lambda event: (seen.append(str(event)), loop.stop()))
    loop.post("event")
    loop.watch(read_end, lambda: (seen.append("file"), os.read(read_end, 9), None)[2])
    loop.call_later(0, lambda: seen.append("timer"))
    os.write(write_end, b"x")
    loop.run()
    assert seen == ["timer", "file", "event"]
    loop.unwatch(read_end)
    os.close(read_end)
    os.close(write_end)


def test_post_wakes_a_waiting_loop() -> None:
    """An event posted from another thread is delivered without waiting for a timer."""
    seen = list[object]()
    loop = Reactor(SystemClock(), deliver=lambda event: (seen.append(event), loop.stop()))
    guard = loop.call_later(20_000, loop.stop)
    sender = threading.Timer(0.05, loop.post, ("hello",))
    sender.start()
    loop.run()
    sender.join()
    assert seen == ["hello"]
    assert guard.call is not None, "the guard did not have to run"


def test_full_queue_is_a_fault() -> None:
    """256 events wait; the 257th makes the loop raise QUEUE_FULL, after delivering the 256."""
    seen = list[object]()
    loop = Reactor(HandClock(), deliver=seen.append)
    for n in range(QUEUE_MAX):
        loop.post(n)
    loop.turn()
    assert len(seen) == QUEUE_MAX
    for n in range(QUEUE_MAX + 1):
        loop.post(n)
    with pytest.raises(QueueFullError):
        loop.turn()
    assert len(seen) == 2 * QUEUE_MAX
    loop.turn()


def test_slow_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A handler above 100 ms logs loop_slow; one below does not."""
    clock = HandClock()
    loop = Reactor(clock)

    def work(us: int) -> None:
        clock.now_us += us

    loop.call_at(0, lambda: work(90_000))
    with caplog.at_level(logging.WARNING):
        loop.turn()
        assert not caplog.records
        loop.call_at(0, lambda: work(100_001))
        loop.turn()
    assert [r.message for r in caplog.records] == ["loop_slow"]


def test_a_raising_handler_ends_the_loop() -> None:
    """The reactor swallows nothing."""
    loop = Reactor(SystemClock())

    def broken() -> None:
        raise LookupError("mine")

    loop.call_later(0, broken)
    with pytest.raises(LookupError, match="mine"):
        loop.run()


def test_stop_from_a_signal_handler() -> None:
    """A signal handler may stop a waiting loop; stop before run counts too."""
    loop = Reactor(SystemClock())
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    loop.call_later(20_000, lambda: pytest.fail("the signal did not wake the loop"))
    loop.run()
    timer.join()
    signal.signal(signal.SIGUSR1, before)
    loop.run()
    loop.post("nobody listens any more")


def test_unwatched_within_the_turn_is_not_called() -> None:
    """A descriptor unwatched by an earlier handler of the same turn is left alone."""
    ends = [os.pipe() for _ in range(2)]
    seen = list[int]()
    loop = Reactor(SystemClock())

    def readable(n: int) -> None:
        seen.append(n)
        loop.unwatch(ends[1 - n][0])
        loop.stop()

    for n, (read_end, write_end) in enumerate(ends):
        loop.watch(read_end, lambda n=n: readable(n))  # type: ignore[misc]
        os.write(write_end, b"x")
    loop.run()
    assert len(seen) == 1
    for pair in ends:
        for end in pair:
            os.close(end)
