"""One thread, one loop: timers, descriptors, posted events, in that order within a turn.

The shape follows Klipper's reactor without its greenlets. A handler that raises ends the loop:
the owner's fault path decides, never the reactor. With a virtual clock and `turn()` alone the
same class drives the simulator (terminals.md §3).
"""

from __future__ import annotations

import heapq
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable

from firmware.base.clock import Clock
from firmware.base.log import event as log_event
from firmware.errors import QueueFullError

logger = logging.getLogger(__name__)

QUEUE_MAX = 256  # overflow is the fault QUEUE_FULL, raised in the loop's thread
SLOW_US = 100_000
IDLE_US = 60_000_000


class Timer:
    """A call due at `due_us` on the monotonic clock; cancel it through the reactor."""

    __slots__ = ("call", "due_us")

    def __init__(self, due_us: int, call: Callable[[], None]) -> None:
        self.due_us = due_us
        self.call: Callable[[], None] | None = call


class Reactor:
    """Timers on a heap, readable descriptors, and events posted from other threads."""

    def __init__(self, clock: Clock, deliver: Callable[[object], None] | None = None) -> None:
        self._clock = clock
        self._deliver = deliver
        self._timers: list[tuple[int, int, Timer]] = []
        self._inserted = 0
        self._posted: deque[object] = deque()
        self._lock = threading.RLock()  # a signal handler may call stop inside post
        self._overflow = False
        self._stopping = False
        self._selector: selectors.BaseSelector | None = None
        self._wake: tuple[int, int] | None = None
        self._files: dict[int, Callable[[], None]] = {}

    def deliver_to(self, deliver: Callable[[object], None]) -> None:
        """Name the one receiver of posted events."""
        self._deliver = deliver

    # timers

    def call_at(self, due_us: int, call: Callable[[], None]) -> Timer:
        """Call once when the monotonic clock reaches due_us; never within the current turn."""
        timer = Timer(due_us, call)
        self._inserted += 1
        heapq.heappush(self._timers, (due_us, self._inserted, timer))
        return timer

    def call_later(self, delay_ms: int, call: Callable[[], None]) -> Timer:
        """Call once after delay_ms."""
        return self.call_at(self._clock.mono_us() + delay_ms * 1000, call)

    def cancel(self, timer: Timer) -> None:
        """Forget a timer; one that ran or was cancelled already is left alone."""
        timer.call = None

    def next_due_us(self) -> int | None:
        """When the earliest live timer is due, or None."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    # descriptors

    def watch(self, descriptor: int, call: Callable[[], None]) -> None:
        """Call whenever the descriptor is readable."""
        assert descriptor not in self._files, ("watched already", descriptor)
        self._files[descriptor] = call
        if self._selector is not None:
            self._selector.register(descriptor, selectors.EVENT_READ, call)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; call before the descriptor is closed."""
        del self._files[descriptor]
        if self._selector is not None:
            self._selector.unregister(descriptor)

    # events

    def post(self, event: object) -> None:
        """Hand an event to the loop; the only call allowed from other threads.

        The 257th waiting event is kept out and makes the loop raise QUEUE_FULL.
        """
        with self._lock:
            if len(self._posted) >= QUEUE_MAX:
                self._overflow = True
            else:
                self._posted.append(event)
        self._poke()

    # the loop

    def run(self) -> None:
        """Turn until `stop`. Raises QUEUE_FULL and whatever a handler raises."""
        self._open()
        try:
            while not self._stopping:
                self._turn_waiting()
        finally:
            self._close()

    def stop(self) -> None:
        """Leave `run` after the current turn, for good; for any thread or signal handler."""
        self._stopping = True
        self._poke()

    def turn(self) -> None:
        """One turn without waiting: due timers by (deadline, insertion), descriptors, events."""
        self._run_timers()
        if self._selector is not None:
            self._run_files(0.0)
        self._run_events()

    def _turn_waiting(self) -> None:
        self._run_timers()
        self._run_files(self._wait_s())
        self._run_events()

    def _wait_s(self) -> float:
        if self._posted or self._overflow or self._stopping:
            return 0.0
        due_us = self.next_due_us()
        left_us = IDLE_US if due_us is None else due_us - self._clock.mono_us()
        return max(min(left_us, IDLE_US), 0) / 1_000_000

    def _run_timers(self) -> None:
        now_us = self._clock.mono_us()
        newest = self._inserted
        late: list[tuple[int, int, Timer]] = []
        while self._timers and self._timers[0][0] <= now_us:
            entry = heapq.heappop(self._timers)
            if entry[1] > newest:
                late.append(entry)  # set by a handler of this turn
                continue
            call, entry[2].call = entry[2].call, None
            if call is not None:
                self._timed(call)
        for entry in late:
            heapq.heappush(self._timers, entry)

    def _run_files(self, wait_s: float) -> None:
        assert self._selector is not None, "descriptors are polled between open and close"
        for found, _ in self._selector.select(wait_s):
            if found.data is None:
                self._drain_wake()
            elif found.fd in self._files:  # an earlier handler of this turn may have unwatched it
                self._timed(found.data)

    def _run_events(self) -> None:
        with self._lock:
            waiting, overflow = list(self._posted), self._overflow
            self._posted.clear()
            self._overflow = False
        for event in waiting:
            assert self._deliver is not None, ("no receiver for", event)
            deliver = self._deliver
            self._timed(lambda event=event, deliver=deliver: deliver(event))  # type: ignore[misc]
        if overflow:
            raise QueueFullError(limit=QUEUE_MAX)

    def _timed(self, call: Callable[[], None]) -> None:
        start_us = self._clock.mono_us()
        call()
        took_us = self._clock.mono_us() - start_us
        if took_us > SLOW_US:
            log_event(logger, logging.WARNING, "loop_slow", took_ms=took_us // 1000)

    def _open(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        for descriptor, call in self._files.items():
            self._selector.register(descriptor, selectors.EVENT_READ, call)

    def _close(self) -> None:
        assert self._selector is not None, "open came first"
        self._selector.close()
        self._selector = None
        with self._lock:  # no thread may write to a pipe end that is being closed
            wake, self._wake = self._wake, None
            for end in wake or ():
                os.close(end)

    def _poke(self) -> None:
        with self._lock:
            if self._wake is not None:
                try:
                    os.write(self._wake[1], b"\0")
                except BlockingIOError:
                    return  # full pipe: the loop is awake already

    def _drain_wake(self) -> None:
        assert self._wake is not None, "woken between open and close"
        try:
            while os.read(self._wake[0], 4096):
                pass
        except BlockingIOError:
            return
