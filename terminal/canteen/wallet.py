"""What the session writes without a card exchange: shifts, and the fate of a sale.

The till never writes value to a purse: a void is a REVERSAL record, the centre credits the wallet.
"""

from __future__ import annotations

from protocols.wire.record import Kind, own_of
from terminal.canteen.moves import Write, WriteAbandon, WriteReversal, WriteServed, WriteShift
from terminal.ledger.replay import MEANS_CARD, SALE_SERVED, SHIFT_CLOSE, SHIFT_OPEN, State
from terminal.ledger.store import Journal

REVERSED_ROW = 16  # a totals row of reversals: instrument + 16


def write(action: Write, journal: Journal) -> None:
    """Append the record of an action; durable on return. Raises JOURNAL_FAIL."""
    match action:
        case WriteShift(opened, operator):
            _shift(journal, opened, operator)
        case WriteAbandon(intent):
            journal.append(Kind.ABANDON, ref=intent)
        case WriteServed(intent):
            own = own_of(Kind.ALARM, code=SALE_SERVED, arguments=[intent])
            journal.append(Kind.ALARM, own=own)
        case WriteReversal(sale, operator):
            own = own_of(Kind.REVERSAL, operator=operator, reason="void")
            journal.append(Kind.REVERSAL, ref=sale.capture, inst=sale.asn, fen=sale.fen, own=own)


def _shift(journal: Journal, opened: bool, operator: bytes) -> None:
    state = journal.state
    journal.append(
        Kind.SHIFT,
        own=own_of(
            Kind.SHIFT,
            action=SHIFT_OPEN if opened else SHIFT_CLOSE,
            operator=operator,
            totals=None if opened else totals(state),
            doubts=len(state.doubts()),
            unsynced=len(state.unsynced),
        ),
    )


def totals(state: State) -> list[list[int]]:
    """[[instrument, count, fen], ...] of the open shift; reversals under instrument + 16."""
    shift = state.shift
    if shift is None:
        return []
    sold = [MEANS_CARD, shift.sold_count, shift.sold_fen]
    taken_back = [MEANS_CARD + REVERSED_ROW, shift.reversed_count, shift.reversed_fen]
    return [sold, taken_back] if shift.reversed_count else [sold]
