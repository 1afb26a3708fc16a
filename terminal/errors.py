"""World errors of the terminal: the journal's state, lists, the session.

A refusal of a sale is not an error but a value (`Refused`); its codes stand with what they do to
money in terminal.policy.reactions.
"""

from __future__ import annotations

from protocols.errors import OnecardError


class TerminalError(OnecardError):
    """Base of the errors of the terminal."""

    code = "TERMINAL"


class JournalChainError(TerminalError):
    """The journal does not recompute: rot, editing or a foreign file. Facts: seq, reason."""

    code = "JOURNAL_CHAIN"


class JournalRollbackError(TerminalError):
    """The journal ends below what the centre acknowledged: an old copy of the disk."""

    code = "JOURNAL_ROLLBACK"


class JournalForkError(TerminalError):
    """The centre acknowledged another hash at one of our places: two journals, one terminal."""

    code = "JOURNAL_FORK"


class JournalVersionError(TerminalError):
    """The newest volume was written by a newer version of the product; it is left untouched."""

    code = "JOURNAL_VERSION"


class JournalEpochError(TerminalError):
    """The journal's epoch is not one that the centre granted to this terminal."""

    code = "JOURNAL_EPOCH"


class JournalBusyError(TerminalError):
    """Another process holds this journal; a second writer is never allowed."""

    code = "JOURNAL_BUSY"


class IdentityError(TerminalError):
    """The enrolment on this device is missing or does not fit the configuration."""

    code = "IDENTITY"


class ListFormError(TerminalError):
    """A list the centre signed whose content this version cannot read; the old one stays."""

    code = "LIST_FORM"


class StateError(TerminalError):
    """An event the session's table does not allow in its state; nothing was changed."""

    code = "SESSION_STATE"


class TapCutError(TerminalError):
    """The card went in the middle of a read; ends the tap, nothing was debited by it."""

    code = "TAP_CUT"

    def __init__(self, reason: str) -> None:
        self.reason = reason  # the reader's code
        super().__init__(reason=reason)


class TestKeysError(TerminalError):
    """A card profile with published keys outside a demonstration (card.md §1 rule 9)."""

    code = "PROFILE_TEST_KEYS"
    __test__ = False  # not a test class, whatever pytest thinks
