"""The judge of torn debits: intent and evidence in, verdict out (card.md §6.2).

Gathering is a machine elsewhere; this is the whole decision, one pure function, first row that
applies. It decides strictly less than it could: PROVE's 9000 alone proves nothing, a different
MAC from PROVE proves nothing either, and a record counts for the books, never for service.

    row | what was found                                                   | verdict
    1   | expected MAC2 known, PROVE's MAC equals it                       | Committed via=prove
    2   | record equals ours, MAC2 known, c = offseq + 1, PROVE: other MAC | Forged
    3   | record equals ours, c > offseq                                   | Committed via=record
    4   | c = offseq                                                       | Void via=counter
    5   | c < offseq                                                       | Rollback
    6   | c > offseq, record offseq + base is another's, base 0 or 1       | Void via=record-foreign
    7   | otherwise                                                        | Undecided

c is the offline counter of an INITIALIZE made after the tear. Rows 2 to 6 need it; only row 1
may conclude without.
"""

from dataclasses import dataclass
from enum import StrEnum

from protocols.card.apdu import SW
from protocols.card.card_profile import CardProfile
from protocols.card.files import PurseRecord
from protocols.card.purse import ProveAnswer
from protocols.card.suite import same_mac
from protocols.money import Fen


class Via(StrEnum):
    """What a verdict rests on; the text stands in the journal."""

    PROVE = "prove"
    RECORD = "record"
    COUNTER = "counter"
    RECORD_FOREIGN = "record-foreign"


@dataclass(frozen=True, slots=True)
class Intent:
    """The facts of an INTENT that a card can contradict or confirm."""

    asn: bytes
    fen: Fen
    type: int
    tid: bytes
    date: bytes
    time: bytes
    offseq: int
    exp_mac2: bytes | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was gathered from the card; None where a step was not made or not allowed.

    `prove` is set only when PROVE answered 9000; `records` are newest first; `counter` and
    `balance` come from an INITIALIZE FOR PURCHASE after the tear.
    """

    prove: ProveAnswer | None = None
    prove_sw: int | None = None
    records: tuple[PurseRecord, ...] | None = None
    counter: int | None = None
    balance: Fen | None = None

    def __post_init__(self) -> None:
        assert self.prove is None or self.prove_sw == SW.DONE, self


@dataclass(frozen=True, slots=True)
class Committed:
    """The debit happened. via=record is for the books; service on it has its own rules."""

    via: Via
    tac: bytes | None


@dataclass(frozen=True, slots=True)
class Forged:
    """A record says yes and PROVE of the same counter says no: suspect list, no service."""


@dataclass(frozen=True, slots=True)
class Void:
    """The debit did not happen and never will: its MAC1 is dead."""

    via: Via


@dataclass(frozen=True, slots=True)
class Rollback:
    """The card counts less than it did: alarm, refuse the card, keep the doubt."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The evidence does not suffice here; the centre decides."""


Verdict = Committed | Forged | Void | Rollback | Undecided


def judge(intent: Intent, evidence: Evidence, profile: CardProfile) -> Verdict:
    """Card.md §6.2: the first row that applies."""
    proven = _proven(intent, evidence)
    if proven and evidence.prove is not None:
        return Committed(Via.PROVE, evidence.prove.tac)
    if evidence.counter is None:
        return Undecided()
    counter = evidence.counter
    records = _offline_records(evidence, profile)
    if counter > intent.offseq and any(equals_ours(intent, record) for record in records):
        if proven is False and counter == intent.offseq + 1:
            return Forged()
        return Committed(Via.RECORD, evidence.prove.tac if evidence.prove else None)
    if counter == intent.offseq:
        return Void(Via.COUNTER)
    if counter < intent.offseq:
        return Rollback()
    if _foreign(intent, records, counter):
        return Void(Via.RECORD_FOREIGN)
    return Undecided()


def equals_ours(intent: Intent, record: PurseRecord) -> bool:
    """True for an offline-class record with our amount, type, tid, date and time."""
    ours = (intent.fen, intent.type, intent.tid, intent.date, intent.time)
    theirs = (record.fen, record.type, record.tid, record.date, record.time)
    return record.offline and ours == theirs


def _proven(intent: Intent, evidence: Evidence) -> bool | None:
    """PROVE's MAC against the expected MAC2; None when either is not known."""
    if intent.exp_mac2 is None or evidence.prove is None:
        return None
    return same_mac(intent.exp_mac2, evidence.prove.mac)


def _offline_records(evidence: Evidence, profile: CardProfile) -> tuple[PurseRecord, ...]:
    """Loads share the ring but not the counter; a PIN-protected ring is no evidence."""
    if evidence.records is None or not profile.record_pin_free:
        return ()
    return tuple(record for record in evidence.records if record.offline)


def _foreign(intent: Intent, records: tuple[PurseRecord, ...], counter: int) -> bool:
    """Is the record with our counter there, and (no record equals ours) another's?

    The base is read from the card, never taken from the profile: a record matched by a wrongly
    configured base may be the one before.
    """
    if not records:
        return False
    base = records[0].ctr - (counter - 1)
    return base in (0, 1) and any(record.ctr == intent.offseq + base for record in records)
