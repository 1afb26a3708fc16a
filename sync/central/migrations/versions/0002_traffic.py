"""The traffic: terminals, lanes, archive, evidence, lists, outbox.

Frozen: a later change of the schema is a new migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sync.central.migrations.triggers import refuse_changes

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JOURNAL_LIKE = ("segment", "quarantine")


def upgrade() -> None:
    """Tables and indexes, then triggers and what must be there from the start."""
    _alarm_to_list_taken()
    _list_version_to_segment()
    _terminal_to_terminal_key()
    refuse_changes(op.get_bind(), JOURNAL_LIKE)


def _alarm_to_list_taken() -> None:
    op.create_table(
        "alarm",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "boot",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.Column("boot_no", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "command",
        sa.Column("id", sa.LargeBinary(), primary_key=True),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cmd_epoch", sa.BigInteger(), nullable=True),
        sa.Column("cmd_seq", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
    )
    op.create_index("command_terminal", "command", ["terminal", "state"])
    op.create_table(
        "fork",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("terminal", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("resolved_by", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "list_part",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True),
        sa.Column("idx", sa.Integer(), primary_key=True),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "list_taken",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )


def _list_version_to_segment() -> None:
    op.create_table(
        "list_version",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("n_item", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("delta", sa.LargeBinary(), nullable=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("retain", sa.SmallInteger(), nullable=False),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("terminal", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("first_seq", sa.BigInteger(), nullable=True),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("quarantine_terminal", "quarantine", ["terminal", "received_us"])
    op.create_table(
        "segment",
        sa.Column("terminal", sa.BigInteger(), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
        sa.Column("first_seq", sa.BigInteger(), primary_key=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("tip_h", sa.LargeBinary(), nullable=False),
        sa.Column("cose", sa.LargeBinary(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("offset_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("segment_batch", "segment", ["batch"])


def _terminal_to_terminal_key() -> None:
    op.create_table(
        "terminal",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("code", sa.Text(), nullable=False, unique=True),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("merchant", sa.BigInteger(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("tid", sa.LargeBinary(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("claim_ref", sa.Text(), nullable=True, unique=True),
        sa.Column("claim_hash", sa.Text(), nullable=True),
        sa.Column("claim_until_us", sa.BigInteger(), nullable=True),
        sa.Column("claim_tries", sa.Integer(), nullable=False),
        sa.Column("dseq", sa.BigInteger(), nullable=False),
        sa.Column("held_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "lane",
        sa.Column("terminal", sa.BigInteger(), sa.ForeignKey("terminal.id"), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), primary_key=True),
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
    )
    op.create_table(
        "terminal_key",
        sa.Column("kid", sa.LargeBinary(), primary_key=True),
        sa.Column("terminal", sa.BigInteger(), sa.ForeignKey("terminal.id"), nullable=False),
        sa.Column("spki", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cert_pem", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("terminal_key_terminal", "terminal_key", ["terminal"])
