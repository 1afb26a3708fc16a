"""Bugs that can be planted, each a small change of the product at run time (faults.md §7).

A plant names the fault classes without which it cannot show; they are forced on in a planted run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firmware.base.sqlite import connect
from firmware.ports import Reply, Trouble
from protocols.card.card_profile import CardProfile
from protocols.card.recovery import Committed, Evidence, Intent, Verdict, Via, judge
from protocols.wire.cose import KeyRing, open1
from protocols.wire.record import Kind
from sim.world.parts import PRODUCT, Commit, Parts, Patch
from sync.central import ingest, ledger
from sync.central import ingest_core as core
from sync.central.tac import TacDesk, TacResult
from terminal.canteen import till
from terminal.canteen.asks import Answer, Append, Appended, Ask, Facts, Serve
from terminal.canteen.drive import Drive
from terminal.canteen.rules import PRODUCTION


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug by its name on the command line."""

    name: str
    meaning: str
    parts: Callable[[], Parts]
    needs: tuple[str, ...] = ()


def _rules(**changed: Any) -> Callable[[], Parts]:
    return lambda: replace(PRODUCT, rules=replace(PRODUCTION, **changed))


# ---- the till


def _prove_believed(intent: Intent, evidence: Evidence, profile: CardProfile) -> Verdict:
    if evidence.prove is not None:
        return Committed(Via.PROVE, evidence.prove.tac)
    return judge(intent, evidence, profile)


def _serve_first(capture: Append, serve: Serve) -> Generator[Ask, Answer, int]:
    yield serve
    appended = yield capture
    assert isinstance(appended, Appended), appended
    return appended.seq


def _checked_then_polled(facts: Facts, asn: bytes) -> bool:
    """The denylist of a moment ago, and the newer one taken into use behind it."""
    blocked = facts.blocked(asn)
    facts._ports.news.poll()  # type: ignore[attr-defined]  # the till's own facts
    return blocked


