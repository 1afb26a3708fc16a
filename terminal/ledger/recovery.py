"""Boot: from files to a journal that may be written, or a typed error (ledger.md §3.4).

`open_journal` verifies the newest volume from its STATE, checks it against the newest verified
acknowledgement and grant, starts a granted new epoch, then appends BOOT and what a restart must
say: DOUBT{restart} for every INTENT without outcome, CMD_DONE{unknown} for every open command.
A file that fails is left untouched as evidence; only a grant of a new epoch leads on from it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from firmware.base.clock import Clock
from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.errors import RecordError
from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.messages import Grant
from protocols.wire.record import Kind, Record, own_of
from terminal.errors import (
    JournalChainError,
    JournalEpochError,
    JournalForkError,
    JournalRollbackError,
)
from terminal.ledger import snapshot, volume
from terminal.ledger.replay import State
from terminal.ledger.store import CLOCK_SLACK_US, Journal
from terminal.ledger.volume import Connect, Head, Row, VolumeFile

CLOCK_SUSPECT = "CLOCK_SUSPECT"


@dataclass(frozen=True, slots=True)
class Found:
    """A verified volume: where it ends and what it says."""

    head: Head
    tip: Position
    state: State
    seqs: int


def open_journal(
    folder: Path,
    grant: Grant,
    clock: Clock,
    boot_id: bytes,
    *,
    acked: Position | None = None,
    versions: Sequence[str] = (),
    before_boot: Callable[[Journal], None] | None = None,
    open_file: Connect = connect,
) -> Journal:
    """The journal of the granted epoch, ready to append. `grant` and `acked` must be verified.

    `before_boot` sees the journal as the last process left it: to judge the clock by it.

    Raises JOURNAL_CHAIN, JOURNAL_EPOCH, JOURNAL_FAIL, JOURNAL_FORK, JOURNAL_ROLLBACK,
    JOURNAL_VERSION; then nothing was written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        newest = _newest(folder, open_file)
    except OSError as fault:
        raise JournalFailError(path=folder.name, reason=str(fault)) from fault
    if newest is not None and newest.epoch > grant.epoch:
        raise JournalEpochError(epoch=newest.epoch, granted=grant.epoch)
    if newest is None or newest.epoch < grant.epoch:
        journal = begin_epoch(folder, grant, clock, open_file)
    else:
        journal = _resume(folder, newest, grant, clock, open_file)
        if acked is not None:
            _check_ack(journal, acked)
    journal.resumed_us = journal.state.hw_us
    if before_boot is not None:
        before_boot(journal)
    append_boot(journal, clock, boot_id, versions)
    return journal


def begin_epoch(folder: Path, grant: Grant, clock: Clock, open_file: Connect = connect) -> Journal:
    """A new chain from h(0) with EPOCH as record 1 and no rights carried over. JOURNAL_FAIL."""
    h0 = genesis(grant.term, grant.epoch, grant.prev)
    assert h0 == grant.h0, ("a grant is verified before it gets here", grant.epoch)
    now_us = max(clock.wall_us(), grant.hw0_us)
    own = own_of(
        Kind.EPOCH,
        epoch=grant.epoch,
        prev_epoch=grant.prev.epoch,
        prev_seq=grant.prev.seq,
        prev_h=grant.prev.hash,
        hw0=grant.hw0_us,
    )
    record = Record(1, int(Kind.EPOCH), 0, now_us, clock.mono_us(), 0, own=own)
    body = record.encode()
    tip = Position(grant.epoch, 1, sha256(h0 + body).digest())
    head = Head(grant.term, grant.epoch, 1, h0, created_us=now_us)
    rows = [(1, record.kind, body, tip.hash)]
    connection = volume.create(folder, head, rows, open_file)
    state = State()
    state.apply(record)
    return Journal(folder, grant.term, connection, head, tip, state, clock, open_file)


