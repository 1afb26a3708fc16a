"""Lists on their way down: a newer head is seen; deltas that lead to it, or its parts, follow.

The daemon checks digests so that it does not store rubbish; the terminal process checks again, with
signatures, before it takes a version into use (sync.md §7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.errors import ListError
from protocols.wire.lists import PARTS_MAX, join_parts, set_at
from protocols.wire.messages import ListDelta, ListHead, ListPart

ASK_AGAIN_MS = 15_000
DELTA_GRACE_MS = 1_000  # head and deltas travel on different topics: no order between them
LISTS_MAX = 16
DELTAS_MAX = 50  # beyond that the snapshot is cheaper

Stored = tuple[list[ListPart], list[ListDelta]]


@dataclass(slots=True)
class _Pending:
    head: ListHead
    cose: bytes
    since_ms: int
    parts: dict[int, tuple[ListPart, bytes]] = field(default_factory=dict)
    asked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole version as signed: replaces what is stored."""

    name: str
    version: int
    head: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Led:
    """Deltas as signed that lead the stored version on to a head."""

    name: str
    head: bytes
    deltas: tuple[tuple[int, bytes], ...]


class ListKeeper:
    """What is known to be newer than what is stored, and what has arrived of it."""

    def __init__(self, versions: dict[str, int], stored: Callable[[str], Stored]) -> None:
        self.versions = versions
        self._stored = stored
        self._pending: dict[str, _Pending] = {}
        self._deltas: dict[str, dict[int, tuple[ListDelta, bytes]]] = {}

    def head(self, message: ListHead, cose: bytes, now_ms: int) -> Led | None:
        """A signed head; an older or equal version is ignored."""
        known = self._pending.get(message.name)
        floor = self.versions.get(message.name, 0) if known is None else known.head.version
        if message.version <= floor or (known is None and len(self._pending) >= LISTS_MAX):
            return None
        self._pending[message.name] = _Pending(message, cose, now_ms)
        return self._led(message.name)

    def delta(self, message: ListDelta, cose: bytes) -> Led | None:
        """A signed delta; the list led on once an unbroken row reaches the head."""
        if message.version <= self.versions.get(message.name, 0):
            return None
        row = self._deltas.setdefault(message.name, {})
        row[message.version] = (message, cose)
        for oldest in sorted(row)[:-DELTAS_MAX]:
            del row[oldest]
        return self._led(message.name)

    def _led(self, name: str) -> Led | None:
        waiting, have = self._pending.get(name), self.versions.get(name)
        row = self._deltas.get(name, {})
        if waiting is None or have is None:
            return None
        steps = range(have + 1, waiting.head.version + 1)
        if not all(step in row for step in steps):
            return None
        parts, older = self._stored(name)
        newer = [row[step][0] for step in steps]
        if len(older) + len(newer) > DELTAS_MAX:
            return None
        try:
            set_at(waiting.head, parts, [*older, *newer])
        except ListError:
            self._deltas.pop(name, None)
            return None
        led = Led(name, waiting.cose, tuple((step, row[step][1]) for step in steps))
        self._reached(name, waiting.head.version)
        return led

    def part(self, message: ListPart, cose: bytes) -> Snapshot | None:
        """A signed part; the whole version once the last one is here and the digest fits."""
        waiting = self._pending.get(message.name)
        if waiting is None or waiting.head.version != message.version:
            return None
        if message.index >= message.parts or message.parts > PARTS_MAX:
            return None
        waiting.parts[message.index] = (message, cose)
        ordered = [waiting.parts.get(n) for n in range(message.parts)]
        complete = [part for part in ordered if part is not None]
        if len(complete) < message.parts:
            return None
        try:
            join_parts(waiting.head, [part for part, _ in complete])
        except ListError:
            waiting.parts.clear()
            waiting.asked_ms = None
            return None
        self._reached(message.name, message.version)
        raw = tuple(part_cose for _, part_cose in complete)
        return Snapshot(message.name, message.version, waiting.cose, raw)

    def _reached(self, name: str, version: int) -> None:
        del self._pending[name]
        self._deltas.pop(name, None)
        self.versions[name] = version

    def to_ask(self, now_ms: int) -> list[tuple[str, int]]:
        """(name, version) of the lists whose parts should be asked for now."""
        due = []
        for name, waiting in self._pending.items():
            grace_ms = DELTA_GRACE_MS if name in self.versions else 0
            if waiting.asked_ms is None:
                ask = now_ms - waiting.since_ms >= grace_ms
            else:
                ask = now_ms - waiting.asked_ms >= ASK_AGAIN_MS
            if ask:
                waiting.asked_ms = now_ms
                due.append((name, waiting.head.version))
        return due

    def reconnected(self) -> None:
        """A new session: whatever was asked before is asked again."""
        for waiting in self._pending.values():
            waiting.asked_ms = None

    @property
    def waiting(self) -> bool:
        """Whether any list is incomplete."""
        return bool(self._pending)

    def ask_due_ms(self) -> int | None:
        """The next instant at which `to_ask` has something."""
        due = [
            w.since_ms + DELTA_GRACE_MS if w.asked_ms is None else w.asked_ms + ASK_AGAIN_MS
            for w in self._pending.values()
        ]
        return min(due, default=None)
