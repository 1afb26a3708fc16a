"""The campus policy and what it says about one sale (terminals.md §6.1, ledger.md §3.5)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from protocols.money import FEN_MAX
from terminal.errors import ListFormError
from terminal.ledger.replay import State

HOUR_MS = 3_600_000
_OBLIGATORY = frozenset({"per_sale_fen", "per_day_fen", "offline_fen", "offline_h"})


@dataclass(frozen=True, slots=True)
class Policy:
    """List `policy`. Amounts in fen, hours as whole hours; None means no such limit."""

    per_sale_fen: int
    per_day_fen: int
    offline_fen: int
    offline_h: int
    offline_card_day_fen: int | None = None
    per_meal_count: int | None = None
    pin_above_fen: int | None = None
    list_age_h: int | None = None

    @classmethod
    def of(cls, content: Any) -> Policy:
        """From the list's map; keys of a later version are left alone. Raises LIST_FORM."""
        if type(content) is not dict:
            raise ListFormError(list="policy", field="map")
        values: dict[str, int | None] = {}
        for field in fields(cls):
            value = content.get(field.name)
            if value is None and field.name not in _OBLIGATORY:
                continue
            if type(value) is not int or not 0 <= value <= FEN_MAX:
                raise ListFormError(list="policy", field=field.name)
            values[field.name] = value
        return cls(**values)  # type: ignore[arg-type]  # checked: int where int is declared


def sale_refusal(
    policy: Policy, state: State, asn: bytes, fen: int, at_us: int, quiet_ms: int
) -> str | None:
    """The code that refuses this sale, or None. `quiet_ms`: since the centre was last heard."""
    if fen > policy.per_sale_fen:
        return "LIMIT_TAP"
    if policy.pin_above_fen is not None and fen > policy.pin_above_fen:
        return "PIN_UNAVAILABLE"
    if state.spent_today(asn, at_us) + fen > policy.per_day_fen:
        return "LIMIT_DAY"
    meals = policy.per_meal_count
    if meals is not None and state.meals_now(asn, at_us) >= meals:
        return "LIMIT_DAY"
    return _offline_refusal(policy, state, asn, fen, quiet_ms)


def _offline_refusal(
    policy: Policy, state: State, asn: bytes, fen: int, quiet_ms: int
) -> str | None:
    """Ceilings on what the centre does not know yet; an old denylist halves the card's one."""
    if state.unsynced_fen + fen > policy.offline_fen:
        return "LIMIT_OFFLINE"
    cap = policy.offline_card_day_fen
    if cap is None:
        return None
    if policy.list_age_h is not None and quiet_ms > policy.list_age_h * HOUR_MS:
        cap //= 2
    return "LIMIT_OFFLINE" if state.unsynced_fen_of(asn) + fen > cap else None
