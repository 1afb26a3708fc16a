"""What the centre does with one segment: rows 1-11 of sync.md §6 as pure functions.

Rows 1-4 judge the bytes (`opened`, `check_topic`, `chained`), rows 5-11 place an authentic segment
in its lane (`judge`). The lane's cursor decides, never a message's age or a parked segment.

    first that applies      result
    5  epoch superseded     Old (archive equal) | Refused SYNC_EPOCH_OLD
    6  epoch not granted    Refused SYNC_EPOCH_UNKNOWN
    7  fenced, revoked      Halted SYNC_FENCED
    8  first > next         Missing
    9  last < next          Again (archive equal) | Forked
    10 first < next <= last Post, old part sliced off (archive equal) | Forked
    11 prev is not the tip  Forked
    13 otherwise            Post
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from protocols.errors import RecordError, SignatureError, WireFormError
from protocols.wire import SEGMENT_BYTES_MAX, cose
from protocols.wire.record import Record
from protocols.wire.segment import Segment
from protocols.wire.topics import UpTopic
from sync.errors import (
    BadChainError,
    BadFormError,
    BadSignatureError,
    BadTopicError,
    EpochOldError,
    EpochUnknownError,
    FencedError,
    GapError,
)

ENVELOPED_BYTES_MAX = SEGMENT_BYTES_MAX + cose.ENVELOPE_BYTES_MAX


class LaneState(IntEnum):
    """State of a lane; stored."""

    OPEN = 0
    FENCED = 1
    CLOSED = 2


class KeyState(IntEnum):
    """State of a device key; stored. TAIL: good only for an older epoch that was reopened."""

    ACTIVE = 0
    TAIL = 1
    REVOKED = 2


@dataclass(frozen=True, slots=True)
class Key:
    """A terminal's public key as the registry holds it."""

    kid: bytes
    state: KeyState
    public: EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the office knows of a terminal: the segment must agree with it."""

    terminal: int
    code: str
    site: str
    part: int
    merchant: int
    role: str
    revoked: bool
    keys: Mapping[bytes, Key]


@dataclass(slots=True)
class Lane:
    """A lane's cursor; advanced in memory while a batch is judged, then written with its guard."""

    terminal: int
    epoch: int
    next_seq: int
    tip_h: bytes
    state: LaneState
    mark_us: int
    offset_us: int
    current: bool  # the newest epoch of its terminal


@dataclass(frozen=True, slots=True)
class Arrival:
    """An authentic segment: rows 1-4 are behind it. `records[n]` is None where undecodable."""

    enrolled: Enrolled
    raw: bytes
    topic: str
    tail: bool  # signed by a key that is good for a reopened lane only
    segment: Segment
    hashes: tuple[bytes, ...]
    records: tuple[Record | None, ...]

    @property
    def lane_key(self) -> tuple[int, int]:
        """(terminal, epoch)."""
        return self.enrolled.terminal, self.segment.epoch


@dataclass(frozen=True, slots=True)
class Post:
    """Post the records from index `skip` on."""

    skip: int


@dataclass(frozen=True, slots=True)
class Again:
    """Wholly archived already: acknowledge again, change nothing."""


@dataclass(frozen=True, slots=True)
class Old:
    """Of a superseded epoch and archived: nothing to do."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap: ask again from `start`, whose predecessor hashes to `prev`."""

    start: int
    prev: bytes

    @property
    def code(self) -> str:
        """SYNC_GAP."""
        return GapError.code


@dataclass(frozen=True, slots=True)
class Refused:
    """Quarantine; `answered` with reject where row 6 says so."""

    code: str
    answered: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Halted:
    """Quarantine and halt."""

    code: str


@dataclass(frozen=True, slots=True)
class Forked:
    """Two branches: fence the lane, keep both, halt. `seq` is the first that differs, or may."""

    seq: int


Verdict = Post | Again | Old | Missing | Refused | Halted | Forked


def opened(raw: bytes) -> tuple[cose.Signed, Segment]:
    """Row 1. Raises SYNC_BAD_FORM."""
    try:
        signed = cose.open1(raw, ENVELOPED_BYTES_MAX)
        return signed, Segment.decode(signed.payload)
    except WireFormError as fault:
        raise BadFormError(**fault.facts) from fault


