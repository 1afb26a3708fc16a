"""Packed BCD digits, high nibble first, as the purse writes dates and card numbers."""

from __future__ import annotations

from protocols.errors import BcdError


def encode_bcd(digits: str) -> bytes:
    """Digits packed two to a byte. Raises BCD for an odd count or a non-digit."""
    if len(digits) % 2 or not (digits.isascii() and (digits.isdigit() or not digits)):
        raise BcdError(field="digits", offset=0, got=digits[:20])
    return bytes.fromhex(digits)


def decode_bcd(raw: bytes) -> str:
    """The digits of packed BCD. Raises BCD naming the offset of the first bad byte."""
    for offset, byte in enumerate(raw):
        if byte >> 4 > 9 or byte & 15 > 9:
            raise BcdError(field="digits", offset=offset, got=byte)
    return raw.hex()
