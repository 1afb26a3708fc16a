"""A lane in memory and what a centre would say of it: for tests of the sync core."""

from __future__ import annotations

from protocols.wire.chain import NOWHERE, Position, genesis, link
from protocols.wire.messages import Ack, Welcome

TERM = "T0001"


class Lane:
    """A journal in memory: one hash per record."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.hashes = [genesis(TERM, epoch, NOWHERE)]

    def append(self, body: bytes) -> None:
        """One record more."""
        self.hashes.append(link(self.hashes[-1], body))

    def tip(self) -> Position:
        """The last record."""
        return Position(self.epoch, len(self.hashes) - 1, self.hashes[-1])

    def hash_at(self, seq: int) -> bytes | None:
        """h(seq)."""
        return self.hashes[seq] if 0 <= seq < len(self.hashes) else None

    def at(self, seq: int) -> Position:
        """A position of this lane."""
        return Position(self.epoch, seq, self.hashes[seq])

    def fit(self, first: int, last: int) -> int:
        """Small records: everything fits."""
        return last


def welcome(pos: Position, t1: int = 5, credit: int = 4) -> Welcome:
    """The centre's answer to the hello stamped t1."""
    return Welcome(TERM, pos, t1, 1, 2, credit, 2_000, 30, {})


def ack(pos: Position, credit: int = 4) -> Ack:
    """The centre's acknowledgement of a position."""
    return Ack(TERM, pos.epoch, pos.seq, pos.hash, 1, credit)
