"""Primitives; the published purse values stand in tests/protocols/test_kat.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.suite import (
    SUITES,
    Pboc3Des,
    cbc_mac,
    fold,
    load_mac2_message,
    load_tac_message,
    pad80,
    purchase_mac1_message,
    purchase_tac_message,
    same_mac,
    tdes,
    xor,
)
from protocols.money import Fen

KEY16 = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
RND = bytes.fromhex("BB83BFF3")


def cbc_by_hand(key: bytes, last_key: bytes, iv: bytes, message: bytes) -> bytes:
    chain = iv
    padded = pad80(message)
    for start in range(0, len(padded), 8):
        last = start == len(padded) - 8
        chain = tdes(last_key if last else key, xor(chain, padded[start : start + 8]))
    return chain[:4]


def test_single_des_published() -> None:
    """DES with an 8-byte key equals the classic published example (FIPS 81, first block)."""
    key, plain = bytes.fromhex("0123456789ABCDEF"), b"Now is t"
    assert tdes(key, plain).hex().upper() == "3FA40E8A984D4815"


@given(st.binary(max_size=40))
def test_padding(message: bytes) -> None:
    """Padding is always there, ends a block, and is undone from the right."""
    padded = pad80(message)
    assert len(padded) % 8 == 0
    assert len(message) < len(padded) <= len(message) + 8
    assert padded.rstrip(b"\x00")[:-1] == message


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=64))
def test_cbc_mac_by_hand(key: bytes, message: bytes) -> None:
    """The CBC-MAC equals the chaining written out block by block."""
    assert cbc_mac(key, message) == cbc_by_hand(key, key, bytes(8), message)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=64))
def test_secure_messaging_mac_by_hand(key: bytes, message: bytes) -> None:
    """Left half chains, the whole key closes, the challenge is the IV."""
    by_hand = cbc_by_hand(key[:8], key, RND + bytes(4), message)
    assert Pboc3Des().sm_mac(key, RND, message) == by_hand


def test_degenerate_keys_and_warnings() -> None:
    """Equal halves make triple DES single DES; no key length raises a warning here."""
    half = bytes.fromhex("0102030405060708")
    assert tdes(half, bytes(8)) == tdes(half + half, bytes(8))
    assert fold(half + half) == bytes(8)
    assert fold(half) == half


def test_session_uses_the_low_half_of_the_terminal_serial() -> None:
    """Only the low two bytes of termseq enter SES; the counter does too."""
    suite = Pboc3Des()
    first = suite.purchase_session(KEY16, RND, 1, 0x0001FFFF)
    assert first == suite.purchase_session(KEY16, RND, 1, 0xFFFF)
    assert first != suite.purchase_session(KEY16, RND, 2, 0xFFFF)
    assert first != suite.load_session(KEY16, RND, 1)


def test_every_field_moves_the_message() -> None:
    """Changing any field changes what is signed; nothing is left out of MAC1 and TAC."""
    base = (Fen(1), 6, bytes(6), bytes(4), bytes(3))
    other = (Fen(2), 9, b"\1" * 6, b"\1" * 4, b"\1" * 3)
    for at in range(5):
        changed = tuple(other[n] if n == at else base[n] for n in range(5))
        assert purchase_mac1_message(*changed) != purchase_mac1_message(*base)
        assert load_mac2_message(*changed) == purchase_mac1_message(*changed)
    tac = (Fen(1), 6, bytes(6), 7, bytes(4), bytes(3))
    assert purchase_tac_message(*tac[:3], 8, *tac[4:]) != purchase_tac_message(*tac)
    assert len(purchase_tac_message(*tac)) == 22
    assert len(load_tac_message(Fen(1), 2, Fen(3), 2, bytes(6), bytes(7))) == 24


@pytest.mark.parametrize("size", [0, 7, 9, 15, 17, 24])
def test_key_lengths(size: int) -> None:
    """A key is 8 or 16 bytes; anything else is our bug."""
    with pytest.raises(AssertionError):
        tdes(bytes(size), bytes(8))
    with pytest.raises(AssertionError):
        fold(bytes(size))


def test_comparison_is_by_the_library() -> None:
    """Equal and unequal MACs, also of unequal length."""
    assert same_mac(b"abcd", b"abcd")
    assert not same_mac(b"abcd", b"abce")
    assert not same_mac(b"abcd", b"abc")


def test_registry() -> None:
    """The profile finds the suite by its name."""
    assert SUITES["pboc-3des"]().name == "pboc-3des"
