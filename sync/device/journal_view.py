"""The journal as the daemon sees it: volumes opened with query_only, short reads (ledger.md §3.1)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from firmware.base.sqlite import connect
from protocols.wire import SEGMENT_RECORDS_MAX
from protocols.wire.chain import NOWHERE, Position
from protocols.wire.record import Kind, Record
from protocols.wire.segment import cut
from terminal.ledger.volume import Head, VolumeFile, read_head, volumes

NO_BOOT = bytes(8)


class JournalReader:
    """Implements `sync.core.JournalView` over the volume files of one terminal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[VolumeFile, tuple[sqlite3.Connection, Head]] = {}
        self._files: list[VolumeFile] = []
        self._folder_mtime_ns = 0
        self._tip = NOWHERE
        self._boot = NO_BOOT

    def refresh(self) -> bool:
        """Look again; True when the tip moved. Raises JOURNAL_FAIL."""
        mtime_ns = self._folder.stat().st_mtime_ns if self._folder.exists() else 0
        if mtime_ns != self._folder_mtime_ns or not self._files:
            self._folder_mtime_ns = mtime_ns
            self._list()
        before = self._tip
        if self._files:
            self._tip = self._read_tip()
        return self._tip != before

    def tip(self) -> Position:
        """The last record of the newest epoch, as of the last `refresh`."""
        return self._tip

    def hash_at(self, seq: int) -> bytes | None:
        """h(seq) in the newest epoch, None when no volume here holds it."""
        if seq == self._tip.seq and self._files:
            return self._tip.hash
        for file in reversed(self._mine()):
            connection, head = self._opened(file)
            if seq == file.first_seq - 1:
                return head.prev_h
            if seq >= file.first_seq:
                found = connection.execute("SELECT h FROM journal WHERE seq = ?", (seq,))
                row = found.fetchone()
                return None if row is None else bytes(row[0])
        return None

    def fit(self, first: int, last: int) -> int:
        """The last seq of a segment that starts at `first`."""
        return first + max(cut(self.bodies(first, last)), 1) - 1

    def bodies(self, first: int, last: int) -> list[bytes]:
        """Record bodies first..last of the newest epoch, at most one segment's worth."""
        found: list[bytes] = []
        for file in self._mine():
            connection, _ = self._opened(file)
            rows = connection.execute(
                "SELECT body FROM journal WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?",
                (first, last, SEGMENT_RECORDS_MAX - len(found)),
            )
            found.extend(bytes(row[0]) for row in rows)
        return found

    def boot_id(self) -> bytes:
        """The 8 random bytes of the newest BOOT record; zeros before any."""
        for file in reversed(self._mine()):
            connection, _ = self._opened(file)
            row = connection.execute(
                "SELECT body FROM journal WHERE kind = ? ORDER BY seq DESC LIMIT 1", (Kind.BOOT,)
            ).fetchone()
            if row is not None:
                self._boot = Record.decode(bytes(row[0]), own_journal=True).get("boot_id")
                break
        return self._boot

    def close(self) -> None:
        """Release every file."""
        for connection, _ in self._open.values():
            connection.close()
        self._open.clear()
        self._files = []
        self._folder_mtime_ns = 0

    def _mine(self) -> list[VolumeFile]:
        return [file for file in self._files if file.epoch == self._tip.epoch]

    def _list(self) -> None:
        found = volumes(self._folder) if self._folder.exists() else []
        self._files = [file for file in found if self._is_born(file)]
        for gone in [file for file in self._open if file not in self._files]:
            self._open.pop(gone)[0].close()
        if len(self._files) < len(found):
            self._folder_mtime_ns = 0  # a volume is being born: look again

    def _is_born(self, file: VolumeFile) -> bool:
        if file in self._open:
            return True
        connection = connect(file.path, read_only=True)
        head = read_head(connection, file.path.name)
        if head is None:
            connection.close()
            return False
        self._open[file] = (connection, head)
        return True

    def _opened(self, file: VolumeFile) -> tuple[sqlite3.Connection, Head]:
        return self._open[file]

    def _read_tip(self) -> Position:
        file = self._files[-1]
        connection, head = self._opened(file)
        row = connection.execute("SELECT seq, h FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return Position(file.epoch, file.first_seq - 1, head.prev_h)
        return Position(file.epoch, row[0], bytes(row[1]))
