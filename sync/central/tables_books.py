"""Tables of the books: accounts, transfers, cards, doubts, suspense (ledger.md §4)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData()

# An INTEGER key on SQLite is the rowid; BIGINT would not be (ledger.md §2).
KEY = BigInteger().with_variant(Integer, "sqlite")

account = Table(
    "account",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("kind", SmallInteger, nullable=False),
    Column("holder", BigInteger),
    Column("floor_fen", BigInteger),  # null: no floor
    Column("guarded", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
)

balance = Table(
    "balance",
    metadata,
    Column("account", KEY, ForeignKey("account.id"), primary_key=True),
    Column("fen", BigInteger, nullable=False),
)

holder = Table(
    "holder",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("created_us", BigInteger, nullable=False),
)

card = Table(
    "card",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("asn", LargeBinary, nullable=False, unique=True),
    Column("holder", BigInteger, ForeignKey("holder.id"), nullable=False),
    Column("purse", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("wallet", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("key_version", SmallInteger, nullable=False),
    Column("opening_fen", BigInteger, nullable=False),
    Column("first_ctr", Integer, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("after_batch", BigInteger, nullable=False),  # last batch posted before the issue
    Column("suspect", SmallInteger, nullable=False, server_default="0"),
)

card_loss = Table(
    "card_loss",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("card", BigInteger, ForeignKey("card.id"), nullable=False),
    Column("reported_us", BigInteger, nullable=False),
    Column("after_batch", BigInteger, nullable=False),
    Column("lifted_us", BigInteger),
    Column("lifted_after_batch", BigInteger),
    Index("card_loss_card", "card"),
)

batch = Table(
    "batch",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("posted_us", BigInteger, nullable=False),
    Column("n_record", Integer, nullable=False),
    Column("n_transfer", Integer, nullable=False),
    Column("fen", BigInteger, nullable=False),
)

transfer = Table(
    "transfer",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("leg", SmallInteger, primary_key=True),
    Column("debit", BigInteger, nullable=False),
    Column("credit", BigInteger, nullable=False),
    Column("fen", BigInteger, nullable=False),
    Column("code", SmallInteger, nullable=False),
    Column("event_us", BigInteger, nullable=False),  # raw terminal time
    Column("event_day", Integer, nullable=False),  # from the corrected time
    Column("day", Integer, nullable=False),
    Column("batch", BigInteger, nullable=False),
    CheckConstraint("fen > 0", name="transfer_fen"),
    CheckConstraint("debit <> credit", name="transfer_sides"),
    Index("transfer_debit", "debit", "event_us"),
)

intent = Table(  # intents still open at the end of a batch; the archive holds the truth
    "intent",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("abandoned", SmallInteger, nullable=False),
    Column("decided", SmallInteger, nullable=False),  # 0, or the centre's DoubtState
)

operation = Table(
    "operation",
    metadata,
    Column("seq", KEY, primary_key=True),
    Column("idem", LargeBinary, nullable=False, unique=True),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),  # SHA-256
    Column("result", LargeBinary, nullable=False),  # CBOR
    Column("at_us", BigInteger, nullable=False),
)

hold = Table(
    "hold",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("holder", BigInteger, nullable=False),
    Column("account", BigInteger, nullable=False),
    Column("fen", BigInteger, nullable=False),
    Column("captured_fen", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("not_before_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("idem", LargeBinary, nullable=False, unique=True),
)

hold_scope = Table(
    "hold_scope",
    metadata,
    Column("hold", LargeBinary, ForeignKey("hold.id"), primary_key=True),
    Column("terminal", BigInteger, primary_key=True),
)

card_chain = Table(
    "card_chain",
    metadata,
    Column("card", BigInteger, ForeignKey("card.id"), primary_key=True),
    Column("class", SmallInteger, primary_key=True),
    Column("next_ctr", Integer, nullable=False),
    Column("balance_fen", BigInteger, nullable=False),
)

card_seen = Table(
    "card_seen",
    metadata,
    Column("card", BigInteger, ForeignKey("card.id"), primary_key=True),
    Column("class", SmallInteger, primary_key=True),
    Column("ctr", Integer, primary_key=True),
    Column("terminal", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the record that proves it
    Column("intent_seq", BigInteger, nullable=False),
    Column("before_fen", BigInteger, nullable=False),
    Column("after_fen", BigInteger, nullable=False),
    Column("event_us", BigInteger, nullable=False),  # corrected
)

doubt = Table(
    "doubt",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),  # of the INTENT
    Column("card", BigInteger),
    Column("class", SmallInteger, nullable=False),
    Column("ctr", Integer, nullable=False),
    Column("fen", BigInteger, nullable=False),
    Column("before_fen", BigInteger),
    Column("evidence", LargeBinary),
    Column("state", SmallInteger, nullable=False),
    Column("via", Text),
    Column("opened_us", BigInteger, nullable=False),
    Column("decided_batch", BigInteger),  # last batch posted before the centre decided
    Index("doubt_state", "state"),
    Index("doubt_card", "card"),
)

tac_result = Table(
    "tac_result",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),  # of the CAPTURE
    Column("result", SmallInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("checked_us", BigInteger, nullable=False),
)

reversal = Table(
    "reversal",
    metadata,
    Column("orig_terminal", BigInteger, primary_key=True),
    Column("orig_epoch", BigInteger, primary_key=True),
    Column("orig_seq", BigInteger, primary_key=True),
    Column("orig_leg", SmallInteger, primary_key=True),
    Column("terminal", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

suspense_item = Table(
    "suspense_item",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("account", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("terminal", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fen", BigInteger, nullable=False),  # signed: what stands on the account for it
    Column("claim_fen", BigInteger, nullable=False),  # what the record speaks of
    Column("target", BigInteger),  # who gets it when proved
    Column("origin", BigInteger),  # who gets it back when disproved
    Column("card", BigInteger),
    Column("ctr", Integer),
    Column("depends_seq", BigInteger),  # of the same lane: the CAPTURE a REVERSAL waits for
    Column("intent_seq", BigInteger),
    Column("raw", LargeBinary),
    Column("opened_us", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("resolved_us", BigInteger),
    Column("resolved_by", BigInteger),  # operation seq; null for a worker
    Index("suspense_item_state", "state"),
    Index("suspense_item_record", "terminal", "epoch", "seq"),
)

worker = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("batch", BigInteger, nullable=False),
)
