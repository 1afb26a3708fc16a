"""Reading a card: who it is, its last record, and the evidence after a tear (card.md §5.1, §6.2).

Nothing here moves money. A card that goes raises TAP_CUT inside the pipeline, which ends the tap.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from protocols.bizday import local_date_time
from protocols.card import purse
from protocols.card.apdu import SW, Command, Response
from protocols.card.files import CardInfo, PurseRecord, parse_fci
from protocols.card.purse import ProveAnswer, PurchaseInit
from protocols.card.recovery import Evidence, Intent, equals_ours
from protocols.errors import CardRecordError, FrameError
from protocols.money import Fen
from terminal.canteen.asks import (
    Answer,
    Ask,
    CardReply,
    CardTrouble,
    Facts,
    Refused,
    Reset,
    Transmit,
)
from terminal.errors import TapCutError
from terminal.ledger.replay import OpenIntent

INFO_BYTES = 30
PROBE_FEN = Fen(1)
CARD_GONE = "CARD_GONE"

Exchange = Generator[Ask, Answer, Response]


@dataclass(frozen=True, slots=True)
class Card:
    """A card of ours that may be talked to."""

    info: CardInfo

    @property
    def asn(self) -> bytes:
        """Identity: 10 bytes from 0015."""
        return self.info.asn


@dataclass(frozen=True, slots=True)
class Gathered:
    """Evidence after a tear; `init` is alive for a DEBIT of the amount that was asked."""

    evidence: Evidence
    init: PurchaseInit | None = None
    prev: bytes | None = None


def exchange(command: Command) -> Exchange:
    """One APDU that moves no money. Raises TAP_CUT, CARD_APDU."""
    answer = yield Transmit(command.encode())
    if isinstance(answer, CardTrouble):
        raise TapCutError(reason=answer.code)
    assert isinstance(answer, CardReply), answer
    return Response.decode(answer.raw)


def identify(facts: Facts) -> Generator[Ask, Answer, Card | Refused]:
    """SELECT, then ASN, dates and flags from FCI or 0015. Raises TAP_CUT."""
    selected = yield from exchange(purse.select_aid(facts.profile.aid))
    if not selected.ok:
        blocked = selected.sw in (SW.NOT_SUPPORTED, SW.LOCKED_FOR_GOOD)
        return Refused("CARD_BLOCKED" if blocked else "CARD_FOREIGN", sw=selected.sw)
    try:
        fci = parse_fci(selected.body)
        raw = fci.info_raw
        if raw is None or facts.profile.asn_from == "file":
            read = yield from exchange(purse.read_binary(facts.profile.sfi_info, 0, INFO_BYTES))
            raw = read.body
        info = CardInfo.decode(raw, facts.profile.info_layout)
    except FrameError:
        return Refused("CARD_FOREIGN")
    if fci.df_name != facts.profile.aid or not any(info.asn):
        return Refused("CARD_FOREIGN")
    return _valid(info, facts) or Card(info)


def _valid(info: CardInfo, facts: Facts) -> Refused | None:
    if not info.enabled:
        return Refused("CARD_BLOCKED", info.asn)
    today = local_date_time(facts.wall_us())[0].hex()
    if not info.start <= today <= info.expiry:
        return Refused("CARD_EXPIRED", info.asn)
    return None


def newest_record(facts: Facts) -> Generator[Ask, Answer, bytes | None]:
    """0018 record 1: what the next INTENT carries away as `prev`. Raises TAP_CUT."""
    profile = facts.profile
    if not profile.record_pin_free:
        return None
    answer = yield from exchange(purse.read_record(profile.sfi_record, 1, profile.record_len))
    return _carried(answer, facts) if answer.ok else None


def _carried(answer: Response, facts: Facts) -> bytes | None:
    """A record's bytes as INTENT carries them; more than was asked for is no record."""
    return answer.body if 0 < len(answer.body) <= facts.profile.record_len else None


def initialise(facts: Facts, fen: Fen) -> Generator[Ask, Answer, PurchaseInit | int]:
    """INITIALIZE FOR PURCHASE, or the status word of its refusal. Raises TAP_CUT, CARD_ANSWER."""
    profile = facts.profile
    command = purse.init_purchase(fen, facts.tid, profile.keyidx_purchase, profile.purse)
    answer = yield from exchange(command)
    return PurchaseInit.decode(answer.body) if answer.ok else answer.sw


def prove(intent: OpenIntent, facts: Facts) -> Generator[Ask, Answer, Evidence]:
    """Steps 0 and 1: cold start, same card, PROVE. Raises TAP_CUT (also for another card)."""
    answer = yield Reset()
    if isinstance(answer, CardTrouble):
        raise TapCutError(reason=answer.code)
    card = yield from identify(facts)
    if isinstance(card, Refused) or card.asn != intent.asn:
        raise TapCutError(reason=CARD_GONE)
    seq = (intent.ctr + facts.profile.prove_seq_offset) & 0xFFFF
    proof = yield from exchange(purse.prove(intent.type, seq))
    if not proof.ok:
        return Evidence(prove_sw=proof.sw)
    return Evidence(prove=ProveAnswer.decode(proof.body), prove_sw=proof.sw)


def complete(
    intent: OpenIntent, proof: Evidence, fen: Fen, facts: Facts
) -> Generator[Ask, Answer, Gathered]:
    """Steps 2 and 3: records until a match, then an INITIALIZE for the counter. TAP_CUT."""
    records, prev = yield from _records(intent, facts)
    init = yield from initialise(facts, fen)
    live = init if isinstance(init, PurchaseInit) else None
    if live is None:
        init = yield from initialise(facts, Fen(0) if facts.profile.init_zero_ok else PROBE_FEN)
    known = init if isinstance(init, PurchaseInit) else None
    evidence = Evidence(
        prove=proof.prove,
        prove_sw=proof.prove_sw,
        records=records,
        counter=None if known is None else known.offseq,
        balance=None if known is None else known.balance,
    )
    return Gathered(evidence, live, prev)


def _records(
    intent: OpenIntent, facts: Facts
) -> Generator[Ask, Answer, tuple[tuple[PurseRecord, ...] | None, bytes | None]]:
    profile = facts.profile
    if not profile.record_pin_free:
        return None, None
    found: list[PurseRecord] = []
    ours = facts_of(intent)
    prev = None
    for number in range(1, profile.record_depth + 1):
        command = purse.read_record(profile.sfi_record, number, profile.record_len)
        answer = yield from exchange(command)
        if answer.sw == SW.SECURITY_STATE:
            return None, None
        if not answer.ok:
            break
        prev = _carried(answer, facts) if prev is None else prev
        try:
            record = PurseRecord.decode(answer.body)
        except CardRecordError:
            break
        found.append(record)
        if equals_ours(ours, record):
            break
    return tuple(found), prev


def facts_of(intent: OpenIntent) -> Intent:
    """The intent as the judge sees it."""
    return Intent(
        asn=intent.asn,
        fen=Fen(intent.fen),
        type=intent.type,
        tid=intent.tid,
        date=intent.date,
        time=intent.time,
        offseq=intent.ctr,
        exp_mac2=intent.exp_mac2,
    )


def evidence_items(evidence: Evidence) -> list[object]:
    """Evidence as DOUBT_UP carries it: [prove_sw, mac, tac, records, counter, balance]."""
    proof = evidence.prove
    return [
        evidence.prove_sw,
        None if proof is None else proof.mac,
        None if proof is None else proof.tac,
        None if evidence.records is None else [record.encode() for record in evidence.records],
        evidence.counter,
        evidence.balance,
    ]
