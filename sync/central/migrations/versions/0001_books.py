"""The books: accounts, transfers, cards, doubts, suspense.

Frozen: a later change of the schema is a new migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sync.central.migrations.triggers import refuse_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JOURNAL_LIKE = ("batch", "transfer", "tac_result", "reversal", "operation", "card_seen")

# code, kind, guarded
ACCOUNTS = (
    ("suspense:tac", 5, 0),
    ("suspense:torn", 5, 0),
    ("suspense:dup-counter", 5, 0),
    ("suspense:unknown-card", 5, 0),
    ("suspense:post-loss", 5, 0),
    ("suspense:gap", 5, 0),
    ("suspense:kind", 5, 0),
    ("suspense:code-overlap", 5, 0),
    ("suspense:phantom-code", 5, 0),
    ("suspense:channel", 5, 0),
    ("clearing:cash", 4, 0),
    ("clearing:bank", 4, 0),
    ("clearing:wechat", 4, 0),
    ("clearing:alipay", 4, 0),
    ("loss:school", 6, 0),
    ("hold:reservation", 7, 1),
    ("hold:paycode", 7, 1),
    ("deposit:card", 8, 0),
    ("override", 8, 0),
)
SEED = (
    ("account", ("id", "code", "kind", "floor_fen", "guarded", "state")),
    ("balance", ("account", "fen")),
)


def upgrade() -> None:
    """Tables and indexes, then triggers and what must be there from the start."""
    _account_to_holder()
    _intent_to_transfer()
    _worker_to_suspense_item()
    _card_chain_to_card_seen()
    refuse_changes(op.get_bind(), JOURNAL_LIKE)
    account, balance = (sa.table(name, *(sa.column(c) for c in columns)) for name, columns in SEED)
    for key, (code, kind, guarded) in enumerate(ACCOUNTS, start=1):
        floor = 0 if guarded else None
        row = {"id": key, "code": code, "kind": kind, "guarded": guarded, "state": 0}
        op.get_bind().execute(sa.insert(account), row | {"floor_fen": floor})
        op.get_bind().execute(sa.insert(balance), {"account": key, "fen": 0})
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SELECT setval('account_id_seq', {len(ACCOUNTS)})")


def _account_to_holder() -> None:
    op.create_table(
        "account",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("code", sa.Text(), nullable=False, unique=True),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=True),
        sa.Column("floor_fen", sa.BigInteger(), nullable=True),
        sa.Column("guarded", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
    )
    op.create_table(
        "batch",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("posted_us", sa.BigInteger(), nullable=False),
        sa.Column("n_record", sa.Integer(), nullable=False),
        sa.Column("n_transfer", sa.Integer(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "doubt",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True),
        sa.Column("card", sa.BigInteger(), nullable=True),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("ctr", sa.Integer(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("before_fen", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("via", sa.Text(), nullable=True),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("decided_batch", sa.BigInteger(), nullable=True),
    )
    op.create_index("doubt_card", "doubt", ["card"])
    op.create_index("doubt_state", "doubt", ["state"])
    op.create_table(
        "hold",
        sa.Column("id", sa.LargeBinary(), primary_key=True),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.BigInteger(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("captured_fen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("not_before_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("idem", sa.LargeBinary(), nullable=False, unique=True),
    )
    op.create_table(
        "holder",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
    )


def _intent_to_transfer() -> None:
    op.create_table(
        "intent",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("abandoned", sa.SmallInteger(), nullable=False),
        sa.Column("decided", sa.SmallInteger(), nullable=False),
    )
    op.create_table(
        "operation",
        sa.Column("seq", KEY, primary_key=True),
        sa.Column("idem", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "reversal",
        sa.Column("orig_terminal", sa.BigInteger(), primary_key=True),
        sa.Column("orig_epoch", sa.BigInteger(), primary_key=True),
        sa.Column("orig_seq", sa.BigInteger(), primary_key=True),
        sa.Column("orig_leg", sa.SmallInteger(), primary_key=True),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "tac_result",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True),
        sa.Column("result", sa.SmallInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("checked_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "transfer",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True),
        sa.Column("leg", sa.SmallInteger(), primary_key=True),
        sa.Column("debit", sa.BigInteger(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.SmallInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=False),
        sa.Column("event_day", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("fen > 0", name="transfer_fen"),
        sa.CheckConstraint("debit <> credit", name="transfer_sides"),
    )
    op.create_index("transfer_debit", "transfer", ["debit", "event_us"])


def _worker_to_suspense_item() -> None:
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("batch", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "balance",
        sa.Column("account", KEY, sa.ForeignKey("account.id"), primary_key=True),
        sa.Column("fen", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "card",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("asn", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("holder", sa.BigInteger(), sa.ForeignKey("holder.id"), nullable=False),
        sa.Column("purse", sa.BigInteger(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("wallet", sa.BigInteger(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("key_version", sa.SmallInteger(), nullable=False),
        sa.Column("opening_fen", sa.BigInteger(), nullable=False),
        sa.Column("first_ctr", sa.Integer(), nullable=False),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column("after_batch", sa.BigInteger(), nullable=False),
        sa.Column("suspect", sa.SmallInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "hold_scope",
        sa.Column("hold", sa.LargeBinary(), sa.ForeignKey("hold.id"), primary_key=True),
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
    )
    op.create_table(
        "suspense_item",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("account", sa.BigInteger(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("claim_fen", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.BigInteger(), nullable=True),
        sa.Column("card", sa.BigInteger(), nullable=True),
        sa.Column("ctr", sa.Integer(), nullable=True),
        sa.Column("depends_seq", sa.BigInteger(), nullable=True),
        sa.Column("intent_seq", sa.BigInteger(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=True),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("resolved_us", sa.BigInteger(), nullable=True),
        sa.Column("resolved_by", sa.BigInteger(), nullable=True),
    )
    op.create_index("suspense_item_record", "suspense_item", ["terminal", "epoch", "seq"])
    op.create_index("suspense_item_state", "suspense_item", ["state"])


def _card_chain_to_card_seen() -> None:
    op.create_table(
        "card_chain",
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), primary_key=True),
        sa.Column("class", sa.SmallInteger(), primary_key=True),
        sa.Column("next_ctr", sa.Integer(), nullable=False),
        sa.Column("balance_fen", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "card_loss",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), nullable=False),
        sa.Column("reported_us", sa.BigInteger(), nullable=False),
        sa.Column("after_batch", sa.BigInteger(), nullable=False),
        sa.Column("lifted_us", sa.BigInteger(), nullable=True),
        sa.Column("lifted_after_batch", sa.BigInteger(), nullable=True),
    )
    op.create_index("card_loss_card", "card_loss", ["card"])
    op.create_table(
        "card_seen",
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), primary_key=True),
        sa.Column("class", sa.SmallInteger(), primary_key=True),
        sa.Column("ctr", sa.Integer(), primary_key=True),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("intent_seq", sa.BigInteger(), nullable=False),
        sa.Column("before_fen", sa.BigInteger(), nullable=False),
        sa.Column("after_fen", sa.BigInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=False),
    )
