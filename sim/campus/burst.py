"""A queue of people at several tills at once, while a process is killed with SIGKILL in the middle.

Each till is a thread with its own person at the counter; the cards go round from till to till. Who
does not hear the beep of success puts the card back, as people do. What they saw goes to a Witness;
`heal` then brings every till and card to rest, and sim.campus.ledger_truth compares.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from firmware.base.rng import Rng
from sim.campus.campus import Campus, wait_until
from sim.campus.ledger_truth import Witness
from sim.campus.till import End, TillRig
from sim.card import SimCard
from sync.central.watermarks import SKEW_US

DEBIT_INS = 0x54
DEBIT_MS = 15  # EEPROM time of the debit: long enough to be killed inside
TRIES = 8
BACK_S = 30.0
SETTLE_S = 90.0
SENT_S = 240.0  # a daemon that was refused again and again dials late (sync.md §9)
KINDS = ("terminal", "daemon", "broker", "centre")


class Burst:
    """One burst of taps over some tills of a running campus."""

    def __init__(
        self, campus: Campus, tills: Sequence[str], cards: Sequence[SimCard], witness: Witness
    ) -> None:
        self._tills = [campus.tills[name] for name in tills]
        self._queue = deque(cards)
        self._witness = witness
        self._lock = threading.Lock()
        self._left = 0
        self._done = 0
        for card in cards:
            card.delays_ms = {DEBIT_INS: DEBIT_MS}

    @property
    def done(self) -> int:
        """Sales that came to an end so far."""
        return self._done

    def run(self, taps: int, disturb: Callable[[Burst], None]) -> float:
        """Sell to `taps` people, `disturb` beside it; seconds. Raises what a thread raised."""
        self._left, self._done = taps, 0
        start_s = time.monotonic()
        everywhere([*(partial(self._stand, till) for till in self._tills), partial(disturb, self)])
        return time.monotonic() - start_s

    def wait_done(self, count: int, limit_s: float = 300) -> None:
        """Return when so many sales have ended. Raises TimeoutError."""
        wait_until(lambda: self._done >= count, limit_s, lambda: f"{self._done} sales")

    def _stand(self, till: TillRig) -> None:
        """One till's queue."""
        while (card := self._next()) is not None:
            serve(till, card, self._witness)
            with self._lock:
                self._queue.append(card)
                self._done += 1

    def _next(self) -> SimCard | None:
        with self._lock:
            if self._left <= 0:
                return None
            self._left -= 1
            return self._queue.popleft()


def serve(till: TillRig, card: SimCard, witness: Witness) -> End:
    """One person at one till: puts the card back until the screen says yes or no."""
    for _ in range(TRIES):
        end = witness.saw(till.plan.name, card, till.tap(card))
        if end in (End.PAID, End.REFUSED):
            return end
        wait_until(lambda: till.terminal.alive, BACK_S, till.terminal.tail)
    raise TimeoutError(f"{till.plan.name}: never served\n{till.terminal.tail()}")


class Killer:
    """SIGKILL for one kind of process, and its return after a moment."""

    def __init__(self, campus: Campus, kind: str, till: str, kills: int, rng: Rng) -> None:
        assert kind in KINDS, kind
        self._campus = campus
        self._till = campus.tills[till]
        self._kills = kills
        self._rng = rng
        self._act: Callable[[Burst, int], None] = {
            "terminal": self._terminal,
            "daemon": self._daemon,
            "broker": self._broker,
            "centre": self._centre,
        }[kind]

    def within(self, taps: int) -> Callable[[Burst], None]:
        """The disturbance for a burst of so many taps: kills spread over its middle."""

        def disturb(burst: Burst) -> None:
            for n in range(self._kills):
                burst.wait_done(taps * (n + 1) // (self._kills + 2))
                self._act(burst, n)

        return disturb

    def _terminal(self, burst: Burst, n: int) -> None:
        """Inside a debit, and at any moment, by turns; back at once."""
        terminal = self._till.terminal
        if n % 2 == 0:
            self._wait_debit()
        else:
            time.sleep(self._rng.uniform_ms(0, 250) / 1000)
        terminal.kill()
        terminal.start()

    def _wait_debit(self) -> None:
        """Until a debit was delivered and its answer has not come."""
        assert self._till.chip is not None, self._till.plan
        field = self._till.chip.field
        until = time.monotonic() + BACK_S
        while not field.busy and time.monotonic() < until:
            time.sleep(0.001)

    def _daemon(self, burst: Burst, n: int) -> None:
        self._till.daemon.kill()
        self._pause(burst)
        self._till.daemon.start()

    def _broker(self, burst: Burst, n: int) -> None:
        """The child dies and forgets all it stored; `onecard broker` starts another."""
        kill_broker(self._campus)

    def _centre(self, burst: Burst, n: int) -> None:
        self._campus.central.kill()
        self._pause(burst)
        self._campus.central.start()

    def _pause(self, burst: Burst) -> None:
        """A moment: some more sales."""
        burst.wait_done(burst.done + 8, 5)


def kill_broker(campus: Campus) -> None:
    """SIGKILL to nats-server, and its whole store deleted before another one starts."""
    folder = campus.config.broker_folder
    pid = int((folder / "nats.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _runs(pid), 5)
    store = folder / "js"
    shutil.rmtree(store.rename(folder / f"js-gone-{pid}"))


def _runs(pid: int) -> bool:
    """Whether a process is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def heal(campus: Campus, markers: Sequence[tuple[str, SimCard]], witness: Witness) -> None:
    """Everything sent and everything in doubt settled. Raises TimeoutError with what is open.

    A doubt may wait until every till has told everything up to some seconds later (SKEW_US of the
    centre): then one sale more at each till, by `markers`.
    """
    campus.cutter.heal()
    until = time.monotonic() + SETTLE_S
    campus.wait_synced(SENT_S)
    while not _settles(campus, SKEW_US / 1_000_000):
        if time.monotonic() > until:
            raise TimeoutError(f"open: {campus.books()}")
        everywhere([partial(serve, campus.tills[name], card, witness) for name, card in markers])
        campus.wait_synced(SENT_S)


def everywhere(acts: Sequence[Callable[[], object]]) -> None:
    """Do all of it at once, each in a thread. Raises the first fault of the world or of a check."""
    faults: list[BaseException] = []

    def guarded(act: Callable[[], object]) -> None:
        try:
            act()
        except (AssertionError, TimeoutError, OSError) as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def _settles(campus: Campus, limit_s: float) -> bool:
    """Whether nothing is open any more within the time."""
    until = time.monotonic() + limit_s
    while (books := campus.books()).open_doubts or books.open_items:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
