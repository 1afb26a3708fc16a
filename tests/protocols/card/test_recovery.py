"""The judge against an independent reading of card.md §6.2, over every combination of evidence."""

from dataclasses import replace
from itertools import product

import pytest

from protocols.card.card_profile import CardProfile
from protocols.card.files import PurseRecord
from protocols.card.purse import ProveAnswer
from protocols.card.recovery import (
    Committed,
    Evidence,
    Forged,
    Intent,
    Rollback,
    Undecided,
    Verdict,
    Via,
    Void,
    equals_ours,
    judge,
)
from protocols.money import Fen

OFFSEQ = 100
MAC2, OTHER_MAC, TAC = b"mac2", b"othr", b"tac!"
PROFILE = CardProfile()
CLOSED = CardProfile(record_pin_free=False)
INTENT = Intent(
    asn=bytes(10),
    fen=Fen(350),
    type=6,
    tid=bytes.fromhex("001122334455"),
    date=bytes.fromhex("20250901"),
    time=bytes.fromhex("114500"),
    offseq=OFFSEQ,
    exp_mac2=MAC2,
)
OURS = PurseRecord(OFFSEQ, 0, INTENT.fen, 6, INTENT.tid, INTENT.date, INTENT.time)
PROVED = Evidence(ProveAnswer(MAC2, TAC), 0x9000)
OTHERS = Evidence(ProveAnswer(OTHER_MAC, TAC), 0x9000)
REFUSED = Evidence(None, 0x9406)
NO_PROVE = Evidence()


def foreign(ctr: int, kind: int = 6) -> PurseRecord:
    """Another terminal's record with this counter."""
    return PurseRecord(ctr, 0, Fen(200), kind, b"other!", INTENT.date, INTENT.time)


# name -> (records, does one equal ours, the counters of offline records newest first)
RINGS: dict[str, tuple[PurseRecord, ...] | None] = {
    "not read": None,
    "empty": (),
    "ours newest": (OURS,),
    "ours, base 1": (replace(OURS, ctr=OFFSEQ + 1),),
    "ours older": (foreign(OFFSEQ + 1), OURS, foreign(OFFSEQ - 1)),
    "ours and a load on top": (foreign(7, 2), OURS),
    "foreign at offseq": (foreign(OFFSEQ), foreign(OFFSEQ - 1)),
    "foreign at offseq + 1 on top": (foreign(OFFSEQ + 1), foreign(OFFSEQ)),
    "foreign at offseq - 1": (foreign(OFFSEQ - 1),),
    "foreign at offseq + 2 only": (foreign(OFFSEQ + 2),),
    "loads only, with our counter": (foreign(OFFSEQ, 2), foreign(OFFSEQ + 1, 2)),
    "load newer with our counter, offline before": (foreign(OFFSEQ, 2), foreign(OFFSEQ - 1)),
    "ours as a load": (replace(OURS, type=2),),
}
COUNTERS = (None, 0, OFFSEQ - 1, OFFSEQ, OFFSEQ + 1, OFFSEQ + 2, OFFSEQ + 3, 65535)


def equals(record: PurseRecord) -> bool:
    """Equals ours, spelled out byte by byte."""
    return record.type in (4, 5, 6, 9) and record.encode()[5:] == OURS.encode()[5:]


def by_the_book(intent: Intent, seen: Evidence, profile: CardProfile) -> Verdict:
    """Every row of the table as (applies, verdict), computed whole; the first that applies."""
    c, prove = seen.counter, seen.prove
    records = [r for r in seen.records or () if profile.record_pin_free]
    offline = [r.ctr for r in records if r.type in (4, 5, 6, 9)]
    ours = any(equals(r) for r in records)
    mac_known = intent.exp_mac2 is not None
    mac_equal = mac_known and prove is not None and prove.mac == intent.exp_mac2
    mac_other = mac_known and prove is not None and prove.mac != intent.exp_mac2
    base = offline[0] - (c - 1) if offline and c is not None else None
    numbered = base is not None and intent.offseq + base in offline
    tac = prove.tac if prove else None
    rows: list[tuple[bool, Verdict]] = [
        (mac_equal, Committed(Via.PROVE, tac)),
        (ours and mac_other and c == intent.offseq + 1, Forged()),
        (ours and c is not None and c > intent.offseq, Committed(Via.RECORD, tac)),
        (c == intent.offseq, Void(Via.COUNTER)),
        (c is not None and c < intent.offseq, Rollback()),
        (
            c is not None and c > intent.offseq and base in (0, 1) and numbered and not ours,
            Void(Via.RECORD_FOREIGN),
        ),
        (True, Undecided()),
    ]
    return next(verdict for applies, verdict in rows if applies)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("profile", [PROFILE, CLOSED], ids=["free", "pin"])
def test_every_combination(ring: str, profile: CardProfile) -> None:
    """Every SAM kind × PROVE answer × counter for this ring judges as the table says."""
    sams = (INTENT, replace(INTENT, exp_mac2=None))
    proves = (PROVED, OTHERS, REFUSED, NO_PROVE)
    for intent, prove, counter in product(sams, proves, COUNTERS):
        seen = replace(prove, records=RINGS[ring], counter=counter)
        verdict = judge(intent, seen, profile)
        assert verdict == by_the_book(intent, seen, profile), (intent.exp_mac2, seen)


