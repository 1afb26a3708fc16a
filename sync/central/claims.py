"""One-time claim codes of the enrolment (sync.md §10): ten characters, 24 hours, five tries.

The first four characters find the row and are kept in clear; the whole code is kept as argon2id.
A second copy of a code cannot be shown: asking again makes a new one and voids the old.
"""

from __future__ import annotations

from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from firmware.base.rng import Rng

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no 0 O 1 I L
ALPHABET_SET = frozenset(ALPHABET)
LENGTH = 10
REF_LENGTH = 4
TRIES_MAX = 5
VALID_US = 24 * 3_600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of argon2id: RFC 9106's second choice scaled to a small server by default."""

    time: int = 2
    memory_kib: int = 19_456


CHEAP = Cost(1, 64)  # simulation and tests: the code's rules, not its hardness


@dataclass(frozen=True, slots=True)
class Claim:
    """A new code: `text` is shown once, the rest is stored."""

    text: str
    ref: str
    hash: str
    until_us: int


def normal(text: str) -> str:
    """A code as typed: upper case, without spaces and dashes."""
    return "".join(c for c in text.upper() if c not in " -")


def make(rng: Rng, cost: Cost, now_us: int) -> Claim:
    """A new claim code."""
    text = ""
    while len(text) < LENGTH:
        octet = rng.token(1)[0]
        if octet < 8 * len(ALPHABET):  # no bias towards the first letters
            text += ALPHABET[octet % len(ALPHABET)]
    hasher = _hasher(cost)
    sealed = hasher.hash(text, salt=rng.token(16))
    return Claim(text, text[:REF_LENGTH], sealed, now_us + VALID_US)


def fits(sealed: str, text: str, cost: Cost) -> bool:
    """Whether the code is the one that was sealed."""
    try:
        return _hasher(cost).verify(sealed, text)
    except (VerificationError, InvalidHashError):
        return False


def _hasher(cost: Cost) -> PasswordHasher:
    return PasswordHasher(time_cost=cost.time, memory_cost=cost.memory_kib, parallelism=1)
