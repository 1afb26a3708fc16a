"""What really happened, kept outside the product, and the invariants that can be seen at once.

Chips are read directly; a beep is heard by a person; a record is what the disk was told. Records are
taken apart here by position, without the product's own tables, so that a mistake there shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cbor2

from sim.card import SimCard
from sim.card_memory import Moved
from sim.world.disk import Row

POLICY, ALARM, INTENT, CAPTURE, VOID, DOUBT, DOUBT_DONE = 4, 7, 10, 11, 12, 13, 15
SEQ, KIND, REF, INST, CTR, FEN, OWN = 0, 1, 6, 7, 8, 9, 10
PURSE_BEFORE, TID, TERMSEQ, PREV = OWN + 3, OWN + 5, OWN + 6, OWN + 12
VIA = OWN + 3
RECORD_ONLY_FEN_MAX = 3_000
VIOLATIONS_MAX = 50

Items = list[Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant of faults.md §2, with keys and amounts."""

    invariant: str
    text: str
    at_us: int


@dataclass(slots=True)
class Holder:
    """A card in somebody's hand and what the world knows of it."""

    asn: bytes
    card: SimCard
    opening_fen: int
    busy: bool = False
    relayed: bool = False  # an attacker stands between this card and the terminals
    lost_version: int | None = None  # `cards` version since which it is blocked
    lifted_version: int | None = None


@dataclass(slots=True)
class Given:
    """Goods that went over a counter: who got them, where, worth what, and on what ground."""

    term: str
    asn: bytes
    fen: int
    how: str  # beep, asked (已出餐? yes)
    epoch: int
    intent: int
    returned: bool = False  # the sale was voided at the till


@dataclass(slots=True)
class Lane:
    """One epoch of one terminal as its own disk tells it."""

    intents: dict[int, Items] = field(default_factory=dict)
    captures: dict[int, Items] = field(default_factory=dict)  # by seq of the INTENT
    doubts: set[int] = field(default_factory=set)
    settled: dict[int, int] = field(default_factory=dict)  # INTENT -> record that ended it
    lists: list[tuple[int, int]] = field(default_factory=list)  # POLICY of cards: seq, version
    newest: Items | None = None  # INTENT
    last: Items | None = None
    fakes: set[bytes] = field(default_factory=set)  # ASNs served here on a record alone


