"""Cards pulled at every point of a tap, at every reader, and what people do next.

A scenario is where the card leaves and how its owner goes on: back at once, to a neighbouring till
first, after somebody else was served, after the cashier gave up, and torn again while the till finds
out. Every scenario ends with the card served somewhere; nothing is judged here: the books are
compared afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from sim.campus.burst import everywhere, serve
from sim.campus.campus import Campus
from sim.campus.ledger_truth import Witness
from sim.campus.till import End, TillRig
from sim.card import SimCard, Tear, TearAt

APDUS = 4  # SELECT, newest record, INITIALIZE, DEBIT
DEBIT = 3
RECOVERY_APDUS = 7  # SELECT, record, PROVE, records, INITIALIZE, DEBIT
KINDS = (TearAt.BEFORE_DELIVERY, TearAt.BEFORE_COMMIT, TearAt.AFTER_COMMIT, TearAt.MID_REPLY)
DEBIT_REPLY = 10  # TAC, MAC2, status word


class Then(Enum):
    """What the owner of a torn card does."""

    BACK = "back"  # puts it back until the screen says yes or no
    ELSEWHERE = "elsewhere"  # pays at another till first, then comes back
    QUEUE = "queue"  # somebody else tries first
    CANCEL = "cancel"  # the cashier gives up, somebody else is served, then the card comes back
    AWAY = "away"  # the cashier gives up, and the card goes to another till only


@dataclass(frozen=True, slots=True)
class Scenario:
    """One tap that goes wrong. `again`: a second tear while the card is back."""

    tear: Tear
    then: Then
    again: Tear | None = None

    def __str__(self) -> str:
        second = "" if self.again is None else f", again {_name(self.again)}"
        return f"{_name(self.tear)}, {self.then.value}{second}"


def _name(tear: Tear) -> str:
    return f"{tear.at.value} at APDU {tear.apdu} after {tear.reply_count} bytes"


def boundaries(reply_counts: Sequence[int]) -> Iterator[Tear]:
    """Every APDU of a tap × every moment of it, and inside the DEBIT's answer."""
    for apdu in range(APDUS):
        for at in KINDS:
            if at is not TearAt.MID_REPLY:
                yield Tear(at, apdu)
            elif apdu != DEBIT:
                yield Tear(at, apdu, 1)
    for count in reply_counts:
        yield Tear(TearAt.MID_REPLY, DEBIT, count)


def short() -> list[Scenario]:
    """Every boundary once; what the owner does goes round."""
    ways = list(Then)
    tears = boundaries((1, DEBIT_REPLY - 1))
    return [Scenario(tear, ways[n % len(ways)]) for n, tear in enumerate(tears)]


def whole() -> list[Scenario]:
    """Every boundary × everything the owner may do, and every boundary of the way back."""
    tears = list(boundaries(range(DEBIT_REPLY)))
    found = [Scenario(tear, then) for tear in tears for then in Then]
    for first in (TearAt.BEFORE_COMMIT, TearAt.AFTER_COMMIT):
        for apdu in range(RECOVERY_APDUS):
            for at in KINDS:
                second = Tear(at, apdu, 1 if at is TearAt.MID_REPLY else 0)
                found.append(Scenario(Tear(first, DEBIT), Then.BACK, second))
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """What one till plays, with cards of its own and a bystander's card."""

    till: str
    cards: Sequence[SimCard]
    bystander: SimCard
    plan: Sequence[Scenario]


class Stage:
    """A running campus with one neighbouring till where anybody can pay in between."""

    def __init__(self, campus: Campus, neighbour: str, witness: Witness) -> None:
        self._campus = campus
        self._neighbour = campus.tills[neighbour]
        self._witness = witness
        self._lock = threading.Lock()
        self.torn = 0  # tears that fired

    def play(self, shares: Sequence[Share]) -> None:
        """Everything of every share, the tills in parallel. Raises what a till's thread raised."""
        everywhere([partial(self._till, share) for share in shares])

    def _till(self, share: Share) -> None:
        for n, scenario in enumerate(share.plan):
            card = share.cards[n % len(share.cards)]
            self._one(self._campus.tills[share.till], card, share.bystander, scenario)

    def _one(self, till: TillRig, card: SimCard, other: SimCard, scenario: Scenario) -> None:
        self._torn_tap(till, card, scenario.tear)
        if scenario.then in (Then.CANCEL, Then.AWAY):
            till.clear()
            till.terminal.keys("CANCEL")
            till.wait_for("请刷卡")
            serve(till, other, self._witness)
        elif scenario.then is Then.QUEUE:
            self._witness.saw(till.plan.name, other, till.tap(other))
        if scenario.then in (Then.ELSEWHERE, Then.AWAY):
            with self._lock:
                serve(self._neighbour, card, self._witness)
        if scenario.again is not None:
            self._torn_tap(till, card, scenario.again)
        if scenario.then is not Then.AWAY:
            serve(till, card, self._witness)

    def _torn_tap(self, till: TillRig, card: SimCard, tear: Tear) -> None:
        card.plan(tear)
        end = self._witness.saw(till.plan.name, card, till.tap(card))
        with self._lock:
            self.torn += card.planned is None
        card.plan(None)
        assert end is not End.SILENT, (till.plan.name, tear, till.terminal.latest)
