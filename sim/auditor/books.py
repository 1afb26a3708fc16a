"""The centre's database as plain rows, and its archive taken apart without the product's codecs."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2

Items = list[Any]
Key = tuple[str, int, int]  # terminal, epoch, seq
LOSS = 13  # code of the transfer that makes a purse whole after a loss report


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, for reading."""
    connection = sqlite3.connect(path)
    try:
        yield connection
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane's cursor."""

    term: str
    epoch: int
    next_seq: int
    tip_h: bytes
    state: int
    h0: bytes


@dataclass(frozen=True, slots=True)
class Leg:
    """One transfer about a record."""

    key: Key
    debit: int
    credit: int
    fen: int
    code: int


@dataclass(slots=True)
class Books:
    """Everything an audit compares."""

    codes: dict[int, str] = field(default_factory=dict)  # account -> code
    floors: dict[int, int] = field(default_factory=dict)
    balances: dict[int, int] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)
    lanes: list[LaneRow] = field(default_factory=list)
    merchants: dict[str, int] = field(default_factory=dict)  # terminal -> account
    purses: dict[bytes, int] = field(default_factory=dict)  # ASN -> account
    wallets: dict[bytes, int] = field(default_factory=dict)
    doubts: dict[Key, tuple[int, str | None]] = field(default_factory=dict)  # state, via
    items: dict[Key, list[tuple[int, int, str]]] = field(default_factory=dict)  # account, fen
    owners: dict[tuple[bytes, int], tuple[int, int]] = field(default_factory=dict)  # before, after
    forks: set[tuple[str, int]] = field(default_factory=set)
    archive: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)  # bodies by seq - 1
    faults: list[str] = field(default_factory=list)  # of the archive itself

    def record(self, key: Key) -> Items | None:
        """An archived record."""
        bodies = self.archive.get(key[:2], [])
        if not 1 <= key[2] <= len(bodies):
            return None
        items: Items = cbor2.loads(bodies[key[2] - 1])
        return items


def read(path: Path) -> Books:
    """The books as they stand."""
    books = Books()
    with opened(path) as connection:
        terms = dict(connection.execute("SELECT id, code FROM terminal"))
        for row in connection.execute("SELECT id, code, floor_fen, guarded FROM account"):
            books.codes[row[0]] = row[1]
            if row[3]:
                books.floors[row[0]] = row[2] or 0
        books.balances = dict(connection.execute("SELECT account, fen FROM balance"))
        books.merchants = {
            code: account
            for code, account in connection.execute("SELECT code, merchant FROM terminal")
        }
        for asn, purse, wallet in connection.execute("SELECT asn, purse, wallet FROM card"):
            books.purses[bytes(asn)], books.wallets[bytes(asn)] = purse, wallet
        for t, e, s, debit, credit, fen, code in connection.execute(
            "SELECT terminal, epoch, seq, debit, credit, fen, code FROM transfer"
        ):
            books.legs.append(Leg((terms.get(t, ""), e, s), debit, credit, fen, code))
        _claims(connection, terms, books)
        _lanes(connection, terms, books)
    return books


def _claims(connection: sqlite3.Connection, terms: dict[int, str], books: Books) -> None:
    for t, e, s, state, via in connection.execute(
        "SELECT terminal, epoch, seq, state, via FROM doubt"
    ):
        books.doubts[terms[t], e, s] = (state, via)
    for t, e, s, account, fen, reason in connection.execute(
        "SELECT terminal, epoch, seq, account, fen, reason FROM suspense_item WHERE state = 0"
    ):
        books.items.setdefault((terms[t], e, s), []).append((account, fen, reason))
    for asn, ctr, before, after in connection.execute(
        "SELECT c.asn, s.ctr, s.before_fen, s.after_fen FROM card_seen s"
        " JOIN card c ON c.id = s.card WHERE s.class = 0"
    ):
        books.owners[bytes(asn), ctr] = (before, after)
    books.forks = {(terms[t], e) for t, e in connection.execute("SELECT terminal, epoch FROM fork")}


def _lanes(connection: sqlite3.Connection, terms: dict[int, str], books: Books) -> None:
    for t, e, next_seq, tip, state, h0 in connection.execute(
        "SELECT terminal, epoch, next_seq, tip_h, state, h0 FROM lane ORDER BY terminal, epoch"
    ):
        lane = LaneRow(terms[t], e, next_seq, bytes(tip), state, bytes(h0))
        books.lanes.append(lane)
        cut = connection.execute(
            "SELECT cose, first_seq, n FROM segment WHERE terminal = ? AND epoch = ?"
            " ORDER BY first_seq",
            (t, e),
        )
        bodies: list[bytes] = []
        head = lane.h0
        for cose, first, count in cut:
            part = _bodies(bytes(cose), first, count)
            if first != len(bodies) + 1:
                books.faults.append(f"{lane.term} epoch {e}: archive jumps to seq {first}")
            for body in part:
                head = sha256(head + body).digest()
            bodies += part
        books.archive[lane.term, e] = bodies
        if len(bodies) != next_seq - 1:
            books.faults.append(
                f"{lane.term} epoch {e}: {len(bodies)} archived, cursor at {next_seq}"
            )
        elif bodies and head != lane.tip_h:
            books.faults.append(f"{lane.term} epoch {e}: head of the archive is not the lane's")


def _bodies(cose: bytes, first: int, count: int) -> list[bytes]:
    """The posted records of a signed segment."""
    payload = cbor2.loads(cbor2.loads(cose).value[2])
    bodies: list[bytes] = payload[9]
    start = first - int(payload[5])
    return bodies[start : start + count]


def purse_moves(books: Books) -> dict[Key, dict[int, int]]:
    """Per INTENT: net change of every account that its records moved, loss reports left out."""
    found: dict[Key, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for leg in books.legs:
        if not leg.key[0] or leg.code == LOSS:
            continue
        key = _intent_of(books, leg.key)
        found[key][leg.debit] -= leg.fen
        found[key][leg.credit] += leg.fen
    return found


def _intent_of(books: Books, key: Key) -> Key:
    """The INTENT a transfer is about: itself, its CAPTURE's, or its REVERSAL's sale's."""
    items = books.record(key)
    for _ in range(3):
        if items is None or items[1] == 10 or items[6] is None:
            break
        key = (key[0], key[1], int(items[6]))
        items = books.record(key)
    return key
