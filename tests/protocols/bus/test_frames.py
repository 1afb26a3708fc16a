"""Bus codecs: published frames, round trips, noise, and totality on any bytes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bus import cjt188, dlt645, modbus
from protocols.bus.line import BadFrame, crc16_modbus
from protocols.errors import BusFrameError, ModbusExceptionError

FRAMES = json.loads((Path(__file__).parents[1] / "vectors" / "frames.json").read_text("utf-8"))
DECODERS = {
    "Modbus RTU": modbus.Frame.decode,
    "CJ/T 188": cjt188.Frame.decode,
    "DL/T 645": dlt645.Frame.decode,
}
OURS = [f for f in FRAMES if f["protocol"] in DECODERS]


@pytest.mark.parametrize("frame", OURS, ids=lambda f: f["name"])
def test_published_frames(frame: dict[str, object]) -> None:
    """Valid ones decode and re-encode byte for byte, invalid ones are refused with their field."""
    raw = bytes.fromhex(str(frame["hex"]))
    decode = DECODERS[str(frame["protocol"])]
    if frame["valid"]:
        assert decode(raw).encode() == raw.lstrip(b"\xfe")
    else:
        with pytest.raises(BusFrameError) as caught:
            decode(raw)
        assert caught.value.facts["field"] == "checksum"


def test_documented_frames() -> None:
    """The frames of terminals.md §8.2: flash-on 1.5 s, shut, read inputs, read discretes."""
    assert modbus.write(1, 5, 0x200, 15).encode().hex() == "01050200000f8c76"
    assert modbus.write(1, 5, 0, 0).encode().hex() == "010500000000cdca"
    assert modbus.read(1, 4, 0, 9).encode().hex() == "010400000009300c"
    assert modbus.read(1, 2, 0, 5).encode().hex() == "010200000005b809"
    assert crc16_modbus(b"123456789") == 0x4B37  # the check value of CRC-16/MODBUS


@given(st.integers(0, 247), st.integers(1, 127), st.binary(max_size=250))
def test_modbus_round_trip(unit: int, function: int, body: bytes) -> None:
    """Encode then decode gives the frame."""
    frame = modbus.Frame(unit, function, body)
    assert modbus.Frame.decode(frame.encode()) == frame


@given(st.binary(min_size=7, max_size=7), st.integers(0, 255), st.binary(max_size=100))
def test_cjt188_round_trip(address: bytes, control: int, body: bytes) -> None:
    """Encode then decode gives the frame, preambles skipped."""
    frame = cjt188.Frame(0x10, address, control, body)
    assert cjt188.Frame.decode(b"\xfe\xfe" + frame.encode()) == frame


@given(st.binary(min_size=6, max_size=6), st.integers(0, 255), st.binary(max_size=200))
def test_dlt645_round_trip(address: bytes, control: int, body: bytes) -> None:
    """Encode then decode gives the frame; the 33H offset wraps."""
    frame = dlt645.Frame(address, control, body)
    assert dlt645.Frame.decode(frame.encode()) == frame


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@given(raw=st.binary(max_size=40))
def test_total(decode: object, raw: bytes) -> None:
    """Any bytes are a frame or BUS_FRAME."""
    try:
        decode(raw)  # type: ignore[operator]
    except BusFrameError as fault:
        assert fault.code == "BUS_FRAME"  # noqa: PT017 - the only error allowed


@pytest.mark.parametrize("module", [cjt188, dlt645], ids=["cjt188", "dlt645"])
@given(noise=st.binary(max_size=30), cut=st.integers(1, 7), data=st.data())
def test_splitter_finds_frames_in_noise(
    module: object, noise: bytes, cut: int, data: st.DataObject
) -> None:
    """Frames fed in any pieces, noise without a start byte between them, are all found in order."""
    name = "CJ/T 188" if module is cjt188 else "DL/T 645"
    valid = [bytes.fromhex(f["hex"]) for f in OURS if f["protocol"] == name and f["valid"]]
    chosen = data.draw(st.lists(st.sampled_from(valid), max_size=4))
    quiet = noise.replace(b"\x68", b"")
    stream = quiet + quiet.join(chosen) + quiet
    found: list[object] = []
    splitter = module.splitter()  # type: ignore[attr-defined]
    for n in range(0, len(stream), cut):
        found += splitter.feed(stream[n : n + cut])
    decoded = [DECODERS[name](raw) for raw in chosen]
    assert [f for f in found if not isinstance(f, BadFrame)] == decoded


def test_splitter_survives_false_starts() -> None:
    """Start bytes in noise cost bad frames and, at worst, the wait for one frame's length."""
    good = bytes.fromhex("68611001301215689c003516")
    splitter = dlt645.splitter()
    found = splitter.feed(b"\x68\x01\x02" + b"\x68" * 9 + good * 12)
    whole = [f for f in found if not isinstance(f, BadFrame)]
    assert whole == [dlt645.Frame.decode(good)] * 12
    assert any(isinstance(f, BadFrame) for f in found)