class _LateDrive(Drive):
    """INTENT is written when the DEBIT has been answered."""

    _held: Append | None = None

    def _perform(self, ask: Ask) -> Answer:
        if isinstance(ask, Append) and ask.kind is Kind.INTENT:
            self._held = ask
            return Appended(self._journal.tip.seq + 1)
        return super()._perform(ask)

    def on_reply(self, reply: Reply) -> None:
        """The card's answer; the record follows it."""
        self._write()
        super().on_reply(reply)

    def on_trouble(self, trouble: Trouble) -> None:
        """No answer; the record follows all the same."""
        self._write()
        super().on_trouble(trouble)

    def _write(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            super()._perform(held)


# ---- disk and acknowledgements


def _normal(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _early_commit() -> Commit:
    """Answers before COMMIT returned: each write reaches the disk with the next one."""
    waiting: list[tuple[sqlite3.Connection, str, Sequence[Any]]] = []

    def commit(connection: sqlite3.Connection, sql: str, row: Sequence[Any]) -> sqlite3.Cursor:
        while waiting:
            older, text, values = waiting.pop()
            if older is connection:
                older.execute(text, values)
        if sql == "COMMIT":
            return connection.execute(sql, row)
        waiting.append((connection, sql, row))
        return connection.cursor()

    return commit


class _TrustingRing(KeyRing):
    """Takes every envelope for the centre's."""

    def open(self, raw: bytes, limit: int = 1 << 18) -> bytes:
        """The payload, whoever signed it."""
        return open1(raw, limit).payload


# ---- the centre


def _no_cursor(arrival: core.Arrival, lane: core.Lane | None, archived: Any) -> core.Verdict:
    verdict = core.judge(arrival, lane, archived)
    again = isinstance(verdict, core.Again | core.Missing)
    return core.Post(0) if again else verdict


def _gap_skipped(arrival: core.Arrival, lane: core.Lane | None, archived: Any) -> core.Verdict:
    verdict = core.judge(arrival, lane, archived)
    return core.Post(0) if isinstance(verdict, core.Missing) else verdict


def _cursor_set(connection: Any, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        connection.exec_driver_sql(
            "UPDATE lane SET next_seq = ?, tip_h = ?, mark_us = ? WHERE terminal = ? AND epoch = ?",
            (row["nx"], row["tip"], row["mark"], row["t"], row["e"]),
        )


def _ignoring() -> dict[str, Any]:
    """A second row with the same key is nothing: what hides a double posting."""
    return {name: one.prefix_with("OR IGNORE") for name, one in ledger._INSERTS.items()}


def _tac_ok(desk: TacDesk, intent: Any, tac: bytes | None) -> TacResult:
    return TacResult.OK


def _lane_patches() -> tuple[Patch, ...]:
    return (
        (ingest, "judge", _no_cursor),
        (ingest, "move_cursor", _cursor_set),
        (ledger, "_INSERTS", _ignoring()),
    )


PLANTS: tuple[Plant, ...] = (
    Plant(
        "prune-on-puback",
        "the till deletes records when the broker has them (M11)",
        lambda: replace(PRODUCT, puback_counts=True),
        ("centre", "amnesia"),
    ),
    Plant(
        "sync-normal",
        "the journal runs with synchronous=NORMAL (M01)",
        lambda: replace(PRODUCT, open_file=_normal),
        ("power",),
    ),
    Plant(
        "no-lane-check",
        "the centre posts without comparing the lane's cursor (M14)",
        lambda: replace(PRODUCT, patches=_lane_patches()),
        ("duplicate", "loss"),
    ),
    Plant(
        "prove-9000",
        "9000 from GET TRANSACTION PROVE is taken for proof (M08)",
        _rules(judge=_prove_believed),
        ("tear", "foreign"),
    ),
    Plant(
        "serve-before-capture",
        "the sale is announced before its CAPTURE is durable (M07)",
        _rules(finish=_serve_first),
    ),
    Plant(
        "prev-not-carried",
        "INTENT does not carry the card's record before it (M09)",
        _rules(carry_prev=lambda prev: None),
    ),
    Plant(
        "record-believed",
        "a record without a MAC buys service without limit (M28)",
        _rules(service_on=lambda via, intent, facts: True),
        ("relay",),
    ),
    Plant(
        "policy-between",
        "a list is taken into use between its check and INTENT (M27)",
        lambda: replace(
            PRODUCT,
            rules=replace(PRODUCTION, blocked_at_intent=_checked_then_polled),
            lists_between=True,
        ),
        ("lost",),
    ),
    Plant(
        "ack-before-commit",
        "an append returns before its COMMIT (M04)",
        lambda: replace(PRODUCT, new_commit=_early_commit),
        ("power",),
    ),
    Plant(
        "intent-after-debit",
        "INTENT is written after the DEBIT (M06)",
        lambda: replace(PRODUCT, patches=((till, "Drive", _LateDrive),)),
    ),
    Plant(
        "ack-before-centre-commit",
        "the centre answers before its transaction is durable (M13)",
        lambda: replace(PRODUCT, ack_first=True),
        ("centre",),
    ),
    Plant(
        "gap-skipped",
        "the centre posts behind a gap (M15)",
        lambda: replace(PRODUCT, patches=((ingest, "judge", _gap_skipped),)),
        ("loss", "amnesia"),
    ),
    Plant(
        "wrong-tac-pays",
        "a wrong or missing TAC pays the merchant (M29)",
        lambda: replace(PRODUCT, patches=((TacDesk, "check", _tac_ok),)),
        ("relay",),
    ),
    Plant(
        "unsigned-ack",
        "the till believes acknowledgements that the centre did not sign (M31)",
        lambda: replace(PRODUCT, trust=lambda ring: _TrustingRing(())),
        ("forger",),
    ),
)
NAMES = tuple(plant.name for plant in PLANTS)


def build(name: str | None) -> tuple[Parts, tuple[str, ...]]:
    """The parts of a world with this bug, and the fault classes it needs to show."""
    if name is None:
        return PRODUCT, ()
    plant = next(plant for plant in PLANTS if plant.name == name)
    return plant.parts(), plant.needs


@contextmanager
def planted(parts: Parts) -> Iterator[None]:
    """The product with the patches of these parts, and as it was afterwards."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts.patches]
    try:
        for owner, name, planted_one in parts.patches:
            setattr(owner, name, planted_one)
        yield
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)
