from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.errors import Pn532AnswerError, Pn532FrameError
from protocols.reader import pn532
from protocols.reader.pn532 import (
    Ack,
    BadFrame,
    ErrorFrame,
    Event,
    ExchangeAnswer,
    FirmwareVersion,
    Frame,
    Nack,
    Splitter,
    Target,
    decode_frame,
    decode_targets,
    encode_targets,
)

frames = st.builds(
    Frame, st.sampled_from((0xD4, 0xD5)), st.integers(0, 255), st.binary(max_size=263)
)
events = frames | st.sampled_from((Ack(), Nack(), ErrorFrame()))
# UM0701-02: the manual's own frames, as hex.
GET_VERSION = "0000FF02FED4022A00"
VERSION_ANSWER = "0000FF06FAD50332010607E800"


def encoded(event: Event) -> bytes:
    """The bytes of a good event."""
    assert not isinstance(event, BadFrame)
    return event.encode()


@given(events)
def test_round_trip(event: Event) -> None:
    """Every frame comes back from its bytes, normal and extended."""
    assert decode_frame(encoded(event)) == event


@given(st.lists(events, max_size=6), st.integers(1, 40))
def test_any_pieces(sent: list[Event], size: int) -> None:
    """A stream gives the same frames in pieces of any size, one byte included."""
    stream = b"".join(encoded(event) for event in sent)
    for piece in (size, 1, max(len(stream), 1)):
        splitter = Splitter()
        got: list[Event] = []
        for start in range(0, len(stream), piece):
            got += splitter.feed(stream[start : start + piece])
        assert got == sent


@given(st.binary(max_size=300), st.integers(1, 7))
@example(bytes.fromhex("00FF00FF00FFFF00FF01FF7F81"), 1)
def test_noise_is_harmless(noise: bytes, size: int) -> None:
    """Any noise gives events of the known kinds, the same ones in any pieces, and an end."""
    whole = Splitter().feed(noise)
    splitter = Splitter()
    pieces: list[Event] = []
    for start in range(0, len(noise), size):
        pieces += splitter.feed(noise[start : start + size])
    assert pieces == whole
    assert all(isinstance(event, Event) for event in whole)


@given(st.binary(max_size=40).filter(lambda noise: b"\x00\xff" not in noise + b"\x00"), frames)
def test_resynchronises_after_noise(noise: bytes, frame: Frame) -> None:
    """Noise without a start code in front of a frame costs nothing."""
    assert Splitter().feed(noise + frame.encode()) == [frame]


@given(frames, st.data())
def test_one_wrong_byte(frame: Frame, data: st.DataObject) -> None:
    """A wrong byte inside TFI..DCS gives one dcs error and the next frame is read."""
    raw = bytearray(frame.encode())
    begin = 8 if raw[3:5] == b"\xff\xff" else 5
    at = data.draw(st.integers(begin, len(raw) - 2))
    raw[at] ^= data.draw(st.integers(1, 255))
    got = Splitter().feed(bytes(raw) + Ack().encode())
    assert got == [BadFrame("dcs"), Ack()]


def test_payload_is_never_a_frame() -> None:
    """A frame inside the payload of a damaged frame is not believed."""
    raw = bytearray(Frame(0xD5, 0x41, Frame(0xD5, 0x41, b"\x00\x90\x00").encode()).encode())
    raw[-2] ^= 0xFF
    assert Splitter().feed(bytes(raw)) == [BadFrame("dcs")]


@pytest.mark.parametrize(
    ("raw_hex", "field"),
    [
        ("0000FF02FDD4022A00", "lcs"),
        ("0000FFFFFF0102FED4", "lcs"),
        ("0000FF0000", "length"),
        ("0000FFFFFF010AF5", "length"),
        ("0000FFFFFFFFFF02", "length"),
        ("0000FF02FED402FF00", "dcs"),
        ("0000FF02FE01020000", "dcs"),
        ("0000FF02FE0102FD00", "tfi"),
        ("0000FF01FFD42C00", "tfi"),
    ],
)
def test_bad_frames(raw_hex: str, field: str) -> None:
    """Length checksum, limits, checksum and frame identifier are each told apart, then resync."""
    raw = bytes.fromhex(raw_hex)
    got = Splitter().feed(raw + Nack().encode())
    assert got[0] == BadFrame(field)
    assert got[-1] == Nack()
    with pytest.raises(Pn532FrameError) as caught:
        decode_frame(raw)
    assert caught.value.facts["field"] == field


def test_length_limit_is_the_chips() -> None:
    """265 bytes with TFI and code pass, 266 are refused, and what is held stays bounded."""
    longest = Frame(0xD5, 0x41, bytes(263))
    assert Splitter().feed(longest.encode()) == [longest]
    with pytest.raises(AssertionError):
        Frame(0xD5, 0x41, bytes(264))
    splitter = Splitter()
    for _ in range(2000):
        assert splitter.feed(b"\x00" * 50) == []
    assert len(splitter._held) <= 1


@pytest.mark.parametrize(
    ("raw_hex", "field", "offset"),
    [
        ("", "preamble", 0),
        ("00FF00FF00", "preamble", 0),
        ("550000FF00FF00", "preamble", 0),
        ("AA00FF00FF00", "preamble", 0),
        ("0000FF00FF", "postamble", 5),
        ("0000FF00FF01", "postamble", 5),
        ("0000FF00FF0000", "trailing", 6),
        ("0000FF02FED402", "cut", 7),
        (GET_VERSION + "00", "trailing", 9),
    ],
)
def test_single_frame_refusals(raw_hex: str, field: str, offset: int) -> None:
    """One frame means exactly one: padding, cuts and trailing bytes are named."""
    with pytest.raises(Pn532FrameError) as caught:
        decode_frame(bytes.fromhex(raw_hex))
    assert (caught.value.facts["field"], caught.value.facts["offset"]) == (field, offset)


