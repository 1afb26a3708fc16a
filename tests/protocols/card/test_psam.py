import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.psam import PsamMac1Answer, PsamMac1Ask, psam_check_mac2, psam_mac1
from protocols.errors import CardAnswerError
from protocols.money import FEN_MAX, Fen


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


octet = st.integers(0, 255)
asks = st.builds(
    PsamMac1Ask,
    sized(4),
    st.integers(0, 0xFFFF),
    st.integers(0, FEN_MAX).map(Fen),
    octet,
    sized(4),
    sized(3),
    octet,
    octet,
    sized(8),
    st.sampled_from((0, 8, 16)).flatmap(sized),
)


@given(asks)
def test_ask_round_trip(ask: PsamMac1Ask) -> None:
    """The MAC1 request comes back from its bytes, with one level or more."""
    assert PsamMac1Ask.decode(ask.encode()) == ask


@given(st.integers(0, FEN_MAX), sized(4))
def test_answer_round_trip(termseq: int, mac1: bytes) -> None:
    """The MAC1 answer comes back from its bytes."""
    answer = PsamMac1Answer(termseq, mac1)
    assert PsamMac1Answer.decode(answer.encode()) == answer


@given(st.binary(max_size=60))
def test_decoders_are_total(raw: bytes) -> None:
    """Any bytes give a value that encodes back, or CARD_ANSWER."""
    for codec in (PsamMac1Ask, PsamMac1Answer):
        got: PsamMac1Ask | PsamMac1Answer | CardAnswerError
        try:
            got = codec.decode(raw)
        except CardAnswerError as error:
            got = error
        if isinstance(got, CardAnswerError):
            assert set(got.facts) == {"field", "offset", "clause"}
        else:
            assert got.encode() == raw


def test_command_bytes() -> None:
    """70 and 72 as three public code bases write them (card.md §3)."""
    ask = PsamMac1Ask(
        bytes.fromhex("584633C9"),
        0x0102,
        Fen(1),
        6,
        bytes.fromhex("20161216"),
        bytes.fromhex("134600"),
        1,
        0,
        bytes.fromhex("1122334455667788"),
    )
    body = "584633C90102000000010620161216134600" + "0100" + "1122334455667788"
    assert psam_mac1(ask).encode() == bytes.fromhex("807000001C" + body + "08")
    assert psam_check_mac2(bytes(4)).encode() == bytes.fromhex("807200000400000000")


@pytest.mark.parametrize("size", [0, 27, 29, 35, 37])
def test_ask_lengths(size: int) -> None:
    """28 bytes and 8 for each further level, nothing between."""
    with pytest.raises(CardAnswerError):
        PsamMac1Ask.decode(bytes(size))


def test_misuse_is_our_bug() -> None:
    """A MAC2 of a wrong size never reaches the PSAM."""
    with pytest.raises(AssertionError):
        psam_check_mac2(bytes(3))
