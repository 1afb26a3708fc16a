"""What the centre said about this terminal, verified in this process (sync.md §5, §11).

The daemon stores acknowledgements, grants and halts as received; it knows every hash, so its word
alone proves nothing: only a signature of a pinned key lets the terminal forget, stop or go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from protocols.errors import FrameError
from protocols.wire.chain import Position, genesis
from protocols.wire.cose import KeyRing
from protocols.wire.messages import Ack, Grant, Halt, Message, Welcome
from terminal.inbox import Inbox

M = TypeVar("M", bound=Message)
NAMES = ("ack", "welcome", "halt", "grant")


@dataclass(frozen=True, slots=True)
class Word:
    """The newest verified messages. `contact_us`: centre time of the newest of them."""

    acked: Position | None = None
    contact_us: int = 0
    halt: Halt | None = None
    grant: Grant | None = None
    problems: tuple[str, ...] = ()


class CentreWord:
    """Reads and verifies; an unchanged message is not verified twice."""

    def __init__(self, term: str, ring: KeyRing) -> None:
        self._term = term
        self._ring = ring
        self._known: dict[str, tuple[bytes, Message | None, str | None]] = {}

    def take(self, inbox: Inbox) -> Word:
        """The verified word as of now; what does not verify is named in `problems`."""
        ack = self._read(inbox, "ack", Ack)
        welcome = self._read(inbox, "welcome", Welcome)
        acked, contact_us = _newest(ack, welcome)
        return Word(
            acked=acked,
            contact_us=contact_us,
            halt=self._read(inbox, "halt", Halt),
            grant=self._read(inbox, "grant", Grant),
            problems=tuple(
                f"{name}:{self._known[name][2]}"
                for name in NAMES
                if name in self._known and self._known[name][2] is not None
            ),
        )

    def grant_of(self, raw: bytes) -> Grant:
        """A grant from its envelope. Raises WIRE_SIG, WIRE_FORM."""
        return self.opened(raw, Grant)

    def _read(self, inbox: Inbox, name: str, kind: type[M]) -> M | None:
        raw = inbox.kept(name)
        if raw is None:
            self._known.pop(name, None)
            return None
        known = self._known.get(name)
        if known is None or known[0] != raw:
            try:
                known = (raw, self.opened(raw, kind), None)
            except FrameError as fault:
                known = (raw, None, fault.code)
            self._known[name] = known
        message = known[1]
        return message if isinstance(message, kind) else None

    def opened(self, raw: bytes, kind: type[M]) -> M:
        """Any message to this terminal from its envelope. Raises WIRE_SIG, WIRE_FORM, FRAME_BAD."""
        message = kind.decode(self._ring.open(raw))
        if getattr(message, "term", self._term) != self._term:
            raise FrameError(field="term", offset=2, clause="sync.md 2")
        _CHECKS.get(kind, _nothing)(message)
        return message


def _nothing(message: Message) -> None:
    """Most messages hold no more than their form."""


def _check_grant(message: Message) -> None:
    assert isinstance(message, Grant), message
    if genesis(message.term, message.epoch, message.prev) != message.h0 or message.epoch < 1:
        raise FrameError(field="h0", offset=6, clause="ledger.md 3.2")


_CHECKS: dict[type[Message], Callable[[Message], None]] = {Grant: _check_grant}


def _newest(ack: Ack | None, welcome: Welcome | None) -> tuple[Position | None, int]:
    """The position said last: an acknowledgement may move back after a restore of the centre."""
    found: list[tuple[int, int, Position | None]] = [(0, -1, None)]
    if ack is not None:
        found.append((ack.at_us, 1, Position(ack.epoch, ack.seq, ack.hash)))
    if welcome is not None:
        found.append((welcome.t3_us, 0, welcome.pos))
    at_us, _, position = max(found, key=lambda item: item[:2])
    return position, at_us
