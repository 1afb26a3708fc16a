"""Commissioning proof: the board shuts by itself, and a renewal extends (terminals.md §8.2).

Flash 1.0 s, renew at 0.5 s: open at 1.2 s, shut by 1.7 s. `DeadmanProof` is pure: events and
`now_ms` in, the times of the two opens out. A board that fails stays out of service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from firmware.base.clock import Clock
from firmware.errors import DeadmanUnprovedError
from firmware.ports import BusEvent, BusLost, Flow
from firmware.reactor import Reactor

FLASH_MS = 1_000
POLL_MS = 50
LIMIT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Open:
    """A flash-on of FLASH_MS at this time after the first one."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Look:
    """The first sample of this time must come before `until_ms` and show the valve so."""

    step: str
    at_ms: int
    until_ms: int
    open: bool


SCRIPT: tuple[Open | Look, ...] = (
    Look("shut_before", 0, LIMIT_MS, open=False),
    Open(0),
    Look("open", 300, 500, open=True),
    Open(500),
    Look("extend", 1_200, 1_450, open=True),
    Look("expire", 1_700, 1_950, open=False),
)


class DeadmanProof:
    """Walks the script; `failed` names the step that did not hold, `over` says that it is done."""

    def __init__(self, now_ms: int) -> None:
        self._zero_ms = now_ms  # of the first open, once it was asked
        self._next = 0
        self.failed: str | None = None

    @property
    def over(self) -> bool:
        """Proved or failed."""
        return self.failed is not None or self._next == len(SCRIPT)

    def next_due(self) -> int | None:
        """When to call `to_open` next, or None."""
        step = None if self.over else SCRIPT[self._next]
        if step is None:
            return None
        at_ms = step.at_ms if isinstance(step, Open) else step.until_ms
        return self._zero_ms + at_ms

    def to_open(self, now_ms: int) -> int | None:
        """The ms to open for now, or None; a sample that did not come in time fails here."""
        step = None if self.over else SCRIPT[self._next]
        if isinstance(step, Look) and now_ms >= self._zero_ms + step.until_ms:
            self.failed = step.step
        if not isinstance(step, Open):
            return None
        if step.at_ms == 0:
            self._zero_ms = now_ms
        if now_ms < self._zero_ms + step.at_ms:
            return None
        self._next += 1
        return FLASH_MS

    def on_event(self, event: BusEvent) -> None:
        """Judge a sample; a lost bus proves nothing."""
        step = None if self.over else SCRIPT[self._next]
        if isinstance(event, BusLost) and step is not None:
            self.failed = "bus"
        if not isinstance(event, Flow) or not isinstance(step, Look):
            return
        at_ms = event.at_ms - self._zero_ms
        if at_ms < step.at_ms:
            return
        shows = (event.open_fb, event.shut_fb) == (step.open, not step.open)
        if shows and at_ms < step.until_ms:
            self._next += 1
        else:
            self.failed = step.step


class ProofBus(Protocol):
    """What the proof needs of a relay bus driver."""

    def start(self, reactor: Reactor, post: Callable[[BusEvent], None]) -> None:
        """Live on the reactor."""

    def stop(self) -> bool:
        """Shut and close."""

    def open_for(self, ms: int) -> None:
        """Water."""

    def poll_every(self, ms: int) -> None:
        """Pace."""


def prove_deadman(bus: ProofBus, clock: Clock) -> None:
    """Run the proof on a board (about 2 s of water). Raises DEADMAN_UNPROVED with its step."""
    proof = DeadmanProof(clock.mono_us() // 1000)
    reactor = Reactor(clock)

    def turn() -> None:
        ms = proof.to_open(clock.mono_us() // 1000)
        if ms is not None:
            bus.open_for(ms)
        due_ms = proof.next_due()
        if due_ms is None:
            reactor.stop()
        else:
            reactor.call_at(due_ms * 1000, turn)

    def hear(event: object) -> None:
        assert isinstance(event, BusEvent), event
        proof.on_event(event)
        turn()

    reactor.deliver_to(hear)
    bus.poll_every(POLL_MS)
    bus.start(reactor, reactor.post)
    turn()
    try:
        reactor.run()
    finally:
        bus.stop()
    if proof.failed is not None:
        raise DeadmanUnprovedError(step=proof.failed)
