"""Every invariant of the books (ledger.md §11), each by its own arithmetic; `onecard audit --db`.

A check never repeats the sum that made a number: balances are summed again from transfers,
transfers are posted again from the signed archive, the archive is chained and verified again, and
certificates are computed again where the keys are at hand. Each violation names keys and amounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from sync.central import audit_cards, audit_lanes, audit_money, audit_rebuild
from sync.central.engine import reading
from sync.central.tac import TacDesk

SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: its id, whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Scope:
    """How far an audit goes."""

    full: bool
    keys: TacDesk | None
    now_us: int | None  # without it the age of items is not judged


Finding = tuple[list[str], str]  # violations, and what was looked at

CHECKS: tuple[tuple[str, Callable[[Connection, Scope], Finding]], ...] = (
    ("C1 balances", lambda c, s: audit_money.balances(c)),
    ("C2 lanes", lambda c, s: audit_lanes.lanes(c, s.full)),
    ("C3 rebuild", lambda c, s: audit_rebuild.rebuild(c, s.full)),
    ("C4 floors", lambda c, s: audit_money.floors(c)),
    ("C5 holds", lambda c, s: audit_money.holds(c)),
    ("C6 purses", lambda c, s: audit_cards.purses(c)),
    ("C7 loads", lambda c, s: audit_money.loads(c)),
    ("C8 prepaid", lambda c, s: audit_money.prepaid(c)),
    ("C9 reversals", lambda c, s: audit_money.reversals(c)),
    ("C10 clearing", lambda c, s: audit_money.clearing(c)),
    ("C11 merchants", lambda c, s: audit_money.merchants(c)),
    ("C12 suspense", lambda c, s: audit_money.suspense(c, s.now_us)),
    ("C13 acknowledged", lambda c, s: audit_lanes.acknowledged(c)),
    ("TAC certificates", lambda c, s: audit_cards.certificates(c, s.keys if s.full else None)),
)


def audit_books(
    engine: Engine, full: bool, keys: TacDesk | None = None, now_us: int | None = None
) -> list[Check]:
    """Run every check on one snapshot; `full` reads the whole archive, else each lane's end."""
    scope = Scope(full, keys, now_us)
    found = []
    with reading(engine) as connection:
        for name, check in CHECKS:
            violations, seen = check(connection, scope)
            found.append(Check(name, not violations, _detail(violations, seen)))
    return found


def _detail(violations: list[str], seen: str) -> str:
    if not violations:
        return seen
    more = len(violations) - SHOWN_MAX
    tail = [f"and {more} more"] if more > 0 else []
    return "; ".join([*violations[:SHOWN_MAX], *tail])
