"""Tables of the centre (ledger.md §4): the one place through which others name them.

Money is BIGINT fen, instants are BIGINT µs UTC, days are INTEGER YYYYMMDD; no NUMERIC, no REAL.
Journal-like tables (JOURNAL_LIKE) refuse UPDATE and DELETE by trigger on both databases.
"""

from __future__ import annotations

from sync.central.tables_books import (
    KEY,
    account,
    balance,
    batch,
    card,
    card_chain,
    card_loss,
    card_seen,
    doubt,
    hold,
    hold_scope,
    holder,
    intent,
    metadata,
    operation,
    reversal,
    suspense_item,
    tac_result,
    transfer,
    worker,
)
from sync.central.tables_traffic import (
    alarm,
    boot,
    command,
    fork,
    lane,
    list_part,
    list_taken,
    list_version,
    outbox,
    quarantine,
    segment,
    terminal,
    terminal_key,
)

__all__ = [
    "JOURNAL_LIKE",
    "KEY",
    "account",
    "alarm",
    "balance",
    "batch",
    "boot",
    "card",
    "card_chain",
    "card_loss",
    "card_seen",
    "command",
    "doubt",
    "fork",
    "hold",
    "hold_scope",
    "holder",
    "intent",
    "lane",
    "list_part",
    "list_taken",
    "list_version",
    "metadata",
    "operation",
    "outbox",
    "quarantine",
    "reversal",
    "segment",
    "suspense_item",
    "tac_result",
    "terminal",
    "terminal_key",
    "transfer",
    "worker",
]

JOURNAL_LIKE = (
    "segment",
    "batch",
    "transfer",
    "tac_result",
    "reversal",
    "operation",
    "quarantine",
    "card_seen",
)