class Truth:
    """The log of the world; `now` is the virtual instant."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.holders: dict[bytes, Holder] = {}
        self.lanes: dict[tuple[str, int], Lane] = {}
        self.given: list[Given] = []
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        self._now = now

    def count(self, what: str, by: int = 1) -> None:
        """Something countable happened."""
        self.counts[what] = self.counts.get(what, 0) + by

    def broken(self, invariant: str, text: str) -> None:
        """An invariant does not hold."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(invariant, text, self._now()))

    def lane(self, term: str, epoch: int) -> Lane:
        """A lane, made when first named."""
        return self.lanes.setdefault((term, epoch), Lane())

    # ---- the disk

    def recorded(self, term: str, epoch: int, row: Row, now: bool) -> None:
        """A record became durable: look at it. Not `now`: its commit was only learnt of later."""
        items: Items = cbor2.loads(row[2])
        lane = self.lane(term, epoch)
        if items[KIND] == INTENT:
            lane.intents[items[SEQ]] = lane.newest = items
            if now:
                self._intent(term, lane, items)
        elif items[KIND] == CAPTURE:
            lane.captures[items[REF]] = items
            lane.settled[items[REF]] = items[SEQ]
            self._capture(term, lane, items)
        elif items[KIND] in (VOID, DOUBT_DONE):
            lane.settled[items[REF]] = items[SEQ]
        elif items[KIND] == DOUBT:
            lane.doubts.add(items[REF])
        elif items[KIND] == POLICY and items[OWN] == "cards":
            lane.lists.append((items[SEQ], items[OWN + 1]))
        lane.last = items

    def _intent(self, term: str, lane: Lane, items: Items) -> None:
        holder = self.holders.get(items[INST])
        if holder is None:
            self.broken("I4", f"{term} seq {items[SEQ]}: INTENT of a card that does not exist")
            return
        since, until = holder.lost_version, holder.lifted_version
        version = lane.lists[-1][1] if lane.lists else 0
        if since is not None and since <= version and (until is None or version < until):
            where = f"{term} seq {items[SEQ]}: card {holder.asn.hex()} {items[FEN]} fen"
            self.broken("I5", f"{where}: INTENT under list cards {version}, blocked since {since}")
        if holder.relayed:
            return
        purse = holder.card.purse
        newest = purse.ring[0] if purse.ring else None
        if items[PREV] != newest:
            text = f"{term} seq {items[SEQ]}: card {holder.asn.hex()} ctr {items[CTR]}"
            self.broken("I4", f"{text}: the debit before this one is not carried as evidence")
        if (items[CTR], items[PURSE_BEFORE]) != (purse.offline, purse.balance):
            self.broken("I4", f"{term} seq {items[SEQ]}: counter or balance not the chip's")

    def _capture(self, term: str, lane: Lane, items: Items) -> None:
        if self.movement(lane, items[REF]) is not None:
            return
        holder = self.holders.get(items[INST])
        if items[VIA] == "record" and holder is not None and holder.relayed:
            return  # made up by an attacker: for the books only, judged at the beep and at the end
        asn = items[INST].hex() if items[INST] else "-"
        where = f"{term} seq {items[SEQ]}: card {asn} ctr {items[CTR]} {items[FEN]} fen"
        self.broken("I4", f"{where}: CAPTURE via {items[VIA]} of a debit that no chip made")

    def movement(self, lane: Lane, intent: int) -> Moved | None:
        """The chip's own movement behind an INTENT, None where the chip made none."""
        items = lane.intents.get(intent)
        holder = None if items is None else self.holders.get(items[INST])
        if items is None or holder is None:
            return None
        wanted = (items[FEN], bytes(items[TID]), items[TERMSEQ])
        for moved in reversed(holder.card.history):
            if (moved.fen, moved.tid, moved.termseq) == wanted:
                return moved
        return None

    # ---- the card and the counter

    def debited(self, term: str, epoch: int, asn: bytes) -> None:
        """A DEBIT reaches a card: its INTENT must be durable already."""
        lane = self.lane(term, epoch)
        newest = lane.newest
        if newest is None or newest[INST] != asn or newest[SEQ] in lane.settled:
            self.broken("I4", f"{term}: DEBIT at card {asn.hex()} before its INTENT was durable")

    def beeped(self, term: str, epoch: int, asn: bytes, fen: int) -> None:
        """成功 was shown and heard: goods go over the counter."""
        lane = self.lane(term, epoch)
        last = lane.last
        if last is None or last[KIND] != CAPTURE or (last[INST], last[FEN]) != (asn, fen):
            text = f"{term}: card {asn.hex()} {fen} fen announced before its CAPTURE was durable"
            self.broken("I2", text)
            return
        self.given.append(Given(term, asn, fen, "beep", epoch, last[REF]))
        self.count("paid")
        if self.movement(lane, last[REF]) is None:
            self._unpaid(term, lane, asn, fen)

    def _unpaid(self, term: str, lane: Lane, asn: bytes, fen: int) -> None:
        """Served on a record alone, and the chip did not pay: bounded (card.md §6.2)."""
        self.count("record_only")
        if asn in lane.fakes or fen > RECORD_ONLY_FEN_MAX:
            text = f"{term}: card {asn.hex()} {fen} fen served on a made-up record"
            self.broken("I4", f"{text}: more than {RECORD_ONLY_FEN_MAX} fen once per terminal")
        lane.fakes.add(asn)

    def said_served(self, term: str, epoch: int, asn: bytes, fen: int, intent: int) -> None:
        """The cashier answered 已出餐? with yes."""
        self.given.append(Given(term, asn, fen, "asked", epoch, intent))
        self.count("asked_served")

    def returned(self, term: str, epoch: int, asn: bytes) -> None:
        """The last sale of this card at this till was voided: the goods came back."""
        for given in reversed(self.given):
            if (given.term, given.epoch, given.asn) == (term, epoch, asn) and not given.returned:
                given.returned = True
                return

    def restored(self, term: str, lengths: dict[int, int]) -> None:
        """An old copy of a disk came back: what the terminal knows ends there."""
        for (name, epoch), lane in self.lanes.items():
            if name != term:
                continue
            length = lengths.get(epoch, 0)
            lane.intents = {seq: one for seq, one in lane.intents.items() if seq <= length}
            lane.captures = {ref: one for ref, one in lane.captures.items() if one[SEQ] <= length}
            lane.settled = {ref: seq for ref, seq in lane.settled.items() if seq <= length}
            lane.lists = [one for one in lane.lists if one[0] <= length]
            lane.last = lane.newest = None
            lane.fakes.clear()  # the old copy knows of no sale on a record alone: its bound starts anew

    def doubts(self) -> tuple[int, int]:
        """(intents that were ever in doubt, those of them that a terminal has settled)."""
        asked = sum(len(lane.doubts) for lane in self.lanes.values())
        return asked, sum(len(lane.doubts & lane.settled.keys()) for lane in self.lanes.values())
