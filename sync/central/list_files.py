"""Lists as people write them (JSON) into lists as terminals read them (CBOR).

Only the form is judged here; a terminal judges again what it takes into use.
"""

from __future__ import annotations

import json
from typing import Any

from protocols.wire import cbor
from sync.central.lists import encode_operators
from sync.errors import ListContentError


def content_of(name: str, text: str) -> tuple[bytes, int]:
    """(content, number of items) of a list from JSON text. Raises OFFICE_LIST."""
    try:
        told = json.loads(text)
    except ValueError as fault:
        raise ListContentError(list=name, reason="not JSON") from fault
    makers = {"operators": _operators, "policy": _policy, "tariff": _tariff}
    if name not in makers:
        raise ListContentError(list=name, reason="not a list that is published from a file")
    return makers[name](told)


def _operators(told: Any) -> tuple[bytes, int]:
    """[{asn, name, pin?, rights}]"""
    try:
        rows = [
            (bytes.fromhex(row["asn"]), str(row["name"]), row.get("pin"), list(row["rights"]))
            for row in told
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise ListContentError(list="operators", reason="asn, name, pin, rights") from fault
    if any(len(row[0]) != 10 for row in rows):
        raise ListContentError(list="operators", reason="asn: 20 hexadecimal digits")
    return encode_operators(rows), len(rows)


def _policy(told: Any) -> tuple[bytes, int]:
    """{name: integer}"""
    if not isinstance(told, dict) or any(type(value) is not int for value in told.values()):
        raise ListContentError(list="policy", reason="a map of integers")
    return cbor.dumps(told), len(told)


def _tariff(told: Any) -> tuple[bytes, int]:
    """{"prices": {key: [name, fen]}}"""
    prices = told.get("prices") if isinstance(told, dict) else None
    fits = isinstance(prices, dict) and all(
        type(row) is list and len(row) == 2 and type(row[0]) is str and type(row[1]) is int
        for row in prices.values()
    )
    if not fits or not isinstance(prices, dict):
        raise ListContentError(list="tariff", reason="prices: {key: [name, fen]}")
    return cbor.dumps({"prices": prices}), len(prices)
