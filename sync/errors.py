"""Typed errors of sync and the centre: stable codes with facts (sync.md §6, ledger.md §5)."""

from __future__ import annotations

from protocols.errors import OnecardError


class SyncError(OnecardError):
    """Base of the errors raised in sync and sync.central."""

    code = "SYNC"


# --- segments and lanes (sync.md §6) ---------------------------------------------------------


class BadFormError(SyncError):
    """Larger than 64 KiB, or not COSE/CBOR of sync.md §3."""

    code = "SYNC_BAD_FORM"


class BadTopicError(SyncError):
    """Site, partition or terminal of the topic, the payload and the enrolment differ."""

    code = "SYNC_BAD_TOPIC"


class BadSignatureError(SyncError):
    """Key unknown, revoked or another terminal's; or the signature is wrong."""

    code = "SYNC_BAD_SIG"


class BadChainError(SyncError):
    """The hashes from `prev` do not end at `tip`, or the seqs are not first..last."""

    code = "SYNC_BAD_CHAIN"


class EpochOldError(SyncError):
    """A segment of a superseded epoch that the archive does not hold."""

    code = "SYNC_EPOCH_OLD"


class EpochUnknownError(SyncError):
    """An epoch that the centre never granted."""

    code = "SYNC_EPOCH_UNKNOWN"


class FencedError(SyncError):
    """The lane is fenced or the terminal revoked."""

    code = "SYNC_FENCED"


class GapError(SyncError):
    """A segment that starts behind the next seq."""

    code = "SYNC_GAP"


# --- operations (ledger.md §5) ---------------------------------------------------------------


class BusyError(SyncError):
    """Lock or serialization failure: try again; never an answer about money."""

    code = "BUSY"


class IdemConflictError(SyncError):
    """An idem key that was used for another request."""

    code = "IDEM_CONFLICT"


class InsufficientError(SyncError):
    """A guarded account would fall below its floor."""

    code = "INSUFFICIENT"


class TwoPersonsError(SyncError):
    """An act that needs two different persons."""

    code = "OFFICE_TWO_PERSONS"


class OfficeStateError(SyncError):
    """The named thing is not in a state in which the act is possible."""

    code = "OFFICE_STATE"


class OfficeUnknownError(SyncError):
    """No such terminal, card, list, lane or item."""

    code = "OFFICE_UNKNOWN"


class OfficeExistsError(SyncError):
    """The name or number is taken already."""

    code = "OFFICE_EXISTS"


# --- enrolment (sync.md §10) -----------------------------------------------------------------


class EnrolCodeError(SyncError):
    """A claim code that is not valid here."""

    code = "ENROL_CODE"


class EnrolExpiredError(SyncError):
    """A claim code older than 24 hours."""

    code = "ENROL_EXPIRED"


class EnrolTriesError(SyncError):
    """Five wrong tries: the claim code is dead."""

    code = "ENROL_TRIES"


class EnrolCsrError(SyncError):
    """A certificate request that is not P-256 or does not prove possession of its key."""

    code = "ENROL_CSR"


class EnrolFormError(SyncError):
    """A body that is too large or not of the agreed form."""

    code = "ENROL_FORM"


# --- the centre itself -----------------------------------------------------------------------


class CentreSchemaError(SyncError):
    """A database of a newer or foreign version."""

    code = "CENTRE_SCHEMA"


class CentreDownError(SyncError):
    """The centre's database or its port is not reachable."""

    code = "CENTRE_DOWN"
