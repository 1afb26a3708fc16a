"""Chance from one seed: the Rng of every simulation, the same bytes on every machine."""

from __future__ import annotations

import hashlib


class SeededRng:
    """SHA-256 in counter mode over a seed and a name; not for secrets."""

    def __init__(self, seed: int, name: str = "") -> None:
        self._key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        self._block = 0
        self._rest = b""

    def token(self, count: int) -> bytes:
        """`count` bytes."""
        while len(self._rest) < count:
            self._rest += hashlib.sha256(self._key + self._block.to_bytes(8, "big")).digest()
            self._block += 1
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def below(self, limit: int) -> int:
        """0..limit-1; the bias of 64 bits over any limit used here does not matter."""
        assert limit > 0, limit
        return int.from_bytes(self.token(8), "big") % limit

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        """A delay of low_ms..high_ms, both included."""
        return low_ms + self.below(high_ms - low_ms + 1)
