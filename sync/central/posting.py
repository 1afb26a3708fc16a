"""Values between rules and books: what a record posts, and the view it is judged in.

Account keys are the integers of `account`; a leg falls on `debit` and rises on `credit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from protocols.wire.record import Kind, Record


class Code(IntEnum):
    """Why a transfer exists; stored."""

    OPENING = 1
    SALE = 10
    LATE = 11
    UNKNOWN_CARD = 12
    LOSS = 13
    REVERSAL = 14
    TORN = 15
    TAC_HELD = 20
    CLEARED = 21
    DUPLICATE = 22
    DOUBT = 23
    RESOLVED = 24
    LIFTED = 25


class DoubtState(IntEnum):
    """State of a doubt; stored. 0 in `intent.decided` means the centre has not decided."""

    OPEN = 0
    COMMITTED = 1
    VOID = 2
    AGED = 3


@dataclass(frozen=True, slots=True)
class CardFacts:
    """A card of ours as posting needs it; `lost_us` is the centre's time of an open loss report."""

    card: int
    purse: int
    wallet: int
    lost_us: int | None


@dataclass(slots=True)
class OpenIntent:
    """An INTENT without result."""

    record: Record
    abandoned: bool = False
    decided: DoubtState = DoubtState.OPEN
    stored: bool = False  # has a row in `intent`
    changed: bool = False
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Sale:
    """What a CAPTURE posted, for the REVERSAL that names it. `reversed_by` counts REVERSALs.

    `receiver` got the money, or will once it is proved; `lost`: the school bore it (post-loss).
    """

    debit: int
    fen: int
    reversed_by: int
    receiver: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Leg:
    """One transfer of a record: debit falls, credit rises by `fen`."""

    leg: int
    debit: int
    credit: int
    fen: int
    code: Code


@dataclass(frozen=True, slots=True)
class Item:
    """A suspense item. `fen` is signed: what stands on `account` for it; 0 posts nothing."""

    account: int
    reason: str
    fen: int
    claim_fen: int
    target: int | None = None
    origin: int | None = None
    card: int | None = None
    ctr: int | None = None
    depends_seq: int | None = None
    intent_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """A change besides money, applied in the same transaction; `what` names the row of `absorb`."""

    what: str
    seq: int = 0
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Posting:
    """Everything one record does."""

    legs: tuple[Leg, ...] = ()
    items: tuple[Item, ...] = ()
    effects: tuple[Effect, ...] = ()


NOTHING = Posting()


@dataclass(slots=True)
class LaneView:
    """What rules may look at: the lane's open intents, the cards and sales its records name."""

    role: str
    merchant: int
    offset_us: int
    fixed: Mapping[str, int]
    cards: Mapping[bytes, CardFacts]
    sales: dict[int, Sale] = field(default_factory=dict)
    intents: dict[int, OpenIntent] = field(default_factory=dict)
    closed: list[tuple[int, OpenIntent, Effect]] = field(default_factory=list)

    def absorb(self, record: Record, posting: Posting) -> None:
        """Bring the view behind this record."""
        for effect in posting.effects:
            if effect.what == "open":
                self.intents[effect.seq] = OpenIntent(record)
            elif effect.what in ("captured", "void"):
                self.closed.append((effect.seq, self.intents.pop(effect.seq), effect))
            elif effect.what == "abandon":
                self.intents[effect.seq].abandoned = True
                self.intents[effect.seq].changed = True
            elif effect.what == "doubt":
                self.intents[effect.seq].doubted = True
            elif effect.what == "reversed":
                sale = self.sales[effect.seq]
                self.sales[effect.seq] = replace(sale, reversed_by=sale.reversed_by + 1)
        if record.kind == Kind.CAPTURE and posting.legs:
            self.sales[record.seq] = _sale_of(posting)


def _sale_of(posting: Posting) -> Sale:
    first = posting.legs[0]
    parked = [item.target for item in posting.items if item.account == first.credit]
    receiver = first.credit if not parked or parked[0] is None else parked[0]
    lost = any(leg.code is Code.LOSS for leg in posting.legs)
    return Sale(first.debit, first.fen, 0, receiver, lost)
