"""The lease of a reservation code: the right to spend it, at exactly one stall (codes.md §2.9).

    home stall      ABSENT --derived--> OPEN --CODE_END--> ENDED
    another stall   ABSENT --LEASE_TAKE--> OPEN            OPEN --LEASE_GIVE--> GIVEN

Zero before give: the giver's remainder is durably 0 before the grant leaves it. Every method returns
the next lease and the record that must be durable first; nothing is acted on here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from protocols.errors import LeaseError, LeaseForgedError
from protocols.wire import cbor, shape
from protocols.wire.record import Kind, own_of

GRANT_VERSION = 1


class LeaseState(Enum):
    """Where the right stands, as one stall sees it."""

    OPEN = "open"
    ENDED = "ended"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class TransferId:
    """Names a hand-over: terminal, epoch and seq of its LEASE_GIVE."""

    terminal: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """What the giver signs for the taker; amounts in fen, instants in µs UTC."""

    transfer: TransferId
    code_id: bytes
    to: str
    to_epoch: int
    remaining_fen: int
    expires_us: int

    def encode(self) -> bytes:
        """The payload that is signed."""
        t = self.transfer
        head = [GRANT_VERSION, t.terminal, t.epoch, t.seq, self.code_id]
        return cbor.dumps([*head, self.to, self.to_epoch, self.remaining_fen, self.expires_us])

    @classmethod
    def decode(cls, raw: bytes) -> LeaseGrant:
        """From a verified payload. Raises WIRE_FORM."""
        items = shape.array(cbor.loads(raw), range(9, 10), "grant")
        checks: tuple[tuple[str, shape.Check], ...] = (
            ("version", shape.uint(GRANT_VERSION)),
            ("terminal", shape.text(12)),
            ("epoch", shape.uint(shape.U32_MAX)),
            ("seq", shape.uint()),
            ("code_id", shape.raw(12)),
            ("to", shape.text(12)),
            ("to_epoch", shape.uint(shape.U32_MAX)),
            ("remaining", shape.uint(shape.U32_MAX)),
            ("expires", shape.uint()),
        )
        for n, (name, check) in enumerate(checks):
            check(items[n], name, n)
        if items[0] != GRANT_VERSION:
            raise shape.bad("version", 0)
        return cls(TransferId(*items[1:4]), *items[4:9])


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to append before anything else happens."""

    kind: Kind
    inst: bytes
    fen: int
    own: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """One code at one stall. `remaining_fen` is what may still be spent here."""

    code_id: bytes
    cap_fen: int
    remaining_fen: int
    expires_us: int
    state: LeaseState = LeaseState.OPEN
    in_session: bool = False
    given_to: str | None = None

    @classmethod
    def opened(cls, code_id: bytes, cap_fen: int, expires_us: int) -> tuple[Lease, Draft]:
        """The home stall derives the lease: CODE_OPEN activates the hold at the centre."""
        lease = cls(code_id, cap_fen, cap_fen, expires_us)
        return lease, Draft(Kind.CODE_OPEN, code_id, cap_fen)

    @classmethod
    def taken(
        cls, grant: LeaseGrant, me: str, my_epoch: int, hw_us: int, seen: frozenset[TransferId]
    ) -> tuple[Lease, Draft] | None:
        """Take over by a verified grant; None when this transfer was taken before (idempotent).

        Raises LEASE_FORGED for another stall or epoch, RESV_EXPIRED past its end.
        """
        if (grant.to, grant.to_epoch) != (me, my_epoch):
            raise LeaseForgedError(to=grant.to, to_epoch=grant.to_epoch)
        if grant.transfer in seen:
            return None
        if hw_us > grant.expires_us:
            raise LeaseError(reason="expired")
        t = grant.transfer
        own = own_of(
            Kind.LEASE_TAKE,
            transfer_id=[t.terminal, t.epoch, t.seq],
            to_epoch=my_epoch,
            expires_at=grant.expires_us,
            **{"from": t.terminal},
        )
        lease = cls(grant.code_id, grant.remaining_fen, grant.remaining_fen, grant.expires_us)
        return lease, Draft(Kind.LEASE_TAKE, grant.code_id, grant.remaining_fen, own)

    def usable(self, hw_us: int) -> bool:
        """Whether a quantum may be taken now."""
        return self.state is LeaseState.OPEN and hw_us <= self.expires_us

    def quantum(self, fen: int, hw_us: int) -> tuple[Lease, Draft]:
        """Reserve up to `fen` of the remainder for water. Raises LEASE_STATE when none is left."""
        if not self.usable(hw_us) or self.remaining_fen == 0:
            raise LeaseError(reason=self.state.value, remaining=self.remaining_fen)
        taken = min(fen, self.remaining_fen)
        rest = replace(self, remaining_fen=self.remaining_fen - taken, in_session=True)
        return rest, Draft(Kind.QUANTUM, self.code_id, taken)

    def returned(self, unused_fen: int) -> Lease:
        """After SETTLE: the unused part of the last quantum belongs to the lease again."""
        remaining = self.remaining_fen + unused_fen
        assert 0 <= remaining <= self.cap_fen, (remaining, self.cap_fen)
        return replace(self, remaining_fen=remaining, in_session=False)

    def ended(self, reason: str) -> tuple[Lease, Draft]:
        """The code is dead here; what was used is told. Raises LEASE_STATE if it is not open."""
        if self.state is not LeaseState.OPEN or self.in_session:
            raise LeaseError(reason="session" if self.in_session else self.state.value)
        own = own_of(Kind.CODE_END, reason=reason)
        draft = Draft(Kind.CODE_END, self.code_id, self.cap_fen - self.remaining_fen, own)
        return replace(self, state=LeaseState.ENDED, remaining_fen=0), draft

    def give(self, to: str, to_epoch: int) -> tuple[Lease, Draft]:
        """Zero first: LEASE_GIVE is durable and the remainder 0 before any grant is made.

        Raises LEASE_STATE: never with an open session, never twice.
        """
        if self.state is not LeaseState.OPEN or self.in_session:
            raise LeaseError(reason="session" if self.in_session else self.state.value)
        own = own_of(Kind.LEASE_GIVE, to=to, to_epoch=to_epoch)
        draft = Draft(Kind.LEASE_GIVE, self.code_id, self.remaining_fen, own)
        return replace(self, state=LeaseState.GIVEN, remaining_fen=0, given_to=to), draft
