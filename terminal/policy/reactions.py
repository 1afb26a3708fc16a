"""What each stable code does to money at a terminal: one table, complete by test (faults.md §4).

The till asks it instead of knowing codes: a code without a line here cannot reach a screen.
"""

from __future__ import annotations

from enum import Enum


class Reaction(Enum):
    """From harmless to final."""

    NOTHING = "nothing"  # money goes on; a light, a log line, a message
    REFUSE = "refuse"  # this sale is not made; nothing was debited
    DOUBT = "doubt"  # after a DEBIT was handed over: the outcome of this sale is unknown
    STOP = "stop"  # no sale until it is cured, then the till reopens by itself
    FATAL = "fatal"  # no sale until a person acts: restart, repair, new epoch


_NOTHING = """
    ONECARD TERMINAL FIRMWARE RUNTIME READER MONEY_TYPE MONEY_RANGE MONEY_TEXT FRAME_BAD BCD
    WIRE_RECORD WIRE_FORM WIRE_SIG WIRE_TOPIC WIRE_LIST LIST_FORM KAT_FORM DECODE_KIND
    SESSION_STATE ENROL_FAILED ENROL_UNREACHABLE KEYS_EXISTS CHILD_DOWN
    AMOUNT_ZERO PRICE_MISSING VOID_NOTHING
    VOID_OTHER_CARD OPERATOR_UNKNOWN CLOCK_SUSPECT KEYPAD_LOST OUTBOX_WARN
    OUTBOX_ALARM BUS_FRAME MODBUS_EXCEPTION
    RESV RESV_LENGTH RESV_TYPO LEASE_STATE LEASE_FORGED
"""
_REFUSE = """
    CARD_FOREIGN CARD_PROFILE CARD_EXPIRED CARD_BLOCKED CARD_GREY CARD_DENYLISTED CARD_AGAIN
    CARD_COUNTER_FULL CARD_MAC2 CARD_ROLLBACK CARD_ANSWER CARD_FILE CARD_RECORD CARD_APDU
    INSUFFICIENT LIMIT_TAP LIMIT_DAY PIN_UNAVAILABLE TAP_CUT READER_BUSY OTHER_CARD
    PN532_FRAME PN532_ANSWER
"""
_DOUBT = "IN_DOUBT CARD_GONE CARD_MUTE LINK_LOST"
_STOP = """
    LIMIT_OFFLINE SYNC_OUTBOX_FULL LIST_MISSING READER_DOWN SAM_FAIL
    BUS_LOST TAMPER FLOW_IMPOSSIBLE
"""
_FATAL = """
    JOURNAL_FAIL JOURNAL_CHAIN JOURNAL_ROLLBACK JOURNAL_FORK JOURNAL_VERSION JOURNAL_EPOCH
    JOURNAL_BUSY JOURNAL_SQLITE_OLD HALTED SAM_KEY_MISMATCH SAM_INSECURE QUEUE_FULL CONFIG IDENTITY
    KEYS_MISSING KEYS_SEALED KEYS_INSECURE PROFILE_UNKNOWN_KEY PROFILE_VALUE PROFILE_TEST_KEYS
    DEADMAN_UNPROVED
"""

REACTIONS: dict[str, Reaction] = {
    code: reaction
    for reaction, codes in (
        (Reaction.NOTHING, _NOTHING),
        (Reaction.REFUSE, _REFUSE),
        (Reaction.DOUBT, _DOUBT),
        (Reaction.STOP, _STOP),
        (Reaction.FATAL, _FATAL),
    )
    for code in codes.split()
}
