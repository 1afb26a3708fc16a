"""The Damm check digit: every single wrong digit and every adjacent swap is seen (codes.md §2.2)."""

from __future__ import annotations

_ROWS = (
    "0317598642",
    "7092154863",
    "4206871359",
    "1750983426",
    "6123045978",
    "3674209581",
    "5869720134",
    "8945362017",
    "9438617205",
    "2581436790",
)
_TABLE = tuple(tuple(map(int, row)) for row in _ROWS)


def damm(digits: str) -> int:
    """The check digit of a string of decimal digits; 0 for a whole code that is right."""
    assert digits.isascii(), digits
    assert digits.isdigit(), digits
    interim = 0
    for digit in digits:
        interim = _TABLE[interim][int(digit)]
    return interim


def with_check(digits: str) -> str:
    """The digits with their check digit behind them."""
    return f"{digits}{damm(digits)}"


def grouped(code: str) -> str:
    """`826845710` as people read it: `826 845 710`."""
    return " ".join(code[n : n + 3] for n in range(0, len(code), 3))
