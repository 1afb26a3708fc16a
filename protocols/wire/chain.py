"""The hash chain of a lane: what an acknowledgement names and a fork cannot fake (ledger.md §3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from protocols.wire import cbor

_DOMAIN = b"onecard/j1"
ZERO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a lane: seq 0 means nothing yet, its hash is then h(0)."""

    epoch: int
    seq: int
    hash: bytes


NOWHERE = Position(0, 0, ZERO_HASH)  # what the first epoch of a terminal follows


def genesis(term: str, epoch: int, prev: Position) -> bytes:
    """h(0) of an epoch; `prev` is the last valid record of the epoch before (NOWHERE if none)."""
    return sha256(_DOMAIN + cbor.dumps([term, epoch, prev.epoch, prev.seq, prev.hash])).digest()


def link(before: bytes, body: bytes) -> bytes:
    """h(n) = SHA256(h(n-1) + body(n))."""
    return sha256(before + body).digest()


def chain(before: bytes, bodies: Iterable[bytes]) -> list[bytes]:
    """The hashes of consecutive records, starting behind `before`."""
    hashes = []
    for body in bodies:
        before = link(before, body)
        hashes.append(before)
    return hashes
