"""The chain of the current volume, checked again once a day in small steps (ledger.md §3.4).

Rot is found while the records are still at the centre, not at the next boot. One step reads a few
hundred rows, so that no card waits for it.
"""

from __future__ import annotations

import sqlite3

from protocols.wire.chain import Position
from terminal.ledger import volume
from terminal.ledger.recovery import checked
from terminal.ledger.store import Journal

EVERY_US = 86_400_000_000
STEP_ROWS = 500


class Patrol:
    """Walks the current volume; a volume that rolled away in between ends the walk."""

    def __init__(self, journal: Journal, now_us: int) -> None:
        self._journal = journal
        self._due_us = now_us + EVERY_US
        self._at: Position | None = None  # the last row that was found right

    def step(self, now_us: int) -> None:
        """Continue when due, on the monotonic clock. Raises JOURNAL_CHAIN, JOURNAL_FAIL."""
        if now_us < self._due_us:
            return
        head, connection = self._journal.reader()
        if self._at is None or self._at.seq < head.first_seq - 1:
            self._at = Position(head.epoch, head.first_seq - 1, head.prev_h)
        before, expected = self._at.hash, self._at.seq + 1
        try:
            for row in volume.rows(connection, expected, STEP_ROWS):
                checked(row, before, expected, "")
                before, expected = row[3], expected + 1
        except sqlite3.Error as fault:
            raise volume.broken(fault, "") from fault
        self._at = Position(head.epoch, expected - 1, before)
        if expected > self._journal.tip.seq:
            self._at, self._due_us = None, now_us + EVERY_US
