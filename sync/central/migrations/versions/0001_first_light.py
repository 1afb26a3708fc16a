"""The books of the first line: lanes, archive, accounts, cards, doubts, suspense, lists.

Frozen: a later change of the schema is a new migration. The triggers of the journal-like tables
are made here too, for both databases.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sync.central.migrations.triggers import refuse_changes
from sync.central.seeds import seed

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
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


def upgrade() -> None:
    """Tables, indexes, triggers, fixed accounts."""
    op.create_table(
        "account",
        sa.Column("id", KEY, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=True),
        sa.Column("floor_fen", sa.BigInteger(), nullable=True),
        sa.Column("guarded", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code"),
    )
    op.create_table(
        "alarm",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "batch",
        sa.Column("id", KEY, nullable=False),
        sa.Column("posted_us", sa.BigInteger(), nullable=False),
        sa.Column("n_record", sa.Integer(), nullable=False),
        sa.Column("n_transfer", sa.Integer(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "boot",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.Column("boot_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch", "seq"),
    )
    op.create_table(
        "command",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cmd_epoch", sa.BigInteger(), nullable=True),
        sa.Column("cmd_seq", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("command_terminal", "command", ["terminal", "state"])
    op.create_table(
        "doubt",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
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
        sa.PrimaryKeyConstraint("terminal", "epoch", "seq"),
    )
    op.create_index("doubt_card", "doubt", ["card"])
    op.create_index("doubt_state", "doubt", ["state"])
    op.create_table(
        "fork",
        sa.Column("id", KEY, nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("resolved_by", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hold",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.BigInteger(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("captured_fen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("not_before_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("idem", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idem"),
    )
    op.create_table(
        "holder",
        sa.Column("id", KEY, nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "intent",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("abandoned", sa.SmallInteger(), nullable=False),
        sa.Column("decided", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch", "seq"),
    )
    op.create_table(
        "list_part",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", "idx"),
    )
    op.create_table(
        "list_taken",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "name"),
    )
    op.create_table(
        "list_version",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("n_item", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("delta", sa.LargeBinary(), nullable=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "operation",
        sa.Column("seq", KEY, nullable=False),
        sa.Column("idem", sa.LargeBinary(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("idem"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", KEY, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("retain", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", KEY, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("first_seq", sa.BigInteger(), nullable=True),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_index("quarantine_terminal", "quarantine", ["terminal", "received_us"])
    op.create_table(
        "reversal",
        sa.Column("orig_terminal", sa.BigInteger(), nullable=False),
        sa.Column("orig_epoch", sa.BigInteger(), nullable=False),
        sa.Column("orig_seq", sa.BigInteger(), nullable=False),
        sa.Column("orig_leg", sa.SmallInteger(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("orig_terminal", "orig_epoch", "orig_seq", "orig_leg"),
    )
    op.create_table(
        "segment",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("tip_h", sa.LargeBinary(), nullable=False),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("offset_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch", "first_seq"),
    )
    op.create_index("segment_batch", "segment", ["batch"])
    op.create_table(
        "tac_result",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.SmallInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("checked_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch", "seq"),
    )
    op.create_table(
        "transfer",
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("leg", sa.SmallInteger(), nullable=False),
        sa.Column("debit", sa.BigInteger(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.SmallInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=False),
        sa.Column("event_day", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch", "seq", "leg"),
        sa.CheckConstraint("debit <> credit", name="transfer_sides"),
    )
    op.create_index("transfer_debit", "transfer", ["debit", "event_us"])
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "balance",
        sa.Column("account", KEY, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("fen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "card",
        sa.Column("id", KEY, nullable=False),
        sa.Column("asn", sa.LargeBinary(), nullable=False),
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
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("asn"),
    )
    op.create_table(
        "hold_scope",
        sa.Column("hold", sa.LargeBinary(), sa.ForeignKey("hold.id"), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hold", "terminal"),
    )
    op.create_table(
        "suspense_item",
        sa.Column("id", KEY, nullable=False),
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
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("suspense_item_record", "suspense_item", ["terminal", "epoch", "seq"])
    op.create_index("suspense_item_state", "suspense_item", ["state"])
    op.create_table(
        "terminal",
        sa.Column("id", KEY, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("merchant", sa.BigInteger(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("tid", sa.LargeBinary(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("claim_ref", sa.Text(), nullable=True),
        sa.Column("claim_hash", sa.Text(), nullable=True),
        sa.Column("claim_until_us", sa.BigInteger(), nullable=True),
        sa.Column("claim_tries", sa.Integer(), nullable=False),
        sa.Column("dseq", sa.BigInteger(), nullable=False),
        sa.Column("held_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("claim_ref"),
        sa.UniqueConstraint("code"),
    )
    op.create_table(
        "card_chain",
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("next_ctr", sa.Integer(), nullable=False),
        sa.Column("balance_fen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("card", "class"),
    )
    op.create_table(
        "card_loss",
        sa.Column("id", KEY, nullable=False),
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), nullable=False),
        sa.Column("reported_us", sa.BigInteger(), nullable=False),
        sa.Column("after_batch", sa.BigInteger(), nullable=False),
        sa.Column("lifted_us", sa.BigInteger(), nullable=True),
        sa.Column("lifted_after_batch", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("card_loss_card", "card_loss", ["card"])
    op.create_table(
        "card_seen",
        sa.Column("card", sa.BigInteger(), sa.ForeignKey("card.id"), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("ctr", sa.Integer(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("intent_seq", sa.BigInteger(), nullable=False),
        sa.Column("before_fen", sa.BigInteger(), nullable=False),
        sa.Column("after_fen", sa.BigInteger(), nullable=False),
        sa.Column("event_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("card", "class", "ctr"),
    )
    op.create_table(
        "lane",
        sa.Column("terminal", sa.BigInteger(), sa.ForeignKey("terminal.id"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_seq", sa.BigInteger(), nullable=False),
        sa.Column("tip_h", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("mark_us", sa.BigInteger(), nullable=False),
        sa.Column("clock_offset_us", sa.BigInteger(), nullable=False),
        sa.Column("granted_us", sa.BigInteger(), nullable=False),
        sa.Column("prev_epoch", sa.BigInteger(), nullable=False),
        sa.Column("prev_seq", sa.BigInteger(), nullable=False),
        sa.Column("prev_h", sa.LargeBinary(), nullable=False),
        sa.Column("h0", sa.LargeBinary(), nullable=False),
        sa.Column("hw0_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("terminal", "epoch"),
    )
    op.create_table(
        "terminal_key",
        sa.Column("kid", sa.LargeBinary(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), sa.ForeignKey("terminal.id"), nullable=False),
        sa.Column("spki", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cert_pem", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid"),
    )
    op.create_index("terminal_key_terminal", "terminal_key", ["terminal"])
    refuse_changes(op.get_bind(), JOURNAL_LIKE)
    seed(op.get_bind())
