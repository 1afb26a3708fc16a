"""Reservation codes: published vectors, Damm, windows, and the limiter that nothing refills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.codes.digits import damm, grouped, with_check
from protocols.codes.limiter import BURST, REFILL_US, TYPOS_MAX, Bucket, Typos
from protocols.codes.reservation import (
    MINUTE_US,
    CodeId,
    candidates,
    check_typed,
    code_of,
    match,
    stall_day_key,
)
from protocols.errors import CodeLengthError, CodeTypoError, WireFormError

K_BATH = bytes(range(32))
DAY = 20_878  # 2027-03-01


@pytest.mark.parametrize(
    ("stall", "day", "slot", "seq", "tier", "code"),
    [
        (12, DAY, 1140, 0, 1, "826845710"),
        (12, DAY, 1140, 1, 1, "103600532"),
        (12, DAY, 1170, 0, 3, "416453908"),
        (12, DAY, 1140, 1, 0, "093676898"),
        (13, DAY, 1140, 0, 1, "970100084"),
        (12, DAY + 1, 1140, 0, 1, "953556151"),
    ],
)
def test_vectors(stall: int, day: int, slot: int, seq: int, tier: int, code: str) -> None:
    """The known answers of codes.md §2.2, leading zero included."""
    key = stall_day_key(K_BATH, 7, stall, day)
    assert code_of(key, CodeId(7, stall, day, slot, seq, tier)) == code
    assert check_typed(code) == code


def test_key_vector() -> None:
    """K_stall_day of the document."""
    wanted = "c82d24563caf462e1a4ac424f7ec910af307f1666ed099699b1599e414e547ed"
    assert stall_day_key(K_BATH, 7, 12, DAY).hex() == wanted


def test_damm_sees_single_errors_and_swaps() -> None:
    """Over 1,000 codes every wrong digit and every adjacent swap is seen."""
    assert damm("572") == 4
    for n in range(1_000):
        code = with_check(f"{n * 99_991 % 10**8:08d}")
        assert damm(code) == 0
        for at in range(9):
            for digit in "0123456789":
                if digit != code[at]:
                    assert damm(code[:at] + digit + code[at + 1 :]) != 0
        for at in range(8):
            if code[at] != code[at + 1]:
                swapped = code[:at] + code[at + 1] + code[at] + code[at + 2 :]
                assert damm(swapped) != 0


def test_typing_faults_are_no_guesses() -> None:
    """Length and check digit are told apart from a wrong code."""
    for typed in ("", "12345678", "1234567890", "12345678x"):
        with pytest.raises(CodeLengthError):
            check_typed(typed)
    with pytest.raises(CodeTypoError):
        check_typed("826845711")
    assert grouped("826845710") == "826 845 710"


@given(st.builds(CodeId, *(st.integers(0, 2**n - 1) for n in (16, 16, 32, 16, 8, 8))))
def test_code_id_round_trip(code_id: CodeId) -> None:
    """12 bytes and back."""
    assert CodeId.decode(code_id.encode()) == code_id


def test_code_id_is_12_bytes() -> None:
    """Anything else is refused."""
    with pytest.raises(WireFormError):
        CodeId.decode(bytes(11))


def test_windows_and_match() -> None:
    """A code is found 10 minutes before to 15 minutes after its start, at its stall, on its day."""
    booked = CodeId(7, 12, DAY, 1140, 0, 1)
    keys = {DAY: stall_day_key(K_BATH, 7, 12, DAY)}
    slots = range(0, 1440, 30)

    def found(at_us: int, stall: int = 12) -> CodeId | None:
        return match("826845710", keys, candidates(7, stall, [DAY], slots, at_us))

    assert found(booked.start_us) == booked
    assert found(booked.activate_from_us) == booked
    assert found(booked.activate_until_us) == booked
    assert found(booked.activate_from_us - 1) is None
    assert found(booked.activate_until_us + 1) is None
    assert found(booked.start_us, stall=13) is None
    assert match("826845710", {}, candidates(7, 12, [DAY], slots, booked.start_us)) is None
    assert len(list(candidates(7, 12, [DAY], slots, booked.start_us))) <= 24


def test_more_than_three_open_slots_are_refused() -> None:
    """A schedule that would widen what a guess can hit is our bug."""
    at_us = CodeId(7, 12, DAY, 600, 0, 0).start_us
    with pytest.raises(AssertionError):
        list(candidates(7, 12, [DAY], range(590, 612, 5), at_us))


def test_codes_of_a_day_are_distinct_enough() -> None:
    """100 stalls, one slot, all seq and tiers: collisions are rare (the issuer skips them)."""
    codes = []
    for stall in range(100):
        key = stall_day_key(K_BATH, 7, stall, DAY)
        codes += [code_of(key, CodeId(7, stall, DAY, 1140, s, t)) for s in (0, 1) for t in range(4)]
    assert len(set(codes)) >= len(codes) - 1


HOUR_US = 60 * MINUTE_US


def test_limiter_refills_by_high_water_only() -> None:
    """Burst 5, one token per 7.5 minutes, never more than 5; a clock set back adds nothing."""
    bucket = Bucket().at(1_000)
    for _ in range(BURST):
        assert bucket.allows(resuming=False)
        bucket = bucket.spent(resuming=False)
    assert not bucket.allows(resuming=False)
    assert bucket.at(500) == bucket
    assert bucket.at(1_000 + REFILL_US - 1).tokens == 0
    assert bucket.at(1_000 + REFILL_US).tokens == 1
    assert bucket.at(1_000 + 1_000 * HOUR_US).tokens == BURST


def test_resume_tries_are_kept_apart() -> None:
    """Three further tries for an interrupted lease here, then none."""
    bucket = Bucket(tokens=0, counted_us=1)
    for _ in range(3):
        assert bucket.allows(resuming=True)
        bucket = bucket.spent(resuming=True)
    assert not bucket.allows(resuming=True)


@given(st.lists(st.integers(0, 2 * REFILL_US), min_size=1, max_size=60))
def test_limiter_bound_over_any_day(steps: list[int]) -> None:
    """However guesses are spaced, their number is at most the burst plus the refills."""
    bucket, now_us, guesses = Bucket().at(1), 1, 0
    for step in steps:
        now_us += step
        bucket = bucket.at(now_us)
        while bucket.allows(resuming=False):
            bucket = bucket.spent(resuming=False)
            guesses += 1
    assert guesses <= BURST + (now_us - 1) // REFILL_US


def test_guessing_for_a_working_day_stays_within_the_design() -> None:
    """16 hours at one stall: 133 guesses, success 3.2e-5 with 24 live codes (codes.md §2.3)."""
    bucket, guesses = Bucket().at(1), 0
    for second in range(16 * 3_600):
        bucket = bucket.at(1 + second * 1_000_000)
        if bucket.allows(resuming=False):
            bucket = bucket.spent(resuming=False)
            guesses += 1
    assert guesses <= 133
    assert guesses * 24 / 10**8 <= 3.2e-5


def test_typo_pause() -> None:
    """30 typing faults in 10 minutes rest the keypad for a minute; slow ones never do."""
    typos = Typos()
    for n in range(TYPOS_MAX):
        assert not typos.paused(n)
        typos = typos.noted(n)
    assert typos.paused(TYPOS_MAX)
    assert not typos.paused(TYPOS_MAX + MINUTE_US)
    slow = Typos()
    for n in range(100):
        slow = slow.noted(n * MINUTE_US)
        assert not slow.paused(n * MINUTE_US)