@given(st.binary(max_size=300))
def test_single_frame_is_total(raw: bytes) -> None:
    """Any bytes give a frame or PN532_FRAME."""
    try:
        decode_frame(raw)
    except Pn532FrameError as error:
        facts = set(error.facts)
    else:
        return
    assert facts == {"field", "offset", "clause"}


@pytest.mark.parametrize(
    ("frame", "raw_hex"),
    [
        (pn532.get_firmware_version(), GET_VERSION),
        (pn532.sam_configuration(), "0000FF05FBD4140100001700"),
        (pn532.set_baud(921600), "0000FF03FDD410071500"),
        (pn532.rf_field(on=True), "0000FF04FCD4320101F800"),
        (pn532.rf_field(on=False), "0000FF04FCD4320100F900"),
        (pn532.rf_retries(2), "0000FF06FAD43205FF0102F300"),
        (pn532.list_passive_target(), "0000FF04FCD44A0100E100"),
        (pn532.release(), "0000FF03FDD45200DA00"),
        (pn532.data_exchange(bytes.fromhex("0084000004")), "0000FF08F8D440010084000004" + "6300"),
        (pn532.communicate_thru(b"\xe0\x80"), "0000FF04FCD442E0808A00"),
    ],
)
def test_command_bytes(frame: Frame, raw_hex: str) -> None:
    """Commands are the bytes of card.md §8.2; the sums were made by hand from the rule."""
    assert frame.encode() == bytes.fromhex(raw_hex)
    assert sum(bytes.fromhex(raw_hex)[5:-1]) % 256 == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: pn532.set_baud(12345),
        lambda: pn532.rf_retries(255),
        lambda: pn532.list_passive_target(3),
        lambda: Frame(0xD6, 0),
    ],
)
def test_misuse_is_our_bug(wrong: Callable[[], Frame]) -> None:
    """Endless retries, unknown rates and foreign frame identifiers are refused by assertion."""
    with pytest.raises(AssertionError):
        wrong()


def test_version_answer() -> None:
    """The manual's version answer is read; another command's answer is not."""
    frame = decode_frame(bytes.fromhex(VERSION_ANSWER))
    assert isinstance(frame, Frame)
    body = pn532.expect(frame, pn532.GET_FIRMWARE_VERSION)
    assert FirmwareVersion.decode(body) == FirmwareVersion(0x32, 1, 6, 7)
    assert FirmwareVersion.decode(body).encode() == body
    with pytest.raises(Pn532AnswerError, match="code"):
        pn532.expect(frame, pn532.RELEASE)
    with pytest.raises(Pn532AnswerError, match="tfi"):
        pn532.expect(pn532.get_firmware_version(), 0x01)
    with pytest.raises(Pn532AnswerError):
        FirmwareVersion.decode(body + b"\x00")


@given(st.integers(0, 255), st.binary(max_size=262))
def test_exchange_round_trip(status: int, body: bytes) -> None:
    """Status and bytes of the card come back; flags are told from the error."""
    answer = ExchangeAnswer(status, body)
    assert ExchangeAnswer.decode(answer.encode()) == answer
    assert answer.error == status % 64
    assert answer.more is bool(status // 64 % 2)


def test_exchange_without_status() -> None:
    """An answer without its status byte is refused."""
    with pytest.raises(Pn532AnswerError):
        ExchangeAnswer.decode(b"")


def target(number: int, sel_res: int, uid: bytes, ats: bytes) -> Target:
    return Target(number, b"\x00\x04", sel_res, uid, ats if sel_res & 0x20 else b"")


targets = st.builds(
    target,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=10),
    st.binary(max_size=20),
)


@given(st.lists(targets, max_size=2))
def test_targets_round_trip(found: list[Target]) -> None:
    """None, one or two targets come back; trailing and cut bytes are refused."""
    raw = encode_targets(found)
    assert decode_targets(raw) == tuple(found)
    with pytest.raises(Pn532AnswerError):
        decode_targets(raw + b"\x00")
    for size in range(len(raw)):
        with pytest.raises(Pn532AnswerError):
            decode_targets(raw[:size])


@given(st.binary(max_size=60))
def test_targets_are_total(raw: bytes) -> None:
    """Any bytes give targets or PN532_ANSWER."""
    try:
        got = decode_targets(raw)
    except Pn532AnswerError as error:
        facts = set(error.facts)
    else:
        assert encode_targets(got) == raw
        return
    assert facts == {"field", "offset", "clause"}


def test_a_cpu_card_in_the_field() -> None:
    """An answer of 4A with one ISO 14443-4 card gives its UID and its ATS."""
    raw = bytes.fromhex("0101000420040102030410788094020020900000000000112233")
    (card,) = decode_targets(raw)
    assert card.speaks_apdu
    assert card.uid.hex() == "01020304"
    assert card.ats == raw[11:]


def test_a_cut_header_does_not_swallow_the_next_frame() -> None:
    """After a bad length the search goes on right behind the start code."""
    cut = bytes.fromhex("00FF02") + Ack().encode()[1:]
    assert Splitter().feed(cut) == [BadFrame("lcs"), Ack()]
    cut = bytes.fromhex("00FF") + Ack().encode()
    assert Splitter().feed(cut) == [BadFrame("length"), Ack()]
