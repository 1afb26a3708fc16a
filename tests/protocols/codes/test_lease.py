"""The lease: one stall at a time, zero before give; exhaustively over three stalls and any crash."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from protocols.codes.lease import Lease, LeaseGrant, LeaseState, TransferId
from protocols.errors import LeaseError, LeaseForgedError, WireFormError
from protocols.wire.record import Kind, Record

CODE = bytes(12)
NAMES = ("S001", "S002", "S003")
CREDIT = 2
END_US = 100


def test_draft_records_encode() -> None:
    """Every draft is a record of its kind."""
    lease, opened = Lease.opened(CODE, 300, END_US)
    lease, quantum = lease.quantum(20, 0)
    lease = lease.returned(5)
    _, given = lease.give("S002", 1)
    _, ended = lease.ended("user_end")
    for draft in (opened, quantum, given, ended):
        Record(9, draft.kind, 0, 1, 1, 1, 1, draft.inst, None, draft.fen, draft.own).encode()
    assert (given.fen, ended.fen) == (285, 15)


def test_quantum_never_exceeds_the_remainder() -> None:
    """The last quantum is what is left; then none, and none after the end."""
    lease, _ = Lease.opened(CODE, 25, END_US)
    lease, first = lease.quantum(20, 0)
    lease, second = lease.quantum(20, 0)
    assert (first.fen, second.fen) == (20, 5)
    with pytest.raises(LeaseError):
        lease.quantum(1, 0)
    fresh, _ = Lease.opened(CODE, 25, END_US)
    with pytest.raises(LeaseError):
        fresh.quantum(1, END_US + 1)


def test_never_given_in_a_session_nor_twice() -> None:
    """RESV_BUSY while water may run; after GIVEN there is nothing to give."""
    lease, _ = Lease.opened(CODE, 25, END_US)
    busy, _ = lease.quantum(20, 0)
    for refused in (busy.give, busy.returned(0).give("S002", 1)[0].give):
        with pytest.raises(LeaseError):
            refused("S003", 1)
    with pytest.raises(LeaseError):
        busy.ended("x")


GRANT = LeaseGrant(TransferId("S001", 1, 7), CODE, "S002", 4, 15, END_US)


def test_grant_round_trip_and_guards() -> None:
    """Taken once, at the right stall, in the right epoch, before its end."""
    assert LeaseGrant.decode(GRANT.encode()) == GRANT
    for n in range(len(GRANT.encode())):
        with pytest.raises(WireFormError):
            LeaseGrant.decode(GRANT.encode()[:n])
    taken = Lease.taken(GRANT, "S002", 4, 0, frozenset())
    assert taken is not None
    assert (taken[0].remaining_fen, taken[1].kind) == (15, Kind.LEASE_TAKE)
    assert Lease.taken(GRANT, "S002", 4, 0, frozenset({GRANT.transfer})) is None
    for me, epoch in (("S003", 4), ("S002", 5)):
        with pytest.raises(LeaseForgedError):
            Lease.taken(GRANT, me, epoch, 0, frozenset())
    with pytest.raises(LeaseError):
        Lease.taken(GRANT, "S002", 4, END_US + 1, frozenset())


# --- exhaustive search: three stalls, lossy and doubling links, a crash at every durable write ----


@dataclass(frozen=True)
class World:
    """Durable state of three stalls, grants that may arrive (any time, any number of times)."""

    leases: tuple[Lease | None, ...] = (None, None, None)
    taken: frozenset[TransferId] = frozenset()
    grants: frozenset[LeaseGrant] = frozenset()
    spent: int = 0
    serial: int = 0


Give = Callable[[World, int, int], Iterator[World]]


def _with(world: World, at: int, lease: Lease) -> World:
    leases = tuple(lease if n == at else old for n, old in enumerate(world.leases))
    return replace(world, leases=leases)


def _grant(world: World, at: int, to: int, fen: int) -> LeaseGrant:
    transfer = TransferId(NAMES[at], 1, world.serial)
    return LeaseGrant(transfer, CODE, NAMES[to], 1, fen, END_US)


def zero_before_give(world: World, at: int, to: int) -> Iterator[World]:
    """The product's order: LEASE_GIVE durable, then the grant; a crash between loses the grant."""
    lease = world.leases[at]
    assert lease is not None
    gone, draft = lease.give(NAMES[to], 1)
    written = replace(_with(world, at, gone), serial=world.serial + 1)
    yield written  # crash here: the right is nowhere, the money waits in the hold
    yield replace(written, grants=written.grants | {_grant(world, at, to, draft.fen)})


def zero_after_grant(world: World, at: int, to: int) -> Iterator[World]:
    """Mutant M17: the grant leaves first; a crash before the write keeps the remainder."""
    lease = world.leases[at]
    assert lease is not None
    gone, draft = lease.give(NAMES[to], 1)
    sent = replace(world, serial=world.serial + 1)
    sent = replace(sent, grants=sent.grants | {_grant(world, at, to, draft.fen)})
    yield sent
    yield _with(sent, at, gone)


def _next(world: World, give: Give) -> Iterator[World]:
    if world.leases[0] is None:
        yield _with(world, 0, Lease.opened(CODE, CREDIT, END_US)[0])
    for at, lease in enumerate(world.leases):
        if lease is not None:
            yield from _at_stall(world, at, lease, give)
        for grant in world.grants:
            yield from _arrive(world, at, lease, grant)


def _at_stall(world: World, at: int, lease: Lease, give: Give) -> Iterator[World]:
    if lease.in_session:
        yield _with(world, at, lease.returned(0))  # settled, or power cut and boot
    elif lease.state is LeaseState.OPEN:
        if lease.remaining_fen:
            used = _with(world, at, lease.quantum(1, 0)[0])
            yield replace(used, spent=world.spent + 1)
            for to in range(3):
                if to != at and world.serial < 4:
                    yield from give(world, at, to)
        yield _with(world, at, lease.ended("user_end")[0])


def _arrive(world: World, at: int, lease: Lease | None, grant: LeaseGrant) -> Iterator[World]:
    busy = lease is not None and lease.state is LeaseState.OPEN
    if grant.to != NAMES[at] or busy:
        return
    taken = Lease.taken(grant, NAMES[at], 1, 0, world.taken)
    if taken is not None:
        yield replace(_with(world, at, taken[0]), taken=world.taken | {grant.transfer})


def _worst(give: Give, limit: int) -> tuple[int, int]:
    """(worst spend, states) over everything reachable; stops early above `limit`."""
    seen = {World()}
    frontier = [World()]
    worst = 0
    while frontier:
        world = frontier.pop()
        for found in _next(world, give):
            if found in seen:
                continue
            worst = max(worst, found.spent)
            if worst > limit:
                return worst, len(seen)
            seen.add(found)
            frontier.append(found)
    return worst, len(seen)


def test_spend_never_exceeds_the_credit() -> None:
    """Three stalls, four hand-overs, any loss, doubling, crash: worst spend is the credit."""
    worst, states = _worst(zero_before_give, CREDIT)
    assert worst == CREDIT
    assert states > 500


def test_mutant_zero_after_grant_is_caught() -> None:
    """Zeroing after the grant spends more than the credit (M17)."""
    assert _worst(zero_after_grant, CREDIT)[0] > CREDIT
