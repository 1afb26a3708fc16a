"""Lists the centre published: verified here, and in force only when the loop says so (sync.md §7).

`ListDesk.offer` verifies head, parts and digest of what lies in sync.db and demands a version above
the one in force. The till appends POLICY{list, version} and only then calls `accept`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from protocols.errors import OnecardError
from protocols.wire import cbor
from protocols.wire.cose import KeyRing
from protocols.wire.lists import ASN_BYTES, decode_set, join_parts, set_at
from protocols.wire.messages import ListDelta, ListHead, ListPart
from terminal.errors import ListFormError
from terminal.inbox import Inbox
from terminal.policy.denylist import Denylist
from terminal.policy.limits import Policy
from terminal.policy.tariff import Tariff

NAMES = ("cards", "operators", "policy", "tariff")
RIGHTS = frozenset({"shift", "void", "override"})


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who may act at the till with the own card."""

    name: str
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists in force; a name is missing until its first version came."""

    versions: dict[str, int] = field(default_factory=dict)
    cards: Denylist | None = None
    operators: dict[bytes, Operator] = field(default_factory=dict)
    policy: Policy | None = None
    tariff: Tariff | None = None

    def missing(self, seen: dict[str, int]) -> str | None:
        """The first list without which, or below whose version `seen`, nothing may be sold."""
        for name in NAMES:
            have = self.versions.get(name)
            if have is None or have < seen.get(name, 0):
                return name
        return None

    def holds(self, asn: bytes) -> bool:
        """Whether the denylist now in force names this card."""
        return self.cards is not None and self.cards.holds(asn)


@dataclass(frozen=True, slots=True)
class Offer:
    """A verified version that may be taken into use."""

    name: str
    version: int
    content: Any


class ListDesk:
    """The lists in force and the verification of newer ones."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._heads: dict[str, bytes] = {}
        self.current = Lists()
        self.problems: dict[str, str] = {}  # list name -> code of the last refused offer

    def offer(self, inbox: Inbox, floor: dict[str, int]) -> list[Offer]:
        """Verified versions newer than those in force and not below `floor` (the journal's)."""
        found = []
        for name in NAMES:
            head_raw = inbox.kept(f"list_head:{name}")
            if head_raw is None or self._heads.get(name) == head_raw:
                continue
            try:
                offered = self._verified(name, head_raw, inbox, floor.get(name, 0))
            except OnecardError as fault:
                self.problems[name] = fault.code
                continue
            self.problems.pop(name, None)
            self._heads[name] = head_raw
            if offered is not None:
                found.append(offered)
        return found

    def accept(self, offer: Offer) -> None:
        """Put a version in force; its POLICY record is durable already."""
        versions = {**self.current.versions, offer.name: offer.version}
        self.current = replace(self.current, versions=versions, **{offer.name: offer.content})

    def _verified(self, name: str, head_raw: bytes, inbox: Inbox, floor: int) -> Offer | None:
        head = ListHead.decode(self._ring.open(head_raw))
        if head.name != name:
            raise ListFormError(list=name, field="name")
        if head.version < floor or head.version <= self.current.versions.get(name, -1):
            return None
        parts = [ListPart.decode(self._ring.open(raw)) for raw in inbox.parts(name)]
        deltas = [ListDelta.decode(self._ring.open(raw)) for raw in inbox.deltas(name)]
        content = set_at(head, parts, deltas) if deltas else join_parts(head, parts)
        return Offer(name, head.version, parse(name, head.version, content))


def parse(name: str, version: int, content: bytes) -> Any:
    """What a list's content means. Raises LIST_FORM, WIRE_LIST, WIRE_FORM."""
    if name == "cards":
        return Denylist(version, decode_set(content))
    value = cbor.loads(content, depth_max=8)
    if name == "operators":
        return _operators(value)
    return Policy.of(value) if name == "policy" else Tariff.of(value)


def _operators(rows: Any) -> dict[bytes, Operator]:
    if type(rows) is not list:
        raise ListFormError(list="operators", field="rows")
    return dict(_operator(row) for row in rows)


def _operator(row: Any) -> tuple[bytes, Operator]:
    if type(row) is not list or len(row) < 4:
        raise ListFormError(list="operators", field="row")
    asn, name, _pin, rights = row[:4]
    if type(asn) is not bytes or len(asn) != ASN_BYTES or type(name) is not str:
        raise ListFormError(list="operators", field="asn")
    if type(rights) is not list or any(type(right) is not str for right in rights):
        raise ListFormError(list="operators", field="rights")
    return asn, Operator(name[:20], frozenset(rights) & RIGHTS)
