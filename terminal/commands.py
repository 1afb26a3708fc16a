"""Commands of the centre: CMD before the effect, CMD_DONE after it, once per id (sync.md §7).

The one kind so far tells what became of a doubt that this terminal handed up. A command that was cut
off by a restart is answered `unknown` at boot and is not carried out again.
"""

from __future__ import annotations

from typing import Any

from firmware.base.clock import Clock
from protocols.errors import FrameError
from protocols.wire.messages import Cmd
from protocols.wire.record import Kind, own_of
from terminal.acks import CentreWord
from terminal.inbox import Inbox
from terminal.ledger.store import Journal

DOUBT_DONE = 1  # body: [epoch, seq of the INTENT, decision, via]
DECISIONS = {1: "committed", 2: "void", 3: "aged"}
OK, EXPIRED, UNKNOWN_KIND, FORM, SETTLED = (
    "ok",
    "CMD_EXPIRED",
    "CMD_UNKNOWN",
    "CMD_FORM",
    "CMD_SETTLED",
)


class CommandDesk:
    """Verified commands that wait for a quiet moment."""

    def __init__(self, word: CentreWord, journal: Journal, clock: Clock) -> None:
        self._word = word
        self._journal = journal
        self._clock = clock
        self._waiting: dict[bytes, Cmd] = {}

    def take(self, inbox: Inbox) -> None:
        """Note commands that are new here and that a pinned key signed."""
        seen = self._journal.state.seen_commands
        for name, raw in inbox.commands():
            if name in seen or name in self._waiting:
                continue
            try:
                command = self._word.opened(raw, Cmd)
            except FrameError:
                continue  # not the centre's: no record of this terminal names it
            if command.id not in seen:
                self._waiting[command.id] = command

    def carry_out(self) -> None:
        """Everything that may be done now, each between its two records. Raises JOURNAL_FAIL."""
        for command in list(self._waiting.values()):
            if self._must_wait(command):
                continue
            del self._waiting[command.id]
            own = own_of(Kind.CMD, command_id=command.id, command_kind=command.kind)
            record = self._journal.append(Kind.CMD, own=own)
            result = self._effect(command)
            done = own_of(Kind.CMD_DONE, result=result)
            self._journal.append(Kind.CMD_DONE, ref=record.seq, own=done)

    def _must_wait(self, command: Cmd) -> bool:
        """A sale that still stands in front of the cashier is the cashier's first."""
        body = command.body
        held = self._journal.state.hold
        return command.kind == DOUBT_DONE and held is not None and held in _numbers(body)

    def _effect(self, command: Cmd) -> str:
        if self._clock.wall_us() > command.deadline_us:
            return EXPIRED
        if command.kind != DOUBT_DONE:
            return UNKNOWN_KIND
        return self._close_doubt(command.body)

    def _close_doubt(self, body: Any) -> str:
        """DOUBT_DONE for an intent that is still open here; its money is settled at the centre."""
        if len(_numbers(body)) != 3 or len(body) != 4 or type(body[3]) is not str:
            return FORM
        epoch, intent, decision, via = body
        known = DECISIONS.get(decision)
        if known is None:
            return FORM
        if epoch != self._journal.tip.epoch or intent not in self._journal.state.intents:
            return SETTLED
        own = own_of(Kind.DOUBT_DONE, decision=known, via=via)
        self._journal.append(Kind.DOUBT_DONE, ref=intent, own=own)
        return OK


def _numbers(body: Any) -> list[int]:
    """The leading integers of a command's body; none for a body of another form."""
    if type(body) is not list:
        return []
    return [item for item in body[:3] if type(item) is int]
