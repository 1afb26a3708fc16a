"""The append-only journal: one prepared INSERT in autocommit, durable on return (ledger.md §3).

`append` is the only way a record comes into being. The first storage error closes the journal for
good in this process: no retry on the same handle (ledger.md §1 rule 10). A volume is forgotten
only after an acknowledgement whose signature this process verified and whose hash is our own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from firmware.base.clock import Clock, Trust
from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.wire.chain import Position
from protocols.wire.record import FLAG_CLOCK_SUSPECT, Kind, Record
from terminal.errors import JournalForkError, JournalRollbackError
from terminal.ledger import snapshot, volume
from terminal.ledger.replay import State
from terminal.ledger.volume import INSERT, Connect, Head, Row, VolumeFile

ROLL_RECORDS = 50_000
KEEP_DAYS = 30
CLOCK_SLACK_US = 2_000_000  # a slewed clock may stand this far behind the last record
_DAY_US = 86_400_000_000


class Journal:
    """One terminal's journal in one epoch: append, tip, state, acknowledgement, volumes.

    Built by terminal.ledger.recovery; `state` is what the records so far mean.
    """

    def __init__(
        self,
        folder: Path,
        term: str,
        connection: sqlite3.Connection,
        head: Head,
        tip: Position,
        state: State,
        clock: Clock,
        open_file: Connect = connect,
    ) -> None:
        self.folder = folder
        self.term = term
        self.state = state
        self.resumed_us = state.hw_us  # high-water mark before this boot
        self._clock = clock
        self._open_file = open_file
        self._epoch = tip.epoch
        self._seq = tip.seq
        self._hash = tip.hash
        self._failed: str | None = None
        self._acked = Position(tip.epoch, 0, b"")
        self._use(connection, head)

    # ---- writing

    def append(
        self,
        kind: Kind,
        *,
        ref: int | None = None,
        inst: bytes | None = None,
        ctr: int | None = None,
        fen: int = 0,
        own: tuple[Any, ...] = (),
    ) -> Record:
        """Write one record; it is durable when this returns. Raises JOURNAL_FAIL, WIRE_RECORD."""
        record = self._next(self._seq + 1, kind, ref, inst, ctr, fen, own)
        row = _row(record, self._hash)
        if self._failed is not None:
            raise JournalFailError(reason=self._failed)
        try:
            self._insert(INSERT, row)
        except sqlite3.Error as fault:
            raise self._fail(str(fault)) from fault
        self._seq = row[0]
        self._hash = row[3]
        self.state.apply(record)
        return record

    def roll(self, records: int = ROLL_RECORDS) -> bool:
        """When idle: start a new volume once this one holds `records`; True if it did.

        The new volume begins with STATE, so older volumes are not needed to run. JOURNAL_FAIL.
        """
        if self._seq - self._head.first_seq + 1 < records:
            return False
        self._demand_alive()
        parts = snapshot.pack(self.state)
        born: list[Record] = []
        rows: list[Row] = []
        tip = self._hash
        for own in parts:
            record = self._next(self._seq + 1 + len(rows), Kind.STATE, None, None, None, 0, own)
            rows.append(_row(record, tip))
            born.append(record)
            tip = rows[-1][3]
        head = Head(
            self.term, self._epoch, self._seq + 1, self._hash, created_us=self._clock.wall_us()
        )
        try:
            connection = volume.create(self.folder, head, rows, self._open_file)
        except JournalFailError as fault:
            raise self._fail(str(fault)) from fault
        self._connection.close()
        self._use(connection, head)
        self._seq, self._hash = rows[-1][0], tip
        for record in born:
            self.state.note_time(record)
        return True

    def checkpoint(self) -> None:
        """When idle: move the WAL into the file, so that a sale does not have to. JOURNAL_FAIL."""
        self._demand_alive()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as fault:
            raise self._fail(str(fault)) from fault

    def close(self) -> None:
        """Release the file; nothing can be appended afterwards."""
        self._failed = self._failed or "closed"
        self._connection.close()

    # ---- reading

    @property
    def tip(self) -> Position:
        """The last record's place and hash; seq 0 never occurs, EPOCH is record 1."""
        return Position(self._epoch, self._seq, self._hash)

    @property
    def acked(self) -> Position:
        """The newest verified acknowledgement; seq 0 before the first one of this process."""
        return self._acked

    @property
    def failed(self) -> str | None:
        """Why nothing can be appended any more, or None."""
        return self._failed

    def scan(self, from_seq: int) -> Iterator[Record]:
        """Records of the current volume from `from_seq` on, oldest first. Raises JOURNAL_FAIL."""
        try:
            for row in volume.rows(self._connection, from_seq):
                yield Record.decode(row[2], own_journal=True)
        except sqlite3.Error as fault:
            raise self._fail(str(fault)) from fault

    def hash_at(self, seq: int) -> bytes | None:
        """h(seq) of this epoch; h(0) too; None if no volume here holds it. Raises JOURNAL_FAIL."""
        if seq == self._seq:
            return self._hash
        if seq >= self._head.first_seq:
            return self._hash_here(seq)
        if seq == self._head.first_seq - 1:
            return self._head.prev_h
        holder = next((v for v in reversed(self._mine()) if v.first_seq <= seq), None)
        return None if holder is None else volume.hash_in(holder, seq)

    def reader(self) -> tuple[Head, sqlite3.Connection]:
        """The current volume's head and connection, to read rows as they are stored."""
        self._demand_alive()
        return self._head, self._connection

    # ---- the centre's word

    def note_ack(self, acked: Position) -> None:
        """Take a position whose signature the caller verified; it may move back (sync.md §5).

        Raises JOURNAL_ROLLBACK above our tip, JOURNAL_FORK for another hash; nothing changes then.
        """
        if acked.epoch != self._epoch:
            return
        if acked.seq > self._seq:
            raise JournalRollbackError(acked=acked.seq, tip=self._seq)
        own = self.hash_at(acked.seq)
        if own is not None and own != acked.hash:
            raise JournalForkError(seq=acked.seq, epoch=acked.epoch)
        if own is not None:
            self._acked = acked
            self.state.forget_until(acked.seq)

    def prune(self, keep_days: int = KEEP_DAYS) -> list[VolumeFile]:
        """Unlink what may be forgotten, oldest first; the files that went. Raises JOURNAL_FAIL."""
        gone: list[VolumeFile] = []
        mine = self._mine()
        for older, newer in pairwise(mine):
            if not self.forgettable(newer, keep_days):
                break
            volume.unlink(older)
            gone.append(older)
        if gone:
            try:
                volume.sync_folder(self.folder)
            except OSError as fault:
                raise self._fail(str(fault)) from fault
        return gone

    def forgettable(self, newer: VolumeFile, keep_days: int) -> bool:
        """Whether the volume before `newer` may go: its last record acked with our own hash."""
        if newer.first_seq - 1 > self._acked.seq:
            return False
        connection = connect(newer.path, read_only=True)
        try:
            head = volume.read_head(connection, newer.path.name)
        finally:
            connection.close()
        return head is not None and head.created_us <= self._clock.wall_us() - keep_days * _DAY_US

    # ---- inside

    def _next(
        self,
        seq: int,
        kind: Kind,
        ref: int | None,
        inst: bytes | None,
        ctr: int | None,
        fen: int,
        own: tuple[Any, ...],
    ) -> Record:
        """A record stamped now: wall time never goes back (ledger.md §3.2)."""
        wall_us = self._clock.wall_us()
        high_us = self.state.hw_us
        suspect = wall_us < high_us - CLOCK_SLACK_US or self._clock.trust() is Trust.UNTRUSTED
        return Record(
            seq,
            int(kind),
            FLAG_CLOCK_SUSPECT if suspect else 0,
            wall_us if wall_us > high_us else high_us,
            self._clock.mono_us(),
            self.state.boot_no + (kind is Kind.BOOT),
            ref,
            inst,
            ctr,
            fen,
            own,
        )

    def _hash_here(self, seq: int) -> bytes | None:
        try:
            row = self._connection.execute("SELECT h FROM journal WHERE seq = ?", (seq,)).fetchone()
        except sqlite3.Error as fault:
            raise self._fail(str(fault)) from fault
        return None if row is None else bytes(row[0])

    def _use(self, connection: sqlite3.Connection, head: Head) -> None:
        self._connection = connection
        self._insert = connection.execute
        self._head = head

    def _mine(self) -> list[VolumeFile]:
        return [v for v in volume.volumes(self.folder) if v.epoch == self._epoch]

    def _demand_alive(self) -> None:
        if self._failed is not None:
            raise JournalFailError(reason=self._failed)

    def _fail(self, reason: str) -> JournalFailError:
        self._failed = reason
        return JournalFailError(reason=reason)


def _row(record: Record, before: bytes) -> Row:
    body = record.encode()
    return record.seq, record.kind, body, sha256(before + body).digest()
