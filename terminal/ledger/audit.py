"""Invariants J1-J5 of a journal folder, each as one line with what breaks it (ledger.md §11).

Reads the volumes like a stranger: raw rows, the strict decoder, its own account of what may follow
what. Used by `onecard audit --journal PATH`; never imported by a running terminal's loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.errors import OnecardError, RecordError
from protocols.wire.record import Kind, Record
from terminal.errors import JournalChainError
from terminal.ledger import volume
from terminal.ledger.volume import Head, Row, VolumeFile

NAMES = {
    "J1": "sequence numbers are gapless",
    "J2": "the hash chain recomputes",
    "J3": "seq and kind repeat the body",
    "J4": "kinds are legal in order",
    "J5": "sessions balance",
}
PROBLEMS_MAX = 20
_ONCE = frozenset({Kind.CAPTURE, Kind.VOID, Kind.DOUBT_DONE})
_NEEDS_INTENT = _ONCE | {Kind.DOUBT, Kind.DOUBT_UP, Kind.ABANDON}


@dataclass(slots=True)
class Check:
    """One invariant over the whole journal; `problems` names keys and amounts."""

    id: str
    name: str
    checked: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.problems

    def blame(self, text: str) -> None:
        """Note a violation; beyond PROBLEMS_MAX they are only counted as one more."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


def audit_journal(folder: Path) -> list[Check]:
    """J1-J5 over every volume of the folder. Raises JOURNAL_FAIL if it cannot be read at all."""
    if not folder.is_dir():
        raise JournalFailError(path=str(folder), reason="no such folder")
    auditor = _Auditor()
    for file in volume.volumes(folder):
        auditor.volume(file)
    return list(auditor.checks.values())


def demand_clean(folder: Path) -> None:
    """Raises JOURNAL_CHAIN naming the first violation."""
    for check in audit_journal(folder):
        if not check.ok:
            raise JournalChainError(invariant=check.id, reason=check.problems[0])


class _Auditor:
    """Walks volumes oldest first and carries what crosses their borders."""

    def __init__(self) -> None:
        self.checks = {key: Check(key, name) for key, name in NAMES.items()}
        self._epoch = 0
        self._seq = 0
        self._hash = b""
        self._intents: dict[int, str] = {}  # seq -> how it ended, "" while open
        self._captures: dict[int, bool] = {}  # seq -> reversed

    def volume(self, file: VolumeFile) -> None:
        """One volume, connected to the one before where there is one."""
        try:
            connection = connect(file.path, read_only=True)
        except (JournalFailError, UnicodeDecodeError) as fault:
            self.checks["J2"].blame(f"{file.path.name}: {fault}")
            return
        try:
            head = volume.read_head(connection, file.path.name)
            if head is not None:
                self._enter(file, head)
                for row in self._rows(connection, file):
                    self._row(file, row)
                if self._seq < head.first_seq:
                    self.checks["J1"].blame(f"{file.path.name}: no records")
        except (OnecardError, *volume.READ_FAULTS) as fault:
            self.checks["J2"].blame(f"{file.path.name}: {fault}")
        finally:
            connection.close()

    def _rows(self, connection: sqlite3.Connection, file: VolumeFile) -> Iterator[Row]:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            self.checks["J2"].blame(f"{file.path.name}: {verdict}")
        yield from volume.rows(connection)

    def _enter(self, file: VolumeFile, head: Head) -> None:
        if head.epoch != self._epoch:
            self._intents.clear()
            self._captures.clear()
            self._epoch, self._seq, self._hash = head.epoch, head.first_seq - 1, head.prev_h
        if head.first_seq != self._seq + 1:
            self.checks["J1"].blame(
                f"{file.path.name}: begins at {head.first_seq}, expected {self._seq + 1}"
            )
        if head.prev_h != self._hash:
            self.checks["J2"].blame(f"{file.path.name}: does not continue the volume before")
        self._seq, self._hash = head.first_seq - 1, head.prev_h
        self._partial = head.first_seq > 1 and not self._intents

    def _row(self, file: VolumeFile, row: Row) -> None:
        seq, kind, body, h = row
        for check in self.checks.values():
            check.checked += 1
        where = f"{file.path.name} seq {seq}"
        if seq != self._seq + 1:
            self.checks["J1"].blame(f"{where}: expected {self._seq + 1}")
        if sha256(self._hash + body).digest() != h:
            self.checks["J2"].blame(f"{where}: hash differs")
        self._seq, self._hash = seq, h
        try:
            record = Record.decode(body)
        except RecordError as fault:
            self.checks["J3"].blame(f"{where}: {fault}")
            return
        if (record.seq, record.kind) != (seq, kind):
            self.checks["J3"].blame(f"{where}: body says seq {record.seq} kind {record.kind}")
        self._order(record, where)

    def _order(self, record: Record, where: str) -> None:
        """J4: what may follow what; an INTENT of a pruned volume is not held against a record."""
        order = self.checks["J4"]
        if record.seq == 1 and record.kind != Kind.EPOCH:
            order.blame(f"{where}: an epoch begins with EPOCH")
        if record.kind == Kind.INTENT:
            self._intents[record.seq] = ""
        elif record.kind in _NEEDS_INTENT:
            self._outcome(record, where)
        elif record.kind == Kind.REVERSAL:
            self._reversal(record, where)

    def _outcome(self, record: Record, where: str) -> None:
        order = self.checks["J4"]
        known = self._intents.get(record.ref or 0)
        name = Kind(record.kind).name
        if known is None:
            if not self._partial:
                order.blame(f"{where}: {name} without INTENT {record.ref}")
            return
        if record.kind in _ONCE and known:
            order.blame(f"{where}: {name} after {known} of INTENT {record.ref}")
        if record.kind == Kind.ABANDON and known == Kind.CAPTURE.name:
            order.blame(f"{where}: ABANDON after CAPTURE of INTENT {record.ref}")
        if record.kind in _ONCE:
            self._intents[record.ref or 0] = name
        if record.kind == Kind.CAPTURE:
            self._captures[record.seq] = False

    def _reversal(self, record: Record, where: str) -> None:
        order = self.checks["J4"]
        known = self._captures.get(record.ref or 0)
        if known is None and not self._partial:
            order.blame(f"{where}: REVERSAL without CAPTURE {record.ref}")
        if known:
            order.blame(f"{where}: second REVERSAL of CAPTURE {record.ref}, {record.fen} fen")
        if record.ref in self._captures:
            self._captures[record.ref or 0] = True