def test_every_verdict_occurs() -> None:
    """The combinations above reach every row; none is proved over nothing."""
    reached = set()
    for intent in (INTENT, replace(INTENT, exp_mac2=None)):
        for prove, ring, counter in product((PROVED, OTHERS, REFUSED), RINGS.values(), COUNTERS):
            seen = replace(prove, records=ring, counter=counter)
            reached.add(judge(intent, seen, PROFILE))
    assert reached == {
        Committed(Via.PROVE, TAC),
        Committed(Via.RECORD, TAC),
        Committed(Via.RECORD, None),
        Forged(),
        Void(Via.COUNTER),
        Void(Via.RECORD_FOREIGN),
        Rollback(),
        Undecided(),
    }


# Each line satisfies its own row and every later row it can: the order decides.
ORDER = [
    ("1 before 2 and 3", PROVED, (OURS,), OFFSEQ + 1, Committed(Via.PROVE, TAC)),
    ("1 before 4", PROVED, (), OFFSEQ, Committed(Via.PROVE, TAC)),
    ("1 before 5", PROVED, (), OFFSEQ - 1, Committed(Via.PROVE, TAC)),
    ("1 before 6", PROVED, (foreign(OFFSEQ),), OFFSEQ + 1, Committed(Via.PROVE, TAC)),
    ("1 without INIT", PROVED, None, None, Committed(Via.PROVE, TAC)),
    ("2 before 3", OTHERS, (OURS,), OFFSEQ + 1, Forged()),
    ("2 needs c = offseq + 1", OTHERS, (OURS,), OFFSEQ + 2, Committed(Via.RECORD, TAC)),
    ("2 needs PROVE", REFUSED, (OURS,), OFFSEQ + 1, Committed(Via.RECORD, None)),
    ("3 needs INIT", REFUSED, (OURS,), None, Undecided()),
    ("3 needs c > offseq, 4", REFUSED, (OURS,), OFFSEQ, Void(Via.COUNTER)),
    ("3 needs c > offseq, 5", REFUSED, (OURS,), OFFSEQ - 1, Rollback()),
    ("3 before 6", REFUSED, (OURS, foreign(OFFSEQ)), OFFSEQ + 1, Committed(Via.RECORD, None)),
    ("4 whatever PROVE says", OTHERS, None, OFFSEQ, Void(Via.COUNTER)),
    ("5", OTHERS, (foreign(OFFSEQ),), OFFSEQ - 1, Rollback()),
    ("6 base 0", OTHERS, (foreign(OFFSEQ),), OFFSEQ + 1, Void(Via.RECORD_FOREIGN)),
    ("6 base 1", OTHERS, (foreign(OFFSEQ + 1),), OFFSEQ + 1, Void(Via.RECORD_FOREIGN)),
    ("6 base 2", OTHERS, (foreign(OFFSEQ + 2),), OFFSEQ + 1, Undecided()),
    ("6 base -1", OTHERS, (foreign(OFFSEQ - 1),), OFFSEQ + 1, Undecided()),
    ("6 our number fell out", OTHERS, (foreign(OFFSEQ + 1),), OFFSEQ + 2, Undecided()),
    ("6 a load is no owner", OTHERS, (foreign(OFFSEQ, 2),), OFFSEQ + 1, Undecided()),
    ("7 another MAC proves nothing", OTHERS, None, OFFSEQ + 1, Undecided()),
]


@pytest.mark.parametrize(
    ("prove", "ring", "counter", "verdict"), [row[1:] for row in ORDER], ids=[r[0] for r in ORDER]
)
def test_order_of_rows(
    prove: Evidence, ring: tuple[PurseRecord, ...] | None, counter: int | None, verdict: Verdict
) -> None:
    """The first row that applies wins, and each row needs all of its conditions."""
    assert judge(INTENT, replace(prove, records=ring, counter=counter), PROFILE) == verdict


def test_9000_alone_proves_nothing() -> None:
    """PROVE 9000 without a known MAC2 decides nothing at any counter above ours."""
    psam = replace(INTENT, exp_mac2=None)
    for counter in (OFFSEQ + 1, OFFSEQ + 2):
        assert judge(psam, replace(PROVED, counter=counter), PROFILE) == Undecided()


@pytest.mark.parametrize("field", ["fen", "type", "tid", "date", "time"])
def test_record_must_equal_in_every_field(field: str) -> None:
    """A record that differs in one field is another's."""
    other = {"fen": Fen(351), "type": 9, "tid": b"x" * 6, "date": b"x" * 4, "time": b"x" * 3}
    record = replace(OURS, **{field: other[field]})
    seen = replace(REFUSED, records=(record,), counter=OFFSEQ + 1)
    assert judge(INTENT, seen, PROFILE) == Void(Via.RECORD_FOREIGN)


def test_prove_answer_needs_9000() -> None:
    """Evidence with PROVE bytes and another status is our bug."""
    with pytest.raises(AssertionError):
        Evidence(ProveAnswer(MAC2, TAC), 0x9406)


def test_a_load_never_equals_ours() -> None:
    """The two counters overlap: only offline-class records are compared at all."""
    assert equals_ours(INTENT, OURS)
    assert not equals_ours(replace(INTENT, type=2), replace(OURS, type=2))
