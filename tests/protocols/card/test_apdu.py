import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.apdu import SW, Command, Response, describe, tries_left
from protocols.errors import ApduError

octet = st.integers(0, 255)
commands = st.builds(
    Command,
    octet,
    octet,
    octet,
    octet,
    st.binary(max_size=255),
    st.none() | st.integers(1, 256),
)


@given(commands)
def test_command_round_trip(command: Command) -> None:
    """Every command comes back from its bytes."""
    assert Command.decode(command.encode()) == command


@given(st.binary(max_size=256), st.integers(0, 0xFFFF))
def test_response_round_trip(body: bytes, sw: int) -> None:
    """Every answer comes back from its bytes."""
    response = Response(body, sw)
    assert Response.decode(response.encode()) == response


@given(st.binary(max_size=300))
def test_decoders_are_total(raw: bytes) -> None:
    """Any bytes give a value that encodes back, or CARD_APDU with field, offset and clause."""
    for codec in (Command, Response):
        got: Command | Response | ApduError
        try:
            got = codec.decode(raw)
        except ApduError as error:
            got = error
        if isinstance(got, ApduError):
            assert got.code == "CARD_APDU"
            assert set(got.facts) == {"field", "offset", "clause"}
        else:
            assert got.encode() == raw


@pytest.mark.parametrize(
    ("raw_hex", "field", "offset"),
    [
        ("", "header", 0),
        ("00A404", "header", 3),
        ("00A4040000", None, 0),
        ("00A404000000", "lc", 4),
        ("00A4040002AA", "body", 6),
        ("00A4040001AA", None, 0),
        ("00A4040001AA00", None, 0),
        ("00A4040001AA0000", "trailing", 7),
        ("00A40400000002AABB", "lc", 4),
    ],
)
def test_command_refusals(raw_hex: str, field: str | None, offset: int) -> None:
    """Cut, padded and extended commands are refused at the byte that is wrong."""
    raw = bytes.fromhex(raw_hex)
    if field is None:
        assert Command.decode(raw).encode() == raw
        return
    with pytest.raises(ApduError) as caught:
        Command.decode(raw)
    assert (caught.value.facts["field"], caught.value.facts["offset"]) == (field, offset)


@pytest.mark.parametrize("size", [0, 1, 259, 1000])
def test_answer_length_limits(size: int) -> None:
    """An answer is 2 to 258 bytes, nothing else."""
    with pytest.raises(ApduError):
        Response.decode(bytes(size))


def test_le_256_is_written_00() -> None:
    """Le 256 is the byte 00 and comes back as 256."""
    command = Command(0, 0xB0, 0, 0, le=256)
    assert command.encode().hex() == "00b0000000"
    assert Command.decode(command.encode()).le == 256


@pytest.mark.parametrize("wrong", [{"cla": 256}, {"body": bytes(256)}, {"le": 0}, {"le": 257}])
def test_impossible_command_is_our_bug(wrong: dict[str, int]) -> None:
    """A command no wire can carry is refused by assertion."""
    with pytest.raises(AssertionError):
        Command(**{"cla": 0, "ins": 0, "p1": 0, "p2": 0, **wrong})


@pytest.mark.parametrize("wrong", [{"sw": 65536}, {"sw": -1}, {"body": bytes(257)}])
def test_impossible_answer_is_our_bug(wrong: dict[str, int]) -> None:
    """An answer no wire can carry is refused by assertion."""
    with pytest.raises(AssertionError):
        Response(**{"body": b"", "sw": 0x9000, **wrong})


def test_every_status_word_has_words() -> None:
    """Each known status word, and each family, is described."""
    for sw in SW:
        assert "unknown" not in describe(sw)
    assert describe(0x6985) == "SW=0x6985 (conditions not satisfied)"
    assert describe(0x63C2) == "SW=0x63C2 (2 tries left)"
    assert describe(0x6110) == "SW=0x6110 (16 more bytes waiting)"
    assert describe(0x6C08) == "SW=0x6C08 (wrong Le, 8 expected)"
    assert describe(0x1234) == "SW=0x1234 (unknown)"
    assert tries_left(0x63C0) == 0
    assert tries_left(0x6300) is None
    assert Response(b"", 0x9000).ok
    assert not Response(b"", 0x9001).ok
