"""Local date, time and business day of a campus in Asia/Shanghai (UTC+8, no daylight saving).

Arithmetic only: the journal stores µs UTC, the card wants BCD local date and time.
"""

from __future__ import annotations

from protocols.bcd import encode_bcd

DAY_S = 86_400
OFFSET_S = 8 * 3_600
CUT_S = 3 * 3_600  # ledger.md §9: the business day begins at 03:00


def civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a count of days since 1970-01-01, Gregorian."""
    shifted = days + 719_468  # days from 0000-03-01, so that the leap day ends the year
    era, doe = divmod(shifted, 146_097)
    yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (1 if month <= 2 else 0), month, doy - (153 * mp + 2) // 5 + 1


def days_of(year: int, month: int, day: int) -> int:
    """Count of days since 1970-01-01 of a Gregorian date; inverse of `civil`."""
    year -= 1 if month <= 2 else 0
    era, yoe = divmod(year, 400)
    doy = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719_468


def local_date_time(at_us: int) -> tuple[bytes, bytes]:
    """BCD local date (4 bytes, YYYYMMDD) and time (3 bytes, hhmmss) of an instant in µs UTC."""
    days, second = divmod(at_us // 1_000_000 + OFFSET_S, DAY_S)
    year, month, day = civil(days)
    hour, rest = divmod(second, 3_600)
    date = encode_bcd(f"{year:04d}{month:02d}{day:02d}")
    return date, encode_bcd(f"{hour:02d}{rest // 60:02d}{rest % 60:02d}")


def local_text(at_us: int) -> str:
    """`YYYY-MM-DD hh:mm:ss` local, for people."""
    date, time = (raw.hex() for raw in local_date_time(at_us))
    return f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}:{time[4:]}"


def business_day(at_us: int) -> int:
    """Business day as the integer YYYYMMDD: the local day that began at 03:00 (ledger.md §9)."""
    year, month, day = civil((at_us // 1_000_000 + OFFSET_S - CUT_S) // DAY_S)
    return year * 10_000 + month * 100 + day


def day_end_us(day: int) -> int:
    """The instant in µs UTC at which business day YYYYMMDD ends."""
    days = days_of(day // 10_000, day // 100 % 100, day % 100)
    return ((days + 1) * DAY_S - OFFSET_S + CUT_S) * 1_000_000