def check_topic(topic: UpTopic, enrolled: Enrolled | None, segment: Segment) -> Enrolled:
    """Row 2: the enrolment the topic names. Raises SYNC_BAD_TOPIC."""
    if enrolled is None:
        raise BadTopicError(terminal=topic.term, reason="not enrolled")
    known = (enrolled.site, enrolled.part, enrolled.code)
    if (topic.site, topic.part, topic.term) != known:
        raise BadTopicError(terminal=topic.term, reason="topic")
    if (segment.site, segment.part, segment.term) != known:
        raise BadTopicError(terminal=topic.term, reason="payload")
    return enrolled


def check_signature(signed: cose.Signed, enrolled: Enrolled) -> Key:
    """Row 3: the key that signed. Raises SYNC_BAD_SIG.

    A TAIL key passes here; `judge` admits it to nothing but a reopened lane.
    """
    key = enrolled.keys.get(signed.kid)
    if key is None or key.state is KeyState.REVOKED:
        raise BadSignatureError(terminal=enrolled.code, kid=signed.kid)
    try:
        cose.verify(signed, key.public)
    except SignatureError as fault:
        raise BadSignatureError(terminal=enrolled.code, kid=signed.kid) from fault
    return key


def chained(segment: Segment) -> tuple[tuple[bytes, ...], tuple[Record | None, ...]]:
    """Row 4: the hashes and the decoded records. Raises SYNC_BAD_CHAIN."""
    hashes = tuple(segment.hashes())
    if hashes[-1] != segment.tip:
        raise BadChainError(terminal=segment.term, seq=segment.last, field="tip")
    records = tuple(_decoded(body) for body in segment.bodies)
    for n, record in enumerate(records):
        if record is not None and record.seq != segment.first + n:
            raise BadChainError(terminal=segment.term, seq=segment.first + n, field="seq")
    return hashes, records


def overlap(arrival: Arrival, lane: Lane | None) -> range | None:
    """Which archived hashes `judge` needs: none for the usual segment that fits the cursor."""
    if lane is None or arrival.segment.first >= lane.next_seq:
        return None
    return range(arrival.segment.first, min(arrival.segment.last, lane.next_seq - 1) + 1)


def judge(arrival: Arrival, lane: Lane | None, archived: Mapping[int, bytes]) -> Verdict:
    """Rows 5-11 and 13; `archived` holds the archive's hashes of `overlap`."""
    segment = arrival.segment
    if lane is None:
        return Refused(EpochUnknownError.code, answered=True, kept=False)
    if arrival.tail and lane.current:
        return Refused(BadSignatureError.code, answered=True, kept=True)
    differs = _first_difference(arrival, overlap(arrival, lane), archived)
    if not lane.current and lane.state is not LaneState.OPEN:
        equal = segment.last < lane.next_seq and differs is None
        return Old() if equal else Refused(EpochOldError.code, answered=False, kept=True)
    if lane.state is not LaneState.OPEN or arrival.enrolled.revoked:
        return Halted(FencedError.code)
    if segment.first > lane.next_seq:
        return Missing(lane.next_seq, lane.tip_h)
    if differs is not None:
        return Forked(differs)
    if segment.last < lane.next_seq:
        return Again()
    skip = lane.next_seq - segment.first
    before = arrival.hashes[skip - 1] if skip else segment.prev
    return Post(skip) if before == lane.tip_h else Forked(lane.next_seq)


def kept_as(verdict: Verdict | None) -> str | None:
    """The code under which a segment goes to quarantine; None where it does not."""
    match verdict:
        case Refused(code, _, kept):
            return code if kept else None
        case Halted(code):
            return code
        case Forked():
            return "JOURNAL_FORK"
        case Post() | Again() | Old() | Missing() | None:
            return None


def advance(lane: Lane, arrival: Arrival) -> None:
    """Move the cursor past a posted segment, and the mark to its last trusted time."""
    lane.next_seq = arrival.segment.last + 1
    lane.tip_h = arrival.segment.tip


def mark_of(records: Sequence[Record | None], mark_us: int, now_us: int) -> int:
    """The watermark after these records: trusted terminal time, never ahead of the centre."""
    trusted = [r.wall_us for r in records if r is not None and not r.flags & 1]
    return max(mark_us, min(max(trusted, default=0), now_us))


def _decoded(body: bytes) -> Record | None:
    try:
        return Record.decode(body)
    except RecordError:
        return None  # row 12: archived, and a suspense item keeps its bytes


def _first_difference(
    arrival: Arrival, span: range | None, archived: Mapping[int, bytes]
) -> int | None:
    for seq in span or ():
        if archived.get(seq) != arrival.hashes[seq - arrival.segment.first]:
            return seq
    return None
