"""World errors of the board: readers, SAMs, the reactor's queue.

CARD_GONE, LINK_LOST and CARD_MUTE mean *outcome unknown* once an APDU was handed over;
READER_BUSY and READER_DOWN mean that nothing was sent (card.md §8.1).
"""

from __future__ import annotations

from protocols.errors import OnecardError


class FirmwareError(OnecardError):
    """Base of the errors of firmware."""

    code = "FIRMWARE"


class ReaderError(FirmwareError):
    """Base of every reader error; `sent` says whether an APDU may have reached the card."""

    code = "READER"
    sent = True


class CardGoneError(ReaderError):
    """The card left the field or the slot; what it did with the APDU is unknown."""

    code = "CARD_GONE"


class LinkLostError(ReaderError):
    """The line to the reader failed in mid-exchange; outcome unknown."""

    code = "LINK_LOST"


class CardMuteError(ReaderError):
    """No answer before the deadline; outcome unknown."""

    code = "CARD_MUTE"


class ReaderBusyError(ReaderError):
    """The reader serves another exchange or has no card activated; nothing was sent."""

    code = "READER_BUSY"
    sent = False


class ReaderDownError(ReaderError):
    """The reader cannot be reached; nothing was sent."""

    code = "READER_DOWN"
    sent = False


class SamError(FirmwareError):
    """The SAM refused or does not answer; nothing was sent to the card."""

    code = "SAM_FAIL"


class SamInsecureError(FirmwareError):
    """The software SAM outside development (card.md §1 rule 9)."""

    code = "SAM_INSECURE"


class QueueFullError(FirmwareError):
    """More posted events than the reactor may hold; never a silent drop (terminals.md §3)."""

    code = "QUEUE_FULL"


class DeadmanUnprovedError(FirmwareError):
    """The board did not prove that it shuts by itself, or that a renewal extends; fact: step."""

    code = "DEADMAN_UNPROVED"


class EnrolError(FirmwareError):
    """The centre refused the enrolment, or its answer does not fit this device."""

    code = "ENROL_FAILED"


class EnrolUnreachableError(FirmwareError):
    """The centre cannot be reached, or is not the one whose CA fingerprint was given."""

    code = "ENROL_UNREACHABLE"


UNSENT_CODES = frozenset({ReaderBusyError.code, ReaderDownError.code})
"""Codes that prove the APDU was never handed to the card."""
