"""Prices behind the menu keys (list `tariff`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.money import FEN_MAX
from terminal.errors import ListFormError

NAME_MAX = 20


@dataclass(frozen=True, slots=True)
class Price:
    """What one menu key sells, in fen."""

    name: str
    fen: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """List `tariff`: price by key name."""

    prices: dict[str, Price]

    @classmethod
    def of(cls, content: Any) -> Tariff:
        """From {"prices": {key: [name, fen]}}. Raises LIST_FORM."""
        listed = content.get("prices") if type(content) is dict else None
        if type(listed) is not dict:
            raise ListFormError(list="tariff", field="prices")
        return cls({key: _price(key, row) for key, row in listed.items()})

    def price(self, key: str) -> Price | None:
        """The price behind a key, None if the key sells nothing."""
        return self.prices.get(key)


def _price(key: Any, row: Any) -> Price:
    if type(key) is not str or type(row) is not list or len(row) != 2:
        raise ListFormError(list="tariff", field="prices")
    name, fen = row
    if type(name) is not str or len(name) > NAME_MAX:
        raise ListFormError(list="tariff", field="name", key=key)
    if type(fen) is not int or not 0 < fen <= FEN_MAX:
        raise ListFormError(list="tariff", field="fen", key=key)
    return Price(name, fen)
