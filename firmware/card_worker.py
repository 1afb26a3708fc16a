"""The one thread that owns a card reader and turns its blocking port into events.

Every reader, PN532 too, runs here: the loop's thread commits the journal and must never wait for
a card (docs/decisions/readers-in-a-worker.md). The worker adds no policy: one request is one call
of the port, and no APDU is ever repeated.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from firmware.base.clock import Clock, SystemClock
from firmware.base.log import TRAFFIC, event, failure
from firmware.errors import (
    CardGoneError,
    LinkLostError,
    ReaderBusyError,
    ReaderDownError,
    ReaderError,
)
from firmware.ports import CardIn, CardOut, CardReader, Event, ReaderState, Reply, Trouble

logger = logging.getLogger(__name__)

REQUESTS_MAX = 4  # a fifth waiting request is answered READER_BUSY at once
OVERDUE_US = 1_000_000  # terminals.md §3: a worker that misses its deadline by 1 s is lost
RESET_DEADLINE_MS = 1000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long the worker waits: for a card, between presence checks, before reopening."""

    wait_ms: int = 250
    presence_ms: int = 250
    reopen_ms: int = 500


@dataclass(frozen=True, slots=True)
class _Request:
    token: int
    apdu: bytes | None  # None: cold start of the card
    deadline_ms: int


