"""One purchase from card-in to its end: the whole of card.md §5.1 as one generator.

    identify -> newest record -> open doubt of this card? settle it -> policy -> INITIALIZE ->
    SAM -> denylist again, INTENT durable -> DEBIT once -> MAC2 -> CAPTURE durable -> serve

Unknown stays unknown: after the DEBIT was handed over everything but a verified success or a
definite refusal is DOUBT. The DEBIT is never sent twice; the next one follows a new INITIALIZE.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from firmware.ports import Mac1Answer, Mac1Ask
from protocols.bizday import local_date_time
from protocols.card import purse
from protocols.card.apdu import SW, Response
from protocols.card.purse import DebitAnswer, PurchaseInit, TxType, definite_refusal
from protocols.errors import ApduError, FrameError
from protocols.money import Fen, fen, sub
from protocols.wire.record import Kind, own_of
from terminal.canteen import settle
from terminal.canteen.asks import (
    MONEY_MS,
    Answer,
    Append,
    Appended,
    Ask,
    AskSam,
    CardReply,
    CardTrouble,
    CheckMac2,
    CutOff,
    Facts,
    Identified,
    InDoubt,
    Order,
    OtherCard,
    Paid,
    Refused,
    SamTrouble,
    Serve,
    Tap,
    Transmit,
)
from terminal.canteen.gather import Card, identify, initialise, newest_record
from terminal.canteen.rules import TapRules
from terminal.errors import TapCutError
from terminal.ledger.replay import CARD_SUSPECT

OTHER_CARD_MS = 5_000
NO_TAC = bytes(4)
_REFUSALS: dict[int, str] = {
    SW.INSUFFICIENT: "INSUFFICIENT",
    SW.COUNTER_MAX: "CARD_COUNTER_FULL",
    SW.NOT_SUPPORTED: "CARD_BLOCKED",
    SW.AUTH_BLOCKED: "CARD_BLOCKED",
    SW.LOCKED_FOR_GOOD: "CARD_BLOCKED",
}


@dataclass(frozen=True, slots=True)
class Debit:
    """Everything a DEBIT needs, gathered: the card, its INITIALIZE answer, its last record."""

    card: Card
    init: PurchaseInit
    prev: bytes | None


def read_only(facts: Facts) -> Tap:
    """Only who the card is: operators, and the payer of a sale to be voided."""
    try:
        card = yield from identify(facts)
    except ApduError as fault:
        return CutOff(fault.code)
    except TapCutError as fault:
        return CutOff(fault.reason)
    return card if isinstance(card, Refused) else Identified(card.asn)


def tap(order: Order, facts: Facts, rules: TapRules) -> Tap:
    """One card against one order; see the module's drawing. Never raises for the world's sake."""
    try:
        card = yield from identify(facts)
    except ApduError as fault:
        return CutOff(fault.code)
    except TapCutError as fault:
        return CutOff(fault.reason)
    if isinstance(card, Refused):
        return card
    if not facts.sam_known:  # a doubt may be open before the SAM answered for the first time
        return Refused("SAM_FAIL", card.asn)
    hold = order.hold
    if hold is not None and hold.asn != card.asn:
        if facts.now_ms() - hold.since_ms < OTHER_CARD_MS:
            return OtherCard(card.asn)
        yield Append(Kind.ABANDON, ref=hold.intent)
    outcome = yield from _guarded(order, card, facts, rules)
    kept = hold is not None and hold.asn == card.asn and facts.state.hold == hold.intent
    if kept and hold is not None and isinstance(outcome, Refused):
        yield Append(Kind.ABANDON, ref=hold.intent)  # this card gets no service for it any more
    return outcome


def _guarded(order: Order, card: Card, facts: Facts, rules: TapRules) -> Tap:
    """The purchase itself; a card that goes before the DEBIT, or talks nonsense, ends here."""
    try:
        return (yield from _purchase(order, card, facts, rules))
    except ApduError as fault:
        return CutOff(fault.code)
    except TapCutError as fault:
        return CutOff(fault.reason)
    except FrameError:
        return Refused("CARD_PROFILE", card.asn)


def _purchase(order: Order, card: Card, facts: Facts, rules: TapRules) -> Tap:
    if facts.blocked(card.asn):
        return Refused("CARD_DENYLISTED", card.asn)
    if order.hold is None and facts.just_paid(card.asn):
        return Refused("CARD_AGAIN", card.asn)
    prev = yield from newest_record(facts)
    init: PurchaseInit | None = None
    doubt = facts.state.open_doubt(card.asn)
    if doubt is not None:
        settled = yield from settle.settle(doubt, order, facts, rules)
        if settled.outcome is not None:
            return settled.outcome
        init, prev = settled.init, settled.prev or prev
    refusal = _policy(order, card, facts)
    if refusal is not None:
        return refusal
    fit = yield from _fit_init(init, order, card, facts)
    if isinstance(fit, Refused):
        return fit
    return (yield from _debit(Debit(card, fit, prev), order, facts, rules))


def _fit_init(
    made: PurchaseInit | None, order: Order, card: Card, facts: Facts
) -> Generator[Ask, Answer, PurchaseInit | Refused]:
    """The INITIALIZE of this sale, made already by recovery or made now (§5.1 row 4)."""
    init = made or (yield from initialise(facts, fen(order.fen)))
    if not isinstance(init, PurchaseInit):
        return Refused(_REFUSALS.get(init, "CARD_PROFILE"), card.asn, init)
    unfit = _unfit(init, order, facts)
    return init if unfit is None else Refused(unfit, card.asn)


def _policy(order: Order, card: Card, facts: Facts) -> Refused | None:
    if card.asn in facts.state.suspects:
        return Refused("CARD_MAC2", card.asn)
    code = facts.sale_refusal(card.asn, order.fen)
    return None if code is None else Refused(code, card.asn)


def _unfit(init: PurchaseInit, order: Order, facts: Facts) -> str | None:
    """What the INITIALIZE answer forbids (card.md §5.1 row 4)."""
    if init.offseq >= facts.profile.ctr_max:
        return "CARD_COUNTER_FULL"
    if init.overdraft != 0 or init.alg not in facts.profile.alg_ids:
        return "CARD_PROFILE"
    return "INSUFFICIENT" if init.balance < order.fen else None


def _debit(debit: Debit, order: Order, facts: Facts, rules: TapRules) -> Tap:
    """SAM, denylist, INTENT, DEBIT: the record stands above the act (card.md §1 rule 1)."""
    asn, init = debit.card.asn, debit.init
    at_us = facts.state.next_second(asn, facts.wall_us()) * 1_000_000
    date, time = local_date_time(at_us)
    ask = Mac1Ask(
        asn8=debit.card.info.asn8,
        rnd=init.rnd,
        offseq=init.offseq,
        fen=fen(order.fen),
        type=int(TxType.PURCHASE),
        date=date,
        time=time,
        keyver=init.keyver,
        alg=init.alg,
    )
    sam = yield AskSam(ask)
    if not isinstance(sam, Mac1Answer):
        return Refused("SAM_FAIL", asn)
    if rules.blocked_at_intent(facts, asn):
        return Refused("CARD_DENYLISTED", asn)
    intent = yield from _append(_intent(debit, ask, sam, order, facts, rules))
    reply = yield Transmit(
        purse.debit(sam.termseq, date, time, sam.mac1).encode(), MONEY_MS, money=True
    )
    if isinstance(reply, CardTrouble) and not reply.sent:
        yield from _append(
            Append(
                Kind.VOID,
                ref=intent,
                inst=asn,
                fen=order.fen,
                own=own_of(Kind.VOID, via="not-sent"),
            )
        )
        return CutOff(reply.code)
    return (yield from _judge_reply(reply, intent, debit, order, rules))


def _intent(
    debit: Debit, ask: Mac1Ask, sam: Mac1Answer, order: Order, facts: Facts, rules: TapRules
) -> Append:
    """INTENT with everything that can later prove or disprove the debit (ledger.md §3.3)."""
    own = own_of(
        Kind.INTENT,
        means=0,
        sale=list(order.sale),
        uid=order.uid,
        purse_before=debit.init.balance,
        type=ask.type,
        tid=facts.tid,
        termseq=sam.termseq,
        date=ask.date,
        time=ask.time,
        keyver=debit.init.keyver,
        mac1=sam.mac1,
        exp_mac2=sam.exp_mac2,
        prev=rules.carry_prev(debit.prev),
    )
    return Append(Kind.INTENT, inst=debit.card.asn, ctr=debit.init.offseq, fen=order.fen, own=own)


def _judge_reply(reply: Answer, intent: int, debit: Debit, order: Order, rules: TapRules) -> Tap:
    """Verified success, definite refusal, or in doubt; nothing else exists (card.md §5.4)."""
    if not isinstance(reply, CardReply):
        reason = reply.code if isinstance(reply, CardTrouble) else "CARD_MUTE"
        return (yield from _doubt(intent, debit, order, reason))
    try:
        response = Response.decode(reply.raw)
        answer = DebitAnswer.decode(response.body) if response.ok else None
    except FrameError as fault:
        return (yield from _doubt(intent, debit, order, fault.code))
    if answer is not None:
        return (yield from _verify(answer, intent, debit, order, rules))
    if definite_refusal(response.sw) and not response.body:
        own = own_of(Kind.VOID, via="sw")
        yield from _append(
            Append(Kind.VOID, ref=intent, inst=debit.card.asn, fen=order.fen, own=own)
        )
        code = _REFUSALS.get(response.sw, "CARD_PROFILE")
        return Refused(code, debit.card.asn, response.sw)
    return (yield from _doubt(intent, debit, order, f"SW_{response.sw:04X}"))


def _verify(answer: DebitAnswer, intent: int, debit: Debit, order: Order, rules: TapRules) -> Tap:
    """MAC2 before CAPTURE; without a proof no service (card.md §5.1 rows 8-10)."""
    asn = debit.card.asn
    checked = yield CheckMac2(answer.mac2)
    if isinstance(checked, SamTrouble):
        return (yield from _doubt(intent, debit, order, checked.code))
    if answer.tac == NO_TAC or not rules.mac2_holds(checked):
        yield from _doubt(intent, debit, order, "mac2")
        yield from _append(
            Append(Kind.ALARM, own=own_of(Kind.ALARM, code=CARD_SUSPECT, arguments=[asn]))
        )
        yield from _append(Append(Kind.ABANDON, ref=intent))
        return Refused("CARD_MAC2", asn)
    after = sub(debit.init.balance, Fen(order.fen))
    capture = Append(
        Kind.CAPTURE,
        ref=intent,
        inst=asn,
        ctr=debit.init.offseq,
        fen=order.fen,
        own=own_of(Kind.CAPTURE, purse_after=after, tac=answer.tac),
    )
    seq = yield from rules.finish(capture, Serve(asn, order.fen, after, recovered=False))
    return Paid(asn, order.fen, after, seq)


def _doubt(intent: int, debit: Debit, order: Order, reason: str) -> Tap:
    asn = debit.card.asn
    own = own_of(Kind.DOUBT, reason=reason)
    yield from _append(
        Append(Kind.DOUBT, ref=intent, inst=asn, ctr=debit.init.offseq, fen=order.fen, own=own)
    )
    return InDoubt(intent, asn, reason)


def _append(record: Append) -> Generator[Ask, Answer, int]:
    appended = yield record
    assert isinstance(appended, Appended), appended
    return appended.seq
