"""Money as integer fen: the only place where a Fen is made (ledger.md §2).

mypy refuses a bare int as Fen, but Fen + Fen is int: use the functions here, they check the range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NewType

from protocols.errors import MoneyRangeError, MoneyTextError, MoneyTypeError

Fen = NewType("Fen", int)

FEN_MAX = 2**32 - 1
BALANCE_MAX = 2**63 - 1
_YUAN = re.compile(r"([0-9]{1,8})(?:\.([0-9]{1,2}))?", re.ASCII)


def fen(amount: int) -> Fen:
    """An amount of a record, 0..2**32-1 fen. Raises MONEY_TYPE, MONEY_RANGE."""
    if type(amount) is not int:
        raise MoneyTypeError(field="fen", got=type(amount).__name__)
    if not 0 <= amount <= FEN_MAX:
        raise MoneyRangeError(field="fen", got=amount, max=FEN_MAX)
    return Fen(amount)


def balance(amount: int) -> Fen:
    """A balance in fen, signed 64 bit. Raises MONEY_TYPE, MONEY_RANGE."""
    if type(amount) is not int:
        raise MoneyTypeError(field="balance", got=type(amount).__name__)
    if not -BALANCE_MAX - 1 <= amount <= BALANCE_MAX:
        raise MoneyRangeError(field="balance", got=amount, max=BALANCE_MAX)
    return Fen(amount)


def add(left: Fen, right: Fen) -> Fen:
    """Sum in fen. Raises MONEY_RANGE above 2**32-1."""
    return fen(left + right)


def sub(left: Fen, right: Fen) -> Fen:
    """Difference in fen. Raises MONEY_RANGE below 0."""
    return fen(left - right)


def mul_count(unit: Fen, count: int) -> Fen:
    """Price times a count of pieces. Raises MONEY_TYPE, MONEY_RANGE."""
    if type(count) is not int:
        raise MoneyTypeError(field="count", got=type(count).__name__)
    return fen(unit * count)


def floor_div(amount: Fen, parts: int) -> Fen:
    """Amount divided by parts, rounded down. Raises MONEY_RANGE for parts < 1."""
    if parts < 1:
        raise MoneyRangeError(field="parts", got=parts, max=FEN_MAX)
    return fen(amount // parts)


def total(amounts: Iterable[Fen]) -> Fen:
    """Sum of amounts as a balance in fen. Raises MONEY_RANGE."""
    return balance(sum(amounts))


def parse_yuan(text: str) -> Fen:
    """`12.30` as 1230 fen; no sign, no space, no full-width digit, at most two decimals.

    Raises MONEY_TEXT, MONEY_RANGE.
    """
    found = _YUAN.fullmatch(text)
    if found is None:
        raise MoneyTextError(field="yuan", got=text[:16])
    return fen(int(found[1]) * 100 + int((found[2] or "0").ljust(2, "0")))


def format_yuan(amount: int) -> str:
    """1230 fen as `12.30`; a balance may be negative. Raises MONEY_TYPE."""
    if type(amount) is not int:
        raise MoneyTypeError(field="fen", got=type(amount).__name__)
    yuan, cents = divmod(abs(amount), 100)
    return f"{'-' if amount < 0 else ''}{yuan}.{cents:02d}"
