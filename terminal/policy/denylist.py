"""The set of blocked cards: exact, no false refusals (sync.md §7)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.wire.lists import asn_number


@dataclass(frozen=True, slots=True)
class Denylist:
    """List `cards` in one version."""

    version: int
    blocked: frozenset[int]

    def holds(self, asn: bytes) -> bool:
        """Whether this card is reported lost or blocked."""
        return asn_number(asn) in self.blocked
