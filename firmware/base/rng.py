"""Chance as an injected port: `secrets` in production, one seed in simulation."""

from __future__ import annotations

import secrets
from typing import Protocol


class Rng(Protocol):
    """Unpredictable bytes and a uniform delay."""

    def token(self, count: int) -> bytes:
        """`count` random bytes."""

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        """A delay of low_ms..high_ms, both included."""


class SystemRng:
    """The operating system's random source."""

    def token(self, count: int) -> bytes:
        """`count` bytes fit for keys and challenges."""
        return secrets.token_bytes(count)

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        """A delay of low_ms..high_ms, both included."""
        assert low_ms <= high_ms, (low_ms, high_ms)
        return low_ms + secrets.randbelow(high_ms - low_ms + 1)
