"""Which debits a card really made, from the counters it showed (card.md §6.3, ledger.md §8).

Pure. A card's offline counter rises by one with each debit, so between two proved debits every
counter value belongs to exactly one record. `Stretch` is such a gap: what was on the chip before
and after, and the records (doubts, sales without a valid TAC) that claim a counter inside it. An
assignment is a choice of one claimant for every counter whose amounts lead exactly from the balance
before to the balance after; `settle` rules only what holds in every possible assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product

from protocols.card.files import PurseRecord

ASSIGNMENTS_MAX = 4_096
Key = tuple[int, int, int]  # terminal, epoch, seq of the INTENT


@dataclass(frozen=True, slots=True)
class Shown:
    """A debit as the card's own record 0018 names it."""

    fen: int
    type: int
    tid: bytes
    date: bytes
    time: bytes


@dataclass(frozen=True, slots=True)
class Claimant:
    """A record that says: the counter value `ctr` of this card was my debit."""

    key: Key
    ctr: int
    fen: int
    before_fen: int | None
    shown: Shown | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Counters `first`..`last` between two proved positions of a chip."""

    first: int
    last: int
    before_fen: int
    after_fen: int
    prev: Shown | None  # the debit with counter `last`, as the next terminal read it


class Ruling(Enum):
    """What is now known of a claimant."""

    COMMITTED = "committed"
    VOID = "void"
    TORN = "torn"  # one of several: the money left the chip, whose sale it was is open


def settle(stretch: Stretch, claimants: Sequence[Claimant]) -> dict[Key, Ruling]:
    """Rulings for the claimants inside a stretch; those not named stay open."""
    choices: list[list[Claimant]] = []
    for ctr in range(stretch.first, stretch.last + 1):
        here = [one for one in claimants if one.ctr == ctr]
        if ctr == stretch.last and stretch.prev is not None:
            here = [one for one in here if one.shown == stretch.prev]
        choices.append(here)
    foreign = _foreign(stretch, claimants)
    fitting = _fitting(stretch, choices)
    if not fitting:
        return dict.fromkeys(foreign, Ruling.VOID)
    inside = [one for one in claimants if stretch.first <= one.ctr <= stretch.last]
    rulings: dict[Key, Ruling] = {}
    for one in inside:
        count = sum(one in assignment for assignment in fitting)
        if count == len(fitting):
            rulings[one.key] = Ruling.COMMITTED
        else:
            rulings[one.key] = Ruling.TORN if count else Ruling.VOID
    return rulings


def _foreign(stretch: Stretch, claimants: Sequence[Claimant]) -> list[Key]:
    """Those at the last counter that the card's own record contradicts."""
    if stretch.prev is None:
        return []
    return [one.key for one in claimants if one.ctr == stretch.last and one.shown != stretch.prev]


def _fitting(stretch: Stretch, choices: list[list[Claimant]]) -> list[tuple[Claimant, ...]]:
    size = 1
    for here in choices:
        size *= len(here)
    if not 0 < size <= ASSIGNMENTS_MAX:
        return []
    return [chosen for chosen in product(*choices) if _leads(stretch, chosen)]


def _leads(stretch: Stretch, chosen: tuple[Claimant, ...]) -> bool:
    balance_fen = stretch.before_fen
    for one in chosen:
        if one.before_fen is not None and one.before_fen != balance_fen:
            return False
        balance_fen -= one.fen
    return balance_fen == stretch.after_fen


def shown_of(record: PurseRecord) -> Shown | None:
    """A 0018 record as a debit; None for loads and unused slots."""
    if not record.offline:
        return None
    return Shown(record.fen, record.type, record.tid, record.date, record.time)
