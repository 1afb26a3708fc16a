"""Settling an earlier doubt of a card that came back: gather, judge, book (card.md §6.2).

A sale that still waits in front of the cashier (`order.hold`) may end here without a second debit;
any other doubt is only booked. A tear in here changes nothing: it starts again at the next visit.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from protocols.card.purse import PurchaseInit
from protocols.card.recovery import (
    Committed,
    Forged,
    Rollback,
    Undecided,
    Verdict,
    Void,
)
from protocols.money import Fen
from protocols.wire.record import Kind, own_of
from terminal.canteen.asks import (
    Answer,
    Append,
    Ask,
    Facts,
    Order,
    Outcome,
    Paid,
    Refused,
    Serve,
    Withheld,
)
from terminal.canteen.gather import Gathered, complete, evidence_items, facts_of, prove
from terminal.canteen.rules import TapRules
from terminal.ledger.replay import OpenIntent

ROLLBACK_ALARM = "CARD_ROLLBACK"


@dataclass(frozen=True, slots=True)
class Settled:
    """The tap's end, or what the purchase goes on with: a live INITIALIZE and the newest record."""

    outcome: Outcome | None = None
    init: PurchaseInit | None = None
    prev: bytes | None = None


Settling = Generator[Ask, Answer, Settled]


def settle(doubt: OpenIntent, order: Order, facts: Facts, rules: TapRules) -> Settling:
    """Book what the card proves about `doubt`. Raises TAP_CUT, CARD_*: then nothing was booked."""
    held = order.hold is not None and order.hold.intent == doubt.seq
    proof = yield from prove(doubt, facts)
    gathered = Gathered(proof)
    verdict: Verdict = rules.judge(facts_of(doubt), proof, facts.profile)
    if not isinstance(verdict, Committed):
        gathered = yield from complete(doubt, proof, Fen(order.fen), facts)
        verdict = rules.judge(facts_of(doubt), gathered.evidence, facts.profile)
    if isinstance(verdict, Committed):
        return (yield from _committed(verdict, doubt, held, facts, rules))
    if isinstance(verdict, Void):
        own = own_of(Kind.VOID, via=str(verdict.via))
        yield Append(Kind.VOID, ref=doubt.seq, inst=doubt.asn, fen=doubt.fen, own=own)
        return Settled(None, gathered.init, gathered.prev)
    if held:
        yield Append(Kind.ABANDON, ref=doubt.seq)
    return (yield from _unproved(verdict, doubt, gathered))


def _committed(
    verdict: Committed, doubt: OpenIntent, held: bool, facts: Facts, rules: TapRules
) -> Settling:
    """CAPTURE with the original fields; service only for the sale in hand and only on proof."""
    served = held and rules.service_on(verdict.via, doubt, facts)
    after = max(doubt.purse_before - doubt.fen, 0)
    own = own_of(Kind.CAPTURE, purse_after=after, tac=verdict.tac, late=1, via=str(verdict.via))
    capture = Append(
        Kind.CAPTURE, ref=doubt.seq, inst=doubt.asn, ctr=doubt.ctr, fen=doubt.fen, own=own
    )
    if served:
        serve = Serve(doubt.asn, doubt.fen, after, recovered=True)
        seq = yield from rules.finish(capture, serve)
        return Settled(Paid(doubt.asn, doubt.fen, after, seq, recovered=True))
    if held:
        yield Append(Kind.ABANDON, ref=doubt.seq)
    yield capture
    return Settled(Withheld("CARD_MAC2", doubt.asn) if held else None)


def _unproved(
    verdict: Forged | Rollback | Undecided, doubt: OpenIntent, gathered: Gathered
) -> Settling:
    """What only the centre can decide, or what speaks against the card."""
    if isinstance(verdict, Rollback):
        own = own_of(Kind.ALARM, code=ROLLBACK_ALARM, arguments=[doubt.asn, doubt.seq])
        yield Append(Kind.ALARM, own=own)
        return Settled(Refused("CARD_ROLLBACK", doubt.asn))
    forged = isinstance(verdict, Forged)
    yield Append(
        Kind.DOUBT_UP,
        ref=doubt.seq,
        inst=doubt.asn,
        ctr=doubt.ctr,
        fen=doubt.fen,
        own=own_of(
            Kind.DOUBT_UP,
            evidence=evidence_items(gathered.evidence),
            forged=1 if forged else None,
        ),
    )
    if forged:
        return Settled(Withheld("CARD_MAC2", doubt.asn))
    return Settled(None, gathered.init, gathered.prev)
