"""Tables of the traffic: terminals, lanes, the archive, evidence, lists, outbox (ledger.md §4)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)

from sync.central.tables_books import KEY, metadata

terminal = Table(
    "terminal",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("site", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("merchant", BigInteger, ForeignKey("account.id"), nullable=False),
    Column("part", SmallInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("tid", LargeBinary),
    Column("generation", Integer, nullable=False),
    Column("claim_ref", Text, unique=True),
    Column("claim_hash", Text),
    Column("claim_until_us", BigInteger),
    Column("claim_tries", Integer, nullable=False),
    Column("dseq", BigInteger, nullable=False),
    Column("held_us", BigInteger),  # its unsettled total is held since (ledger.md §8)
    Column("created_us", BigInteger, nullable=False),
)

terminal_key = Table(
    "terminal_key",
    metadata,
    Column("kid", LargeBinary, primary_key=True),
    Column("terminal", BigInteger, ForeignKey("terminal.id"), nullable=False),
    Column("spki", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("cert_pem", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Index("terminal_key_terminal", "terminal"),
)

lane = Table(
    "lane",
    metadata,
    Column("terminal", BigInteger, ForeignKey("terminal.id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("next_seq", BigInteger, nullable=False),
    Column("tip_h", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("mark_us", BigInteger, nullable=False),
    Column("clock_offset_us", BigInteger, nullable=False),  # centre - terminal
    Column("granted_us", BigInteger, nullable=False),
    Column("prev_epoch", BigInteger, nullable=False),
    Column("prev_seq", BigInteger, nullable=False),
    Column("prev_h", LargeBinary, nullable=False),
    Column("h0", LargeBinary, nullable=False),
    Column("hw0_us", BigInteger, nullable=False),
)

boot = Table(
    "boot",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("boot_id", LargeBinary, nullable=False),
    Column("boot_no", BigInteger, nullable=False),
)

segment = Table(
    "segment",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),  # first seq posted from it
    Column("n", Integer, nullable=False),
    Column("tip_h", LargeBinary, nullable=False),
    Column("cose", LargeBinary, nullable=False),  # exactly what was signed
    Column("batch", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("offset_us", BigInteger, nullable=False),  # clock offset applied to its records
    Index("segment_batch", "batch"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("topic", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("code", Text, nullable=False),
    Column("terminal", BigInteger),
    Column("epoch", BigInteger),
    Column("first_seq", BigInteger),
    Column("received_us", BigInteger, nullable=False),
    Index("quarantine_terminal", "terminal", "received_us"),
)

fork = Table(
    "fork",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("terminal", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # first seq at which the branches differ, or may
    Column("code", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("resolved_by", BigInteger),
)

alarm = Table(
    "alarm",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("terminal", BigInteger),
    Column("code", Text, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # CBOR
)

command = Table(
    "command",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("terminal", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    Column("cose", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("cmd_epoch", BigInteger),
    Column("cmd_seq", BigInteger),
    Column("result", Text),
    Index("command_terminal", "terminal", "state"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("retain", SmallInteger, nullable=False),
)

list_version = Table(
    "list_version",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("n_item", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("content", LargeBinary),  # of the newest version only
    Column("head", LargeBinary, nullable=False),
    Column("delta", LargeBinary),
    Column("at_us", BigInteger, nullable=False),
)

list_part = Table(
    "list_part",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("cose", LargeBinary, nullable=False),
)

list_taken = Table(  # POLICY records: what each terminal has in force
    "list_taken",
    metadata,
    Column("terminal", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
