"""Limits, tariff and denylist: each refusal by its code, each malformed list by LIST_FORM."""

from typing import Any

import pytest

from protocols.wire import cbor
from protocols.wire.lists import encode_set
from sim.till_office import POLICY, START_US, asn
from terminal.errors import ListFormError
from terminal.ledger.replay import State, business_day_index, meal_index
from terminal.lists import parse
from terminal.policy.limits import HOUR_MS, Policy, sale_refusal
from terminal.policy.offline import Ceilings, Silence, outbox_pct, stop_code
from terminal.policy.tariff import Tariff

CARD = asn(1)


def _policy(**changes: int | None) -> Policy:
    return Policy.of({**POLICY, "per_meal_count": 2, **changes})


def _state(spent: int = 0, meals: int = 0, unsynced: int = 0) -> State:
    state = State(day=business_day_index(START_US), meal=meal_index(START_US))
    state.day_fen[CARD] = spent
    state.meal_count[CARD] = meals
    state.unsynced.append((1, CARD, unsynced))
    state.unsynced_fen = unsynced
    return state


@pytest.mark.parametrize(
    ("fen", "state", "changes", "code"),
    [
        (100, _state(), {}, None),
        (20_000, _state(), {"pin_above_fen": None}, None),
        (20_001, _state(), {}, "LIMIT_TAP"),
        (10_000, _state(), {}, None),
        (10_001, _state(), {}, "PIN_UNAVAILABLE"),
        (1_000, _state(spent=49_000), {}, None),
        (1_001, _state(spent=49_000), {}, "LIMIT_DAY"),
        (100, _state(meals=1), {}, None),
        (100, _state(meals=2), {}, "LIMIT_DAY"),
        (1_000, _state(unsynced=29_000), {}, None),
        (1_001, _state(unsynced=29_000), {}, "LIMIT_OFFLINE"),
        (1_001, _state(unsynced=29_000), {"offline_card_day_fen": None}, None),
        (100, _state(unsynced=900), {"offline_fen": 999}, "LIMIT_OFFLINE"),
    ],
)
def test_one_sale(fen: int, state: State, changes: dict[str, Any], code: str | None) -> None:
    """The first limit that is passed names the refusal; at the limit it is still allowed."""
    assert sale_refusal(_policy(**changes), state, CARD, fen, START_US, 0) == code


def test_yesterday_does_not_count() -> None:
    """Day sums and meals belong to their business day and meal."""
    tomorrow_us = START_US + 86_400_000_000
    state = _state(spent=50_000, meals=2)
    assert sale_refusal(_policy(), state, CARD, 100, tomorrow_us, 0) is None


def test_old_lists_halve_the_card_cap() -> None:
    """When the centre was not heard for list_age_h, one card may owe half."""
    state = _state(unsynced=15_000)
    assert sale_refusal(_policy(), state, CARD, 100, START_US, 48 * HOUR_MS) is None
    late = sale_refusal(_policy(), state, CARD, 100, START_US, 48 * HOUR_MS + 1)
    assert late == "LIMIT_OFFLINE"


@pytest.mark.parametrize(
    ("hours", "records", "unsynced", "code"),
    [
        (71, 0, 0, None),
        (73, 0, 0, "LIMIT_OFFLINE"),
        (0, 59_999, 0, None),
        (0, 60_000, 0, "SYNC_OUTBOX_FULL"),
        (0, 0, 999_999, None),
        (0, 0, 1_000_000, "LIMIT_OFFLINE"),
    ],
)
def test_till_stops(hours: int, records: int, unsynced: int, code: str | None) -> None:
    """Silence, a full outbox, and value the centre does not know close the till."""
    ceilings = Ceilings()
    pct = outbox_pct(records, 0, ceilings)
    state = _state(unsynced=unsynced)
    assert stop_code(_policy(), state, ceilings, hours * HOUR_MS, pct) == code


def test_too_many_unsynced_sales() -> None:
    """The count has its own ceiling."""
    state = State()
    state.unsynced.extend((n, CARD, 1) for n in range(100))
    assert stop_code(_policy(), state, Ceilings(unsynced_max=101), 0, 0) is None
    assert stop_code(_policy(), state, Ceilings(unsynced_max=100), 0, 0) == "LIMIT_OFFLINE"


def test_silence_counts_monotonic_time() -> None:
    """Aged by the wall clock once at boot, then only by time that passes; old words change nothing."""
    silence = Silence(START_US, START_US + 3_600_000_000, mono_ms=0)
    assert silence.quiet_ms(0) == HOUR_MS
    silence.heard(START_US + 1_800_000_000, START_US + 3_600_000_000, 0)
    assert silence.quiet_ms(5) == HOUR_MS // 2 + 5
    silence.heard(START_US + 1, None, 500)
    assert silence.quiet_ms(500) == HOUR_MS // 2 + 500
    silence.heard(START_US + 3_700_000_000, None, 1_000)
    assert silence.quiet_ms(1_700) == 700


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {**POLICY, "per_sale_fen": "1"},
        {**POLICY, "per_sale_fen": True},
        {**POLICY, "per_sale_fen": -1},
        {**POLICY, "offline_h": None},
        {**POLICY, "pin_above_fen": 2**40},
    ],
)
def test_malformed_policy(content: Any) -> None:
    """LIST_FORM names the field."""
    with pytest.raises(ListFormError):
        Policy.of(content)


def test_policy_of_a_later_version() -> None:
    """Keys this version does not know are left alone."""
    assert Policy.of({**POLICY, "new_rule": 3}).per_sale_fen == 20_000


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"prices": []},
        {"prices": {"1": ["米饭"]}},
        {"prices": {"1": ["米饭", 0]}},
        {"prices": {"1": ["x" * 21, 5]}},
        {"prices": {"1": ["米饭", "5"]}},
        {"prices": {1: ["米饭", 5]}},
    ],
)
def test_malformed_tariff(content: Any) -> None:
    """LIST_FORM names the field."""
    with pytest.raises(ListFormError):
        Tariff.of(content)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [1],
        [[b"short", "n", None, []]],
        [[asn(1), "n", None, [1]]],
        [[asn(1), 5, None, []]],
        [[asn(1), "n", None]],
    ],
)
def test_malformed_operators(rows: Any) -> None:
    """LIST_FORM, and nobody becomes an operator."""
    with pytest.raises(ListFormError):
        parse("operators", 1, cbor.dumps(rows))


def test_operators_have_known_rights_only() -> None:
    """A right this version does not know gives nothing."""
    found = parse("operators", 1, cbor.dumps([[asn(1), "王", None, ["shift", "fly"]]]))
    assert found[asn(1)].rights == {"shift"}


def test_denylist_is_exact() -> None:
    """Members are refused, neighbours are not."""
    cards = parse("cards", 3, encode_set({int.from_bytes(asn(n), "big") for n in (1, 5, 9)}))
    assert [cards.holds(asn(n)) for n in (1, 2, 5, 8, 9, 10)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]
