"""Calendar arithmetic against the standard library, BCD both ways."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import bizday
from protocols.bcd import decode_bcd, encode_bcd
from protocols.errors import BcdError

SHANGHAI = timezone(timedelta(hours=8))
INSTANTS = st.integers(0, 4_102_444_799_000_000)


@given(INSTANTS)
def test_local_date_time(at_us: int) -> None:
    """BCD date and time equal the standard library's for UTC+8."""
    when = datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(SHANGHAI)
    date, time = bizday.local_date_time(at_us)
    assert date.hex() == when.strftime("%Y%m%d")
    assert time.hex() == when.strftime("%H%M%S")
    assert bizday.local_text(at_us) == when.strftime("%Y-%m-%d %H:%M:%S")


@given(INSTANTS)
def test_business_day(at_us: int) -> None:
    """The business day starts at 03:00 local and ends where the next begins."""
    when = datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(SHANGHAI)
    day = bizday.business_day(at_us)
    assert day == int((when - timedelta(hours=3)).strftime("%Y%m%d"))
    end_us = bizday.day_end_us(day)
    assert bizday.business_day(end_us - 1) == day
    assert bizday.business_day(end_us) != day
    assert at_us < end_us <= at_us + 86_400_000_000


@given(st.integers(-200_000, 200_000))
def test_civil_inverse(days: int) -> None:
    """Date to count of days and back."""
    assert bizday.days_of(*bizday.civil(days)) == days


@given(st.binary(max_size=12))
def test_bcd(raw: bytes) -> None:
    """BCD decodes to digits that encode back, or is refused with the offset."""
    try:
        digits = decode_bcd(raw)
    except BcdError as exc:
        offset = exc.facts["offset"]
        assert isinstance(offset, int)
        assert not raw[offset : offset + 1].hex().isdigit()
    else:
        assert encode_bcd(digits) == raw


@pytest.mark.parametrize("digits", ["1", "1a", "１２", "-1", " 1"])
def test_bcd_refuses(digits: str) -> None:
    """Odd counts and non-digits are refused."""
    with pytest.raises(BcdError):
        encode_bcd(digits)
