from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card import purse
from protocols.card.apdu import Command
from protocols.card.purse import (
    CreditAsk,
    DebitAnswer,
    DebitAsk,
    InitAsk,
    LoadInit,
    ProveAnswer,
    PurchaseInit,
    Purse,
)
from protocols.card.suite import Pboc3Des, fold
from protocols.errors import CardAnswerError
from protocols.money import FEN_MAX, Fen

TID = bytes.fromhex("001122334455")
DATE, TIME = bytes.fromhex("20161216"), bytes.fromhex("134600")
MAC = bytes.fromhex("D45737C5")
KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
SUITE = Pboc3Des()

octet = st.integers(0, 255)
amount = st.integers(0, FEN_MAX).map(Fen)
counter = st.integers(0, 0xFFFF)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


values = st.one_of(
    st.builds(InitAsk, octet, amount, sized(6)),
    st.builds(PurchaseInit, amount, counter, st.integers(0, 0xFFFFFF), octet, octet, sized(4)),
    st.builds(LoadInit, amount, counter, octet, octet, sized(4), sized(4)),
    st.builds(DebitAsk, st.integers(0, FEN_MAX), sized(4), sized(3), sized(4)),
    st.builds(CreditAsk, sized(4), sized(3), sized(4)),
    st.builds(DebitAnswer, sized(4), sized(4)),
    st.builds(ProveAnswer, sized(4), sized(4)),
)


@given(values)
def test_round_trip(value: DebitAnswer) -> None:
    """Every body comes back from its bytes."""
    assert type(value).decode(value.encode()) == value


@given(values, st.binary(min_size=1, max_size=4))
def test_trailing_and_cut(value: DebitAnswer, extra: bytes) -> None:
    """One byte too few or too many is refused, and the error says where."""
    raw = value.encode()
    with pytest.raises(CardAnswerError) as caught:
        type(value).decode(raw + extra)
    assert caught.value.facts["field"] == "trailing"
    assert caught.value.facts["offset"] == len(raw)
    for size in range(len(raw)):
        with pytest.raises(CardAnswerError):
            type(value).decode(raw[:size])


@given(st.binary(max_size=20))
def test_short_answers(raw: bytes) -> None:
    """Balance and TAC are four bytes or CARD_ANSWER."""
    for read in (purse.decode_balance, purse.decode_tac):
        if len(raw) == 4:
            assert read(raw) in (int.from_bytes(raw, "big"), raw)
        else:
            with pytest.raises(CardAnswerError):
                read(raw)


@pytest.mark.parametrize(
    ("command", "raw_hex"),
    [
        (purse.select_aid(bytes.fromhex("A00000000386980701")), "00A4040009A00000000386980701"),
        (purse.select_file(0x3F00), "00A40000023F00"),
        (purse.read_binary(0x15, 0, 0x1E), "00B095001E"),
        (purse.read_record(0x18, 1), "00B201C417"),
        (purse.get_balance(), "805C000204"),
        (purse.get_balance(Purse.ED), "805C000104"),
        (purse.init_purchase(Fen(1), TID, 0), "805001020B00000000010011223344550F"),
        (purse.init_purchase(Fen(1), TID), "805001020B01000000010011223344550F"),
        (purse.init_capp_purchase(Fen(1), TID), "805003020B01000000010011223344550F"),
        (purse.init_load(Fen(1), TID), "805000020B010000000100112233445510"),
        (
            purse.debit(0, DATE, TIME, MAC),
            "805401000F0000000020161216134600D45737C508",
        ),
        (purse.credit_load(DATE, TIME, MAC), "805200000B20161216134600D45737C504"),
        (purse.prove(6, 0x0102), "805A000602010208"),
        (purse.update_capp_cache(1, 0x17, b"\xaa"), "80DC01B801AA"),
        (purse.update_capp_cache(1, 0x17, b"\xaa", by_number=True), "80DC01BC01AA"),
        (purse.verify_pin(b"\x12\x34"), "00200000021234"),
        (purse.change_pin(b"\x12\x34", b"\x56\x78"), "805E0100051234FF5678"),
        (purse.get_challenge(), "0084000004"),
        (purse.get_challenge(8), "0084000008"),
        (purse.external_auth(3, bytes(8)), "0082000308" + "00" * 8),
        (purse.internal_auth(3, b"\x01" * 8), "0088000308" + "01" * 8),
        (purse.internal_auth(3, b"\x01" * 8, purse.Auth.MAC), "0088020308" + "01" * 8),
        (purse.update_binary(0x15, 2, b"\xaa\xbb"), "00D6950202AABB"),
        (purse.app_block(), "841E0000"),
        (purse.app_block(permanent=True), "841E0001"),
        (purse.app_unblock(), "84180000"),
        (purse.card_block(), "84160000"),
    ],
)
def test_builders(command: Command, raw_hex: str) -> None:
    """Every builder writes the bytes of card.md §2, and they decode to the same command."""
    assert command.encode() == bytes.fromhex(raw_hex)
    assert Command.decode(command.encode()) == command


def test_reload_pin_mac() -> None:
    """RELOAD PIN carries the MAC of the PIN bytes under DRPK left xor right."""
    command = purse.reload_pin(b"\x12\x34", SUITE, KEY)
    assert command.body == b"\x12\x34" + SUITE.mac(fold(KEY), b"\x12\x34")
    assert command.encode()[:5].hex() == "805e000006"


@pytest.mark.parametrize(
    ("build", "header", "lc"),
    [
        (lambda: purse.app_block(), "841e0000", 4),
        (lambda: purse.app_unblock(), "84180000", 4),
        (lambda: purse.card_block(), "84160000", 4),
        (lambda: purse.update_binary(0x15, 0, b"\xaa\xbb"), "04d69500", 6),
    ],
)
def test_secured(build: Callable[[], Command], header: str, lc: int) -> None:
    """Secure messaging sets CLA bit 04 and appends the MAC over header with final Lc and data."""
    rnd = bytes.fromhex("BB83BFF3")
    plain = build()
    command = purse.secured(plain, SUITE, KEY, rnd)
    raw = command.encode()
    assert raw[:4].hex() == header
    assert raw[4] == lc
    covered = raw[:5] + plain.body
    assert command.body == plain.body + SUITE.sm_mac(KEY, rnd, covered)
    assert purse.secured(plain, SUITE, KEY, bytes(4)) != command


DEFINITE = {
    0x9302,
    0x9401,
    0x9402,
    0x9403,
    0x6700,
    0x6901,
    0x6982,
    0x6985,
    0x6A81,
    0x6A82,
    0x6A86,
    0x6D00,
    0x6E00,
}


def test_definite_refusals_are_exactly_the_table() -> None:
    """Of all 65,536 status words exactly those of card.md §5.4 prove that no money moved."""
    assert {sw for sw in range(0x10000) if purse.definite_refusal(sw)} == DEFINITE


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: purse.verify_pin(b"1"),
        lambda: purse.verify_pin(bytes(7)),
        lambda: purse.get_challenge(5),
        lambda: purse.external_auth(0, bytes(7)),
        lambda: purse.auth_cryptogram(SUITE, KEY, bytes(5)),
        lambda: purse.init_purchase(Fen(1), bytes(5)),
        lambda: purse.debit(0, DATE, TIME, bytes(3)),
        lambda: purse.credit_load(DATE, bytes(2), MAC),
    ],
)
def test_misuse_is_our_bug(wrong: Callable[[], Command]) -> None:
    """Bytes of a wrong size never reach a card."""
    with pytest.raises(AssertionError):
        wrong()
