"""The register map: documented frames, parsers, and no way to an open that latches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bus import modbus
from protocols.bus.shower_map import (
    FLASH_COUNT_MAX,
    REF_1,
    BoardInputs,
    BoardSense,
    BoardSettings,
    ShowerMap,
    inputs_of,
    sense_of,
    settings_of,
)
from protocols.errors import BusFrameError


def test_documented_frames() -> None:
    """The frames of the design come out of the builders byte for byte."""
    assert REF_1.open_for(1, 1500).encode().hex() == "01050200000f8c76"
    assert REF_1.open_for(1, 700).encode().hex() == "0105020000078db0"
    assert REF_1.shut(1).encode().hex() == "010500000000cdca"
    assert REF_1.read_inputs(1).encode().hex() == "010400000009300c"
    assert REF_1.read_sense(1).encode().hex() == "010200000005b809"
    assert REF_1.read_valve(1).body.hex() == "00000001"
    assert REF_1.read_settings(1).body.hex() == "00100004"
    assert REF_1.buzz(1, 300).body.hex() == "02010003"


@given(st.integers(1, 247), st.integers(-(1 << 40), 1 << 40))
def test_no_builder_latches(unit: int, ms: int) -> None:
    """Whatever time is asked for, the frame is a bounded flash or an assertion, never FF00."""
    if 100 <= ms < (FLASH_COUNT_MAX + 1) * 100:
        frame = REF_1.open_for(unit, ms)
        count = int.from_bytes(frame.body[2:], "big")
        assert count * 100 <= ms < (count + 1) * 100
        assert REF_1.is_permitted(frame)
    else:
        with pytest.raises(AssertionError):
            REF_1.open_for(unit, ms)


@pytest.mark.parametrize(
    ("function", "body", "result"),
    [
        (5, "0000ff00", False),
        (5, "0200ff00", False),
        (5, "00000001", False),
        (5, "02000000", False),
        (5, "02000259", False),
        (5, "0001ff00", False),
        (6, "00110001", False),
        (15, "0000000101ff", False),
        (5, "00000000", True),
        (5, "0200000f", True),
        (5, "02000258", True),
        (4, "00000009", True),
    ],
)
def test_what_a_line_may_send(function: int, body: str, result: bool) -> None:
    """Reads, shut and bounded flashes pass; a latching open, in any spelling, does not."""
    assert REF_1.is_permitted(modbus.Frame(1, function, bytes.fromhex(body))) is result


def test_a_flash_on_the_valve_coil_is_refused() -> None:
    """A map that puts a flash on the latching coil is a bug."""
    with pytest.raises(AssertionError):
        ShowerMap(valve_flash=0)


def test_inputs() -> None:
    """Nine registers, high word of the counter first, temperature signed; eight are fine."""
    raw = bytes.fromhex("0001000200fffff62ee0000a000700090102")
    wanted = BoardInputs(0x10002, 255, -10, 12_000, 10, 7, 9, 0x0102)
    assert inputs_of(raw) == wanted
    assert wanted.flash_expired
    assert wanted.flash_active
    assert inputs_of(raw[:-2]).firmware is None


def test_sense_and_settings() -> None:
    """Discretes are least significant first; settings as read."""
    assert sense_of(b"\x11") == BoardSense(True, False, False, False, True)
    assert sense_of(b"\x0e") == BoardSense(False, True, True, True, False)
    assert settings_of(bytes.fromhex("01c2001e00010003")) == BoardSettings(450, 30, 1, 3)


@given(st.binary(max_size=30))
def test_parsers_are_total(raw: bytes) -> None:
    """Any bytes are a value or BUS_FRAME."""
    for parse in (inputs_of, sense_of, settings_of):
        try:
            parse(raw)
        except BusFrameError as fault:
            assert fault.code == "BUS_FRAME"  # noqa: PT017 - the only error allowed
