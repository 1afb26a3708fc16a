"""What came from the centre, taken into use by the loop and by nothing else (sync.md §7, §11).

Acknowledgements, halts, grants and lists are verified by terminal.acks and terminal.lists; here
they become facts of this terminal: POLICY before a list counts, forgetting only what is proved.
"""

from __future__ import annotations

from firmware.base.clock import Clock
from protocols.wire.record import Kind, own_of
from terminal.acks import CentreWord, Word
from terminal.commands import CommandDesk
from terminal.errors import JournalForkError, JournalRollbackError
from terminal.inbox import Inbox
from terminal.ledger.store import Journal
from terminal.lists import ListDesk
from terminal.policy.offline import Silence

CLOCK_AHEAD_US = 14 * 86_400_000_000  # codes.md §2.8: HELD up to hw + 14 d


class News:
    """The centre's word and lists as they stand in this process."""

    def __init__(
        self,
        inbox: Inbox,
        word: CentreWord,
        desk: ListDesk,
        journal: Journal,
        clock: Clock,
        granted_us: int,
    ) -> None:
        self._inbox = inbox
        self._word = word
        self.desk = desk
        self._journal = journal
        self._clock = clock
        self.stop: str | None = None  # money stops here until the centre grants a new epoch
        self.new_epoch = False  # a verified grant waits: the process starts again
        self._polled = False
        self._commands = CommandDesk(word, journal, clock)
        self.silence = Silence(granted_us, self._sane_wall_us(), clock.mono_us() // 1_000)

    def obey(self) -> None:
        """Carry out waiting commands; only while no card is being served. Raises JOURNAL_FAIL."""
        self._commands.carry_out()

    def poll(self) -> bool:
        """Take what changed; True if anything did. Raises JOURNAL_FAIL."""
        if not self._inbox.changed():
            return False
        self._commands.take(self._inbox)
        self._take_word(self._word.take(self._inbox))
        self._polled = True
        for offer in self.desk.offer(self._inbox, self._journal.state.versions):
            if self._journal.state.versions.get(offer.name) != offer.version:
                own = own_of(Kind.POLICY, list=offer.name, version=offer.version)
                self._journal.append(Kind.POLICY, own=own)
            self.desk.accept(offer)
        return True

    def _take_word(self, word: Word) -> None:
        epoch = self._journal.tip.epoch
        at_boot_us = None if self._polled else self._sane_wall_us()
        self.silence.heard(word.contact_us, at_boot_us, self._clock.mono_us() // 1_000)
        if word.acked is not None:
            try:
                self._journal.note_ack(word.acked)
            except (JournalForkError, JournalRollbackError) as fault:
                self.stop = fault.code
        if word.halt is not None and word.halt.epoch == epoch:
            self.stop = self.stop or "HALTED"
        if word.grant is not None and word.grant.epoch > epoch:
            self.new_epoch = True

    def _sane_wall_us(self) -> int:
        """Wall time for ageing at boot; a clock far ahead of the journal is not believed."""
        high_us, wall_us = self._journal.resumed_us, self._clock.wall_us()
        return wall_us if wall_us <= high_us + CLOCK_AHEAD_US else high_us