def append_boot(journal: Journal, clock: Clock, boot_id: bytes, versions: Sequence[str]) -> None:
    """BOOT, then what a restart says about everything it cut off (§3.4 steps 3-4, 7)."""
    state = journal.state
    late = clock.wall_us() < state.hw_us - CLOCK_SLACK_US
    findings = [CLOCK_SUSPECT] if late else []
    own = own_of(Kind.BOOT, boot_id=boot_id, versions=list(versions), findings=findings)
    journal.append(Kind.BOOT, own=own)
    for intent in list(state.intents.values()):
        if intent.doubt is None:
            journal.append(
                Kind.DOUBT,
                ref=intent.seq,
                inst=intent.asn,
                ctr=intent.ctr,
                fen=intent.fen,
                own=own_of(Kind.DOUBT, reason="restart"),
            )
    for seq in list(state.commands):
        journal.append(Kind.CMD_DONE, ref=seq, own=own_of(Kind.CMD_DONE, result="unknown"))


def verify_volume(
    connection: sqlite3.Connection,
    name: str,
    see: Callable[[Record], None] | None = None,
) -> Found | None:
    """Quick check, chain, seq and kind of a whole volume; None for an unborn file.

    Raises JOURNAL_CHAIN, JOURNAL_VERSION, JOURNAL_FAIL.
    """
    head = volume.read_head(connection, name)
    if head is None:
        return None
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise JournalChainError(volume=name, reason=str(verdict))
        return _replayed(connection, head, name, see)
    except volume.READ_FAULTS as fault:
        raise volume.broken(fault, name) from fault


def _replayed(
    connection: sqlite3.Connection,
    head: Head,
    name: str,
    see: Callable[[Record], None] | None,
) -> Found:
    state = State()
    pieces: list[bytes] = []
    before, expected = head.prev_h, head.first_seq
    for row in volume.rows(connection):
        record = checked(row, before, expected, name)
        before, expected = row[3], expected + 1
        if see is not None:
            see(record)
        if record.kind != Kind.STATE:
            state.apply(record)
            continue
        pieces.append(record.get("state"))
        if len(pieces) == record.get("parts"):
            state = snapshot.unpack(pieces)
        state.note_time(record)
    if expected == head.first_seq:
        raise JournalChainError(volume=name, seq=expected, reason="empty")
    return Found(head, Position(head.epoch, expected - 1, before), state, expected - head.first_seq)


def checked(row: Row, before: bytes, expected: int, name: str) -> Record:
    """The record of a row that continues the chain behind `before`. Raises JOURNAL_CHAIN."""
    seq, kind, body, h = row
    if seq != expected or sha256(before + body).digest() != h:
        raise JournalChainError(volume=name, seq=expected, reason="chain")
    try:
        record = Record.decode(body, own_journal=True)
    except RecordError as fault:
        raise JournalChainError(volume=name, seq=seq, reason="record") from fault
    if record.seq != seq or record.kind != kind:
        raise JournalChainError(volume=name, seq=seq, reason="body")
    return record


def _newest(folder: Path, open_file: Connect) -> VolumeFile | None:
    """The newest volume that was ever born; an unborn one holds nothing and is removed."""
    for file in reversed(volume.volumes(folder)):
        connection = volume.open_volume(file.path, open_file)
        try:
            born = volume.read_head(connection, file.path.name) is not None
        finally:
            connection.close()
        if born:
            return file
        volume.unlink(file)
    return None


def _resume(
    folder: Path, file: VolumeFile, grant: Grant, clock: Clock, open_file: Connect
) -> Journal:
    connection = volume.open_volume(file.path, open_file)
    try:
        found = verify_volume(connection, file.path.name)
        assert found is not None, ("born a moment ago", file.path.name)
        _check_owner(found.head, file, grant)
    except (JournalChainError, JournalFailError):
        connection.close()
        raise
    return Journal(
        folder, grant.term, connection, found.head, found.tip, found.state, clock, open_file
    )


def _check_owner(head: Head, file: VolumeFile, grant: Grant) -> None:
    """The volume is this terminal's, of this epoch, and begins where its name says."""
    if (head.terminal, head.epoch, head.first_seq) != (grant.term, file.epoch, file.first_seq):
        raise JournalChainError(volume=file.path.name, reason="owner", terminal=head.terminal)
    if head.first_seq == 1 and head.prev_h != grant.h0:
        raise JournalChainError(volume=file.path.name, reason="h0")


def _check_ack(journal: Journal, acked: Position) -> None:
    """The centre's word against our chain; nothing is appended before it holds."""
    if acked == NOWHERE:
        return
    try:
        journal.note_ack(acked)
    except (JournalForkError, JournalRollbackError, JournalFailError):
        journal.close()
        raise
