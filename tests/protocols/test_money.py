"""Money: integer fen, one parser, one formatter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import money
from protocols.errors import MoneyRangeError, MoneyTextError, MoneyTypeError


@given(st.integers(0, 10**10 - 1).filter(lambda n: n <= money.FEN_MAX))
def test_yuan_round_trip(amount: int) -> None:
    """Formatting then parsing gives the same fen."""
    assert money.parse_yuan(money.format_yuan(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"), [("0", 0), ("5", 500), ("12.3", 1230), ("12.30", 1230), ("0.05", 5)]
)
def test_parse(text: str, amount: int) -> None:
    """Yuan with up to two decimals."""
    assert money.parse_yuan(text) == amount


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.234", "1.", ".5", " 1", "1 ", "１", "1,00", "1e2", "999999999", "x"]
)
def test_parse_refuses(text: str) -> None:
    """Signs, spaces, full-width digits, more decimals: MONEY_TEXT."""
    with pytest.raises(MoneyTextError):
        money.parse_yuan(text)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_type_refused(value: object) -> None:
    """Only int is money; bool and float are not."""
    for mint in (money.fen, money.balance, money.format_yuan):
        with pytest.raises(MoneyTypeError):
            mint(value)  # type: ignore[operator]
    with pytest.raises(MoneyTypeError):
        money.mul_count(money.fen(1), value)  # type: ignore[arg-type]


def test_range_refused() -> None:
    """Records hold 0..2**32-1, balances signed 64 bit."""
    for bad in (-1, 2**32):
        with pytest.raises(MoneyRangeError):
            money.fen(bad)
    with pytest.raises(MoneyRangeError):
        money.balance(2**63)
    with pytest.raises(MoneyRangeError):
        money.sub(money.fen(1), money.fen(2))
    with pytest.raises(MoneyRangeError):
        money.add(money.fen(money.FEN_MAX), money.fen(1))
    with pytest.raises(MoneyRangeError):
        money.floor_div(money.fen(1), 0)


def test_arithmetic() -> None:
    """Sums, products and floored quotients."""
    assert money.total([money.fen(3), money.fen(4)]) == 7
    assert money.mul_count(money.fen(3), 4) == 12
    assert money.floor_div(money.fen(7), 2) == 3
    assert money.format_yuan(-105) == "-1.05"
