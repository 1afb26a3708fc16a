"""The reservation code: nine digits that only the booked stall can check without a network.

All meaning comes from where and when it is typed; the code itself carries nothing (codes.md §2.2).
Records and logs carry the `code_id`, never the digits.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.codes.digits import damm, with_check
from protocols.errors import CodeLengthError, CodeTypoError, WireFormError

CODE_DIGITS = 9
SEQS = (0, 1)
TIERS = (0, 1, 2, 3)
CODE_ID_BYTES = 12
OPEN_SLOTS_MAX = 3  # more open windows at once would widen what a guess can hit (§2.3)
MINUTE_US = 60_000_000
ACTIVATE_BEFORE_US = 10 * MINUTE_US
ACTIVATE_AFTER_US = 15 * MINUTE_US
EXPIRES_AFTER_US = 90 * MINUTE_US
UTC_OFFSET_US = 8 * 3_600_000_000
DAY_US = 86_400_000_000
_SALT = b"onecard/resv/1"
_DOMAIN = b"resv1"


@dataclass(frozen=True, slots=True, order=True)
class CodeId:
    """What a code is for: bathhouse, home stall, day, slot (minutes after midnight), seq, tier."""

    bathhouse: int
    stall: int
    day: int
    slot: int
    seq: int
    tier: int

    def encode(self) -> bytes:
        """12 bytes, big-endian: u16 u16 u32 u16 u8 u8."""
        wide = ((self.bathhouse, 2), (self.stall, 2), (self.day, 4), (self.slot, 2))
        parts = [value.to_bytes(size, "big") for value, size in wide]
        return b"".join(parts) + bytes((self.seq, self.tier))

    @classmethod
    def decode(cls, raw: bytes) -> CodeId:
        """From 12 bytes. Raises WIRE_FORM."""
        if len(raw) != CODE_ID_BYTES:
            raise WireFormError(field="code_id", offset=len(raw), clause="codes.md 2.2")
        cuts = ((0, 2), (2, 4), (4, 8), (8, 10), (10, 11), (11, 12))
        return cls(*(int.from_bytes(raw[a:b], "big") for a, b in cuts))

    @property
    def start_us(self) -> int:
        """The slot's start in µs UTC (site in UTC+8)."""
        return self.day * DAY_US - UTC_OFFSET_US + self.slot * MINUTE_US

    @property
    def activate_from_us(self) -> int:
        """First instant at which the code may be keyed in."""
        return self.start_us - ACTIVATE_BEFORE_US

    @property
    def activate_until_us(self) -> int:
        """Last instant at which it may be activated."""
        return self.start_us + ACTIVATE_AFTER_US

    @property
    def expires_us(self) -> int:
        """The absolute end of everything, running sessions included."""
        return self.start_us + EXPIRES_AFTER_US


def stall_day_key(k_bath: bytes, bathhouse: int, stall: int, day: int) -> bytes:
    """K_stall_day: all that a stall ever holds, one day at a time; 32 bytes."""
    info = bathhouse.to_bytes(2, "big") + stall.to_bytes(2, "big") + day.to_bytes(4, "big")
    return HKDF(hashes.SHA256(), 32, _SALT, info).derive(k_bath)


def code_of(key: bytes, code_id: CodeId) -> str:
    """The nine digits of a code under its stall-day key."""
    message = _DOMAIN + code_id.bathhouse.to_bytes(2, "big") + code_id.stall.to_bytes(2, "big")
    message += code_id.slot.to_bytes(2, "big") + bytes((code_id.seq, code_id.tier))
    number = int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big") % 10**8
    return with_check(f"{number:08d}")


def check_typed(digits: str) -> str:
    """The digits if they can be a code at all. Raises RESV_LENGTH, RESV_TYPO (no guess)."""
    if len(digits) != CODE_DIGITS or not (digits.isascii() and digits.isdigit()):
        raise CodeLengthError(length=len(digits))
    if damm(digits) != 0:
        raise CodeTypoError(field="damm", offset=CODE_DIGITS - 1)
    return digits


def candidates(
    bathhouse: int, stall: int, days: Iterable[int], slots: Iterable[int], now_us: int
) -> Iterator[CodeId]:
    """Every code this stall would accept now: open slots × seq × tier (at most 24, §2.3)."""
    open_slots = [
        (day, slot)
        for day in days
        for slot in slots
        if (at := CodeId(bathhouse, stall, day, slot, 0, 0)).activate_from_us
        <= now_us
        <= at.activate_until_us
    ]
    assert len(open_slots) <= OPEN_SLOTS_MAX, open_slots
    for day, slot in open_slots:
        for seq in SEQS:
            for tier in TIERS:
                yield CodeId(bathhouse, stall, day, slot, seq, tier)


def match(typed: str, key_of_day: dict[int, bytes], among: Iterable[CodeId]) -> CodeId | None:
    """The candidate whose code was typed; every candidate is compared, in constant time each."""
    found: CodeId | None = None
    for candidate in among:
        key = key_of_day.get(candidate.day)
        if key is None:
            continue
        if hmac.compare_digest(code_of(key, candidate), typed):
            found = found or candidate
    return found
