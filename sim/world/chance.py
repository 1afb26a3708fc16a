"""Chance of the world: one stream per (node, purpose), so that a new draw shifts no other stream."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.wire.cose import P256Signer
from sim.seeded import SeededRng

T = TypeVar("T")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Stream(SeededRng):
    """SHA-256 in counter mode over (seed, node, purpose)."""

    def between(self, low: int, high: int) -> int:
        """A whole number of low..high, both included."""
        return low + self.below(high - low + 1)

    def likely(self, ppm: int) -> bool:
        """True in `ppm` of a million draws."""
        return self.below(1_000_000) < ppm

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher and Yates)."""
        order = list(items)
        for n in range(len(order) - 1, 0, -1):
            other = self.below(n + 1)
            order[n], order[other] = order[other], order[n]
        return order


class Chance:
    """All streams of one seed, made once each."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[tuple[str, str], Stream] = {}

    def stream(self, node: str, purpose: str) -> Stream:
        """The stream of a node for one purpose."""
        key = (node, purpose)
        if key not in self._streams:
            self._streams[key] = Stream(self._seed, f"{node}/{purpose}")
        return self._streams[key]

    def signer(self, node: str) -> P256Signer:
        """A P-256 key that follows from the seed; signs deterministically."""
        raw = sha256(self.stream(node, "p256").token(32)).digest()
        secret = int.from_bytes(raw, "big") % (P256_ORDER - 1) + 1
        return P256Signer(ec.derive_private_key(secret, ec.SECP256R1()))
