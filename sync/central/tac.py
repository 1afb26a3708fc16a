"""The transaction certificate of a sale, recomputed under the card's own key (ledger.md §8).

Only the card and the centre can compute it, so a stolen device key cannot print money. Master keys
stay in the key store; a diversified key lives in this process's cache only.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from firmware.base.errors import KeyMissingError
from firmware.base.keys import KeyStore
from protocols.card.suite import Pboc3Des, Suite, purchase_tac_message, same_mac
from protocols.money import Fen
from protocols.wire.record import Record

CACHE_MAX = 50_000
ASN8 = 8
EVIDENCE_TAC = 2  # place of the TAC in DOUBT_UP's evidence


class TacResult(IntEnum):
    """Outcome of a check; stored."""

    OK = 0
    MISSING = 1
    BAD = 2
    UNKNOWN_KEY = 3


class MasterKeys(Protocol):
    """Lends the TAC master key of a version to a function; None where there is none."""

    def use(self, version: int, act: Callable[[bytes], bytes]) -> bytes | None:
        """What `act` computes from the key."""


class StoredKeys:
    """Master keys of the file store under `MTK.<version>`."""

    def __init__(self, store: KeyStore, prefix: str = "MTK") -> None:
        self._store = store
        self._prefix = prefix

    def use(self, version: int, act: Callable[[bytes], bytes]) -> bytes | None:
        """What `act` computes from the key of that version."""
        try:
            return self._store.use(f"{self._prefix}.{version}", act)
        except KeyMissingError:
            return None


class GivenKeys:
    """Master keys in memory, by version: simulation and tests."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        self._keys = keys

    def use(self, version: int, act: Callable[[bytes], bytes]) -> bytes | None:
        """What `act` computes from the key of that version."""
        key = self._keys.get(version)
        return None if key is None else act(key)


class TacDesk:
    """Checks certificates; caches diversified keys, bounded."""

    def __init__(self, keys: MasterKeys, suite: Suite | None = None) -> None:
        self._keys = keys
        self._suite = suite or Pboc3Des()
        self._cache: dict[tuple[int, bytes], bytes] = {}

    def check(self, intent: Record | None, tac: bytes | None) -> TacResult:
        """Whether `tac` is the card's certificate over the INTENT's fields."""
        if tac is None or tac == bytes(4):
            return TacResult.MISSING
        message = None if intent is None else tac_message(intent)
        if intent is None or intent.inst is None or message is None:
            return TacResult.BAD
        key = self._key(intent.get("keyver"), intent.inst)
        if key is None:
            return TacResult.UNKNOWN_KEY
        ours = self._suite.tac(key, message)
        return TacResult.OK if same_mac(ours, tac) else TacResult.BAD

    def _key(self, version: int | None, asn: bytes) -> bytes | None:
        if version is None or len(asn) < ASN8:
            return None
        name = (version, asn)
        found = self._cache.get(name)
        if found is None:
            found = self._keys.use(version, lambda mk: self._suite.diversify(mk, asn[-ASN8:]))
            if found is None:
                return None
            if len(self._cache) >= CACHE_MAX:
                self._cache.clear()
            self._cache[name] = found
        return found


def tac_message(intent: Record) -> bytes | None:
    """What the card signed, from its INTENT; None where a field is missing."""
    parts = [intent.get(name) for name in ("type", "tid", "termseq", "date", "time")]
    if any(part is None for part in parts):
        return None
    kind, tid, termseq, date, time = parts
    return purchase_tac_message(Fen(intent.fen), kind, tid, termseq, date, time)


def evidence_tac(evidence: object) -> bytes | None:
    """The TAC that PROVE gave, from DOUBT_UP's evidence [prove_sw, mac, tac, records, …]."""
    if type(evidence) is not list or len(evidence) <= EVIDENCE_TAC:
        return None
    found = evidence[EVIDENCE_TAC]
    return found if type(found) is bytes and len(found) == 4 else None