class CardWorker:
    """CardIo over a CardReader; posts CardIn, CardOut, Reply, Trouble and ReaderState."""

    def __init__(
        self,
        reader: CardReader,
        post: Callable[[Event], None],
        clock: Clock | None = None,
        *,
        renew: Callable[[], CardReader] | None = None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._reader = reader
        self._post = post
        self._clock = clock or SystemClock()
        self._renew = renew
        self._rhythm = rhythm or Rhythm()
        self._life: _Life | None = None

    def start(self) -> None:
        """Start the thread; the reader is opened there."""
        assert self._life is None, "a worker starts once"
        self._life = _Life(self._reader, self._post, self._clock, self._rhythm)
        self._life.start()

    def transmit(self, token: int, apdu: bytes, deadline_ms: int) -> None:
        """Ask for one APDU; Reply or Trouble with the token follows."""
        self._alive().ask(_Request(token, apdu, deadline_ms))

    def reset(self, token: int) -> None:
        """Ask for a cold start of the card; Reply with empty raw, or Trouble, follows."""
        self._alive().ask(_Request(token, None, RESET_DEADLINE_MS))

    def check(self) -> None:
        """Replace a thread that is stuck in its reader, or was ended by a fault of it.

        The loop calls this a few times a second. The request under way ends as LINK_LOST. Without
        `renew` the reader stays out of order.
        """
        life = self._alive()
        stuck = life.overdue(self._clock.mono_us())
        if stuck is None and not life.died():
            return
        under_way = life.abandon()
        if under_way is not None:
            self._post(Trouble(under_way, LinkLostError.code))
        self._post(ReaderState(LinkLostError.code))
        if self._renew is not None:
            self._life = _Life(self._renew(), self._post, self._clock, self._rhythm)
            self._life.start()

    def stop(self, timeout_ms: int = 3000) -> None:
        """Close the reader and end the thread."""
        if self._life is not None:
            self._life.finish(timeout_ms)

    def _alive(self) -> _Life:
        assert self._life is not None, "start the worker first"
        return self._life


class _Life:
    """One thread with one reader object; abandoned as a whole when the reader hangs."""

    def __init__(
        self, reader: CardReader, post: Callable[[Event], None], clock: Clock, rhythm: Rhythm
    ) -> None:
        self._reader = reader
        self._out = post
        self._clock = clock
        self._rhythm = rhythm
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._abandoned = False
        self._current: tuple[int, int] | None = None  # token, due on the monotonic clock
        self._card_in = False
        self._down: str | None = ""  # last ReaderState posted; "" before the first
        self._thread = threading.Thread(target=self._run, name="card-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, request: _Request) -> None:
        """Queue a request for the card that is in; one that nobody can serve ends at once.

        What was asked before a card came never reaches that card.
        """
        with self._changed:
            taken = self._card_in and len(self._requests) < REQUESTS_MAX and not self._over()
            if taken:
                self._requests.append(request)
                self._changed.notify()
        if not taken:
            code = ReaderDownError.code if self._down else ReaderBusyError.code
            self._out(Trouble(request.token, code))

    def overdue(self, now_us: int) -> int | None:
        current = self._current
        return current[0] if current is not None and now_us > current[1] + OVERDUE_US else None

    def died(self) -> bool:
        """Whether the thread ended without being told to."""
        return not self._thread.is_alive() and not self._over()

    def abandon(self) -> int | None:
        """Give this life up; the token of the request that was under way."""
        with self._changed:
            self._abandoned = True
            current, self._current = self._current, None
            waiting = list(self._requests)
            self._requests.clear()
        for request in waiting:
            self._out(Trouble(request.token, ReaderDownError.code))
        return None if current is None else current[0]

    def finish(self, timeout_ms: int) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout_ms / 1000)

    def _run(self) -> None:
        while not self._over():
            try:
                self._reader.open()
                self._state(None)
                while not self._over():
                    self._serve()
            except ReaderError as fault:
                failure(logger, "reader_lost", fault)
                self._lost(fault)
            finally:
                self._reader.close()
            self._rest()

    def _serve(self) -> None:
        """Look for a card, or serve the one that is there until it goes."""
        if not self._card_in:
            session = self._reader.wait_card(self._rhythm.wait_ms)
            if session is not None:
                with self._changed:
                    self._card_in = True
                self._post(CardIn(session.uid, session.kind))
            return
        request = self._next(self._rhythm.presence_ms)
        if request is not None:
            self._carry_out(request)
        elif not self._over() and not self._reader.present():
            self._card_left()

    def _carry_out(self, request: _Request) -> None:
        due_us = self._clock.mono_us() + request.deadline_ms * 1000
        self._current = (request.token, due_us)
        try:
            raw = self._perform(request)
        except ReaderError as fault:
            self._current = None
            self._post(Trouble(request.token, fault.code))
            if isinstance(fault, CardGoneError):
                self._card_left()
            elif isinstance(fault, LinkLostError | ReaderDownError):
                raise
            return
        self._current = None
        self._post(Reply(request.token, raw))

    def _perform(self, request: _Request) -> bytes:
        if request.apdu is None:
            self._reader.reset()
            return b""
        event(logger, TRAFFIC, "apdu_sent", token_no=request.token, apdu=request.apdu)
        raw = self._reader.transmit(request.apdu, request.deadline_ms)
        event(logger, TRAFFIC, "apdu_answered", token_no=request.token, answer=raw)
        return raw

    def _next(self, wait_ms: int) -> _Request | None:
        with self._changed:
            if not self._requests and not self._ending:
                self._changed.wait(wait_ms / 1000)
            return self._requests.popleft() if self._requests else None

    def _card_left(self) -> None:
        with self._changed:
            self._card_in = False
            waiting = list(self._requests)
            self._requests.clear()
        for request in waiting:
            self._post(Trouble(request.token, ReaderBusyError.code))
        self._post(CardOut())

    def _lost(self, fault: ReaderError) -> None:
        if self._card_in:
            self._card_left()
        self._state(fault.code)

    def _rest(self) -> None:
        """Wait before the next open."""
        with self._changed:
            self._changed.wait_for(self._over, self._rhythm.reopen_ms / 1000)

    def _state(self, code: str | None) -> None:
        if code != self._down:
            self._down = code
            self._post(ReaderState(code))

    def _post(self, happened: Event) -> None:
        """Hand an event to the loop unless this life was given up as hanging."""
        with self._changed:
            if self._abandoned:
                return
        self._out(happened)

    def _over(self) -> bool:
        return self._ending or self._abandoned