@given(st.binary(max_size=2_000))
def test_splitter_is_bounded(raw: bytes) -> None:
    """Whatever comes, the buffer stays below one frame's size."""
    for module in (cjt188, dlt645):
        splitter = module.splitter()
        splitter.feed(raw)
        assert len(splitter._buffer) <= 512


REQUEST = modbus.read(1, 4, 0, 2)
GOOD = modbus.Frame(1, 4, b"\x04\x00\x01\x00\x02").encode()


def test_reply_is_checked_against_its_request() -> None:
    """Unit, function, count and echo must match; the data comes back."""
    assert modbus.words_of(modbus.check_reply(REQUEST, GOOD)) == (1, 2)
    flash = modbus.write(1, 5, 0x200, 15)
    assert modbus.check_reply(flash, flash.encode()) == flash.body
    assert modbus.bits_of(b"\x05", 3) == (True, False, True)
    for field, bad in (
        ("unit", modbus.Frame(2, 4, b"\x04\x00\x01\x00\x02")),
        ("function", modbus.Frame(1, 3, b"\x04\x00\x01\x00\x02")),
        ("count", modbus.Frame(1, 4, b"\x02\x00\x01")),
        ("count", modbus.Frame(1, 4, b"\x04\x00\x01")),
    ):
        with pytest.raises(BusFrameError) as caught:
            modbus.check_reply(REQUEST, bad.encode())
        assert caught.value.facts["field"] == field
    with pytest.raises(BusFrameError):
        modbus.check_reply(flash, modbus.write(1, 5, 0x200, 14).encode())


def test_modbus_exception_is_typed() -> None:
    """Function with the high bit set is the board's refusal, with its code."""
    with pytest.raises(ModbusExceptionError) as caught:
        modbus.check_reply(REQUEST, modbus.Frame(1, 0x84, b"\x02").encode())
    assert caught.value.facts["exception"] == 2


def test_reply_length() -> None:
    """The master knows from three bytes how many will come."""
    assert modbus.reply_length(REQUEST, GOOD[:2]) is None
    assert modbus.reply_length(REQUEST, GOOD) == len(GOOD)
    assert modbus.reply_length(REQUEST, b"\x01\x84\x02") == 5
    assert modbus.reply_length(modbus.write(1, 5, 0, 0), b"\x01\x05\x00") == 8


def test_every_flipped_bit_is_refused() -> None:
    """CRC-16 sees every single bit."""
    for n in range(len(GOOD) * 8):
        bent = bytearray(GOOD)
        bent[n // 8] ^= 1 << n % 8
        with pytest.raises(BusFrameError):
            modbus.check_reply(REQUEST, bytes(bent))


def test_water_meter_reading() -> None:
    """The published read reply is 123.00 m3; a wrong unit or volume is named."""
    raw = bytes.fromhex("6810010000050800008116901f00002301002c000000002c0000000000000000004816")
    reply = cjt188.Frame.decode(raw)
    reading = cjt188.reading_of(reply, cjt188.MeterProfile())
    assert reading.volume_ml == 123_000_000
    for at, value, field in ((7, 0x99, "unit"), (3, 0xFF, "volume")):
        body = bytearray(reply.body)
        body[at] = value
        bad = cjt188.Frame(reply.meter_type, reply.address, reply.control, bytes(body))
        with pytest.raises(BusFrameError) as caught:
            cjt188.reading_of(bad, cjt188.MeterProfile())
        assert caught.value.facts["field"] == field


def test_valve_frames() -> None:
    """Force open 55 and close 99 as published."""
    address = bytes.fromhex("01131219000000")
    profile = cjt188.MeterProfile(low_first=False)
    for action, wanted in ((cjt188.VALVE_OPEN, "55cc16"), (cjt188.VALVE_CLOSE, "991016")):
        frame = cjt188.request(address, 4, cjt188.DI_VALVE, 1, profile, bytes((action,)))
        assert frame.encode().hex() == "68100113121900000004 04a01701".replace(" ", "") + wanted


def test_electricity_reading_and_control() -> None:
    """8443.75 kWh as published; the published trip command is rebuilt."""
    reply = dlt645.Frame.decode(bytes.fromhex("6886200500000068910833333433a876b733e916"))
    assert dlt645.energy_kwh_x100(reply) == 844_375
    request = dlt645.read_energy(bytes.fromhex("010000000000"))
    assert request.encode().hex() == "6801000000000068110433333433b316"
    trip = dlt645.control(
        bytes.fromhex("611001301215"), dlt645.TRIP, bytes.fromhex("02370602"),
        bytes.fromhex("01000000"), bytes.fromhex("000000301299"),
    )  # fmt: skip
    published = "68611001301215681c10356a3935343333334d333333336345cc2c16"
    assert trip.encode().hex() == published
    refused = dlt645.Frame(bytes(6), 0xDC, b"\x04")
    assert refused.is_error
    with pytest.raises(BusFrameError):
        dlt645.energy_kwh_x100(refused)
