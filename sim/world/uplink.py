"""The sync daemon of one terminal: the product's own object over files, clock and link of the world.

Nothing is polled: `turn` is called when the journal grew or the daemon's next deadline is due.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocols.wire import topics
from protocols.wire.cose import KeyRing, P256Signer
from protocols.wire.messages import Grant
from sim.world.chance import Chance
from sim.world.clock import NodeClock
from sim.world.heap import Heap
from sim.world.parts import Parts, StationReader
from sim.world.transport import Peer, SimLink, SimTransport
from sync.core import Phase
from sync.device.daemon import Daemon, Lane
from sync.device.store import SyncStore

POLL_US = 100_000  # the pace of both processes' own polls


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What enrolment left on this device, and its SAM's keys."""

    site: str
    term: str
    part: int
    signer: P256Signer
    ring: KeyRing
    grant: Grant
    tid: bytes
    mpk: bytes


class Uplink(Peer):
    """The daemon process; `heard` after every message, `pubacked` with the last seq of a segment."""

    def __init__(
        self,
        enrolled: Enrolment,
        folder: Path,
        heap: Heap,
        chance: Chance,
        transport: SimTransport,
        clock: NodeClock,
        parts: Parts,
        heard: Callable[[], None],
        pubacked: Callable[[int], None],
    ) -> None:
        self._enrolled = enrolled
        self._term = enrolled.term
        self._folder = folder
        self._heap = heap
        self._rng = chance.stream(enrolled.term, "daemon")
        self._transport = transport
        self._clock = clock
        self._parts = parts
        self._heard = heard
        self._pubacked = pubacked
        self._daemon: Daemon | None = None
        self._store: SyncStore | None = None
        self._view: StationReader | None = None
        self._turn_us: int | None = None
        self._wake = (0, 0)  # when, and which call of it counts
        filters = topics.terminal_filters(enrolled.site, self._term)
        transport.register(self._term, self, filters, keeps=False)

    # ---- life

    def start(self) -> None:
        """The process starts; it dials by itself."""
        if self._daemon is not None:
            return
        one = self._enrolled
        self._store = SyncStore(self._folder / "sync.db")
        self._view = StationReader(self._folder / "journal")
        self._daemon = Daemon(
            Lane(one.site, one.part, one.term),
            one.signer,
            one.ring,
            self._view,
            self._store,
            SimLink(self._transport, self._term),
            self._clock,
            self._rng,
            core_type=self._parts.core_type,
        )
        self._after(self._daemon)

    def drop(self) -> None:
        """The process is gone, its session with it."""
        self._transport.hang_up(self._term)
        self._wake = (0, self._wake[1] + 1)
        self._turn_us = None
        if self._daemon is not None:
            assert self._store is not None, self._term
            assert self._view is not None, self._term
            self._view.close()
            self._store.close()
        self._daemon = self._store = self._view = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._daemon is not None

    @property
    def answered(self) -> bool:
        """Whether the centre has answered its hello."""
        phases = (Phase.STREAM, Phase.FORKED)
        return self._daemon is not None and self._daemon.core.phase in phases

    # ---- sync.db

    def kept(self, name: str) -> bytes | None:
        """What lies in sync.db under a name; None while the process is down."""
        return None if self._store is None else self._store.kept(name)

    def keep(self, values: dict[str, bytes]) -> None:
        """What a hostile daemon writes there."""
        if self._store is not None:
            self._store.keep(values)
            self._heard()

    def backup(self) -> bytes | None:
        """A copy of sync.db; None while there is none to copy."""
        if self._store is None:
            return None
        copy, source = sqlite3.connect(":memory:"), sqlite3.connect(self._folder / "sync.db")
        source.backup(copy)
        source.close()
        raw = copy.serialize()
        copy.close()
        return raw

    def put_back(self, raw: bytes | None) -> None:
        """An old copy of sync.db in place of what is there."""
        for path in sorted(self._folder.glob("sync.db*")):
            path.unlink()
        if raw is not None:
            (self._folder / "sync.db").write_bytes(raw)

    # ---- events

    def turn_soon(self) -> None:
        """The journal grew."""
        if self._daemon is not None and self._turn_us is None:
            self._turn_us = self._heap.now_us + POLL_US
            self._heap.at(self._turn_us, self._term, b"turn", self._turn)

    def on_connected(self) -> None:
        """The session is up."""
        if self._daemon is not None:
            self._daemon.connected()
            self._after(self._daemon)

    def on_lost(self, *, refused: bool, reason: str) -> None:
        """The session is down."""
        if self._daemon is not None:
            self._daemon.lost(refused=refused, reason=reason)
            self._after(self._daemon)

    def on_puback(self, number: int) -> None:
        """The broker has a publication."""
        if self._daemon is not None:
            last = self._daemon._segments.get(number)
            self._daemon.puback(number)
            self._after(self._daemon)
            if last is not None:
                self._pubacked(last)

    def on_message(self, topic: str, payload: bytes, mid: int) -> None:
        """A message from the centre."""
        if self._daemon is not None:
            self._daemon.inbound(topic, payload)
            self._after(self._daemon)
            self._heard()

    def _turn(self) -> None:
        self._turn_us = None
        if self._daemon is not None:
            self._daemon.turn()
            self._after(self._daemon)

    def _after(self, daemon: Daemon) -> None:
        wake_ms = daemon.wake_ms()
        at_us = 0 if wake_ms is None else self._clock.at_mono_us(wake_ms * 1_000)
        if at_us == self._wake[0]:
            return
        self._wake = (at_us, self._wake[1] + 1)
        mine = self._wake[1]
        if at_us:
            self._heap.at(at_us, self._term, b"wake", lambda: self._woken(mine))

    def _woken(self, mine: int) -> None:
        if mine == self._wake[1]:
            self._wake = (0, mine)
            self._turn()
