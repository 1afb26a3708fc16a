"""Lists on their way down: a newer head is seen, its parts are asked for, both are stored together.

The daemon checks digests so that it does not store rubbish; the terminal process checks again, with
signatures, before it takes a version into use (sync.md §7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.errors import ListError
from protocols.wire.lists import PARTS_MAX, join_parts
from protocols.wire.messages import ListHead, ListPart

ASK_AGAIN_MS = 15_000
LISTS_MAX = 16


@dataclass(slots=True)
class _Pending:
    head: ListHead
    cose: bytes
    parts: dict[int, tuple[ListPart, bytes]] = field(default_factory=dict)
    asked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """A whole version as signed: ready to be stored."""

    name: str
    version: int
    head: bytes
    parts: tuple[bytes, ...]


class ListKeeper:
    """What is known to be newer than what is stored, and the parts received so far."""

    def __init__(self, versions: dict[str, int]) -> None:
        self.versions = versions
        self._pending: dict[str, _Pending] = {}

    def head(self, message: ListHead, cose: bytes) -> None:
        """A signed head; an older or equal version is ignored."""
        if message.version <= self.versions.get(message.name, 0):
            return
        known = self._pending.get(message.name)
        if known is not None and known.head.version >= message.version:
            return
        if known is None and len(self._pending) >= LISTS_MAX:
            return
        self._pending[message.name] = _Pending(message, cose)

    def part(self, message: ListPart, cose: bytes) -> Complete | None:
        """A signed part; the whole version once the last one is here and the digest fits."""
        waiting = self._pending.get(message.name)
        if waiting is None or waiting.head.version != message.version:
            return None
        if message.index >= message.parts or message.parts > PARTS_MAX:
            return None
        waiting.parts[message.index] = (message, cose)
        if len(waiting.parts) < message.parts:
            return None
        ordered = [waiting.parts.get(n) for n in range(message.parts)]
        complete = [part for part in ordered if part is not None]
        try:
            join_parts(waiting.head, [part for part, _ in complete])
        except ListError:
            waiting.parts.clear()
            waiting.asked_ms = None
            return None
        del self._pending[message.name]
        self.versions[message.name] = message.version
        return Complete(
            message.name, message.version, waiting.cose, tuple(raw for _, raw in complete)
        )

    def to_ask(self, now_ms: int) -> list[tuple[str, int]]:
        """(name, version) of the lists whose parts should be asked for now."""
        due = []
        for name, waiting in self._pending.items():
            if waiting.asked_ms is None or now_ms - waiting.asked_ms >= ASK_AGAIN_MS:
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
