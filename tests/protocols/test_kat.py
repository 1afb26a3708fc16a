"""Known answers: the published vectors pass, and no digit of any expected value may change."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.known_sheet import FIELDS, Outcome
from protocols.card.purse import app_block, secured
from protocols.card.suite import Pboc3Des
from protocols.errors import FrameError, KatFormError
from protocols.kat import KatReport, Tally, run_kat

VECTORS = Path(__file__).parent / "vectors"
CARD: dict[str, Any] = json.loads((VECTORS / "card.json").read_text("utf-8"))
FRAMES: list[dict[str, Any]] = json.loads((VECTORS / "frames.json").read_text("utf-8"))
HEX = "0123456789ABCDEF"
# Fields that the member's other fields determine, wholly or but for the digits named below.
EXPECTED = (
    "session",
    "mac1",
    "mac2",
    "tac",
    "new_balance",
    "rsp",
    "debit",
    "credit",
    "init",
    "init_rsp",
    "dk",
    "cryptogram",
    "out",
)
SECTIONS = ("purchase", "load", "diversify", "auth", "secure_messaging")


def free_digits(section: str, field: str, member: dict[str, str]) -> dict[int, str]:
    """Digits that nothing determines: position -> values that are as good as the stated one."""
    if field == "init":
        return {11: "01"}  # the key index, 00 or 01 by card
    if field == "init_rsp" and section == "purchase":
        # balance (no MAC covers it), key version and algorithm are the card's own
        return dict.fromkeys((*range(8), *range(18, 22)), HEX)
    if field == "init_rsp":
        return dict.fromkeys(range(12, 16), HEX)
    return {}


def stated(section: str) -> list[tuple[int, str]]:
    """(member index, field) of every expected value of a section."""
    return [
        (n, field)
        for n, member in enumerate(CARD.get(section, []))
        for field in EXPECTED
        if field in member
    ]


CASES = [(section, n, field) for section in SECTIONS for n, field in stated(section)]


def run(member: dict[str, Any], section: str) -> KatReport:
    """One member alone."""
    return run_kat({section: [member]})


def outcomes(report: KatReport) -> dict[str, Outcome]:
    """field -> outcome."""
    return {check.field: check.outcome for check in report.checks}


def test_published_card_values_all_pass() -> None:
    """Every stated value of card.json is recomputed and agrees; none is left out."""
    report = run_kat(CARD)
    assert report.ok
    assert report.tally == Tally(passed=31, failed=0, not_computable=0, not_covered=0)
    assert len(CASES) == 31
    assert report.lines()[-1] == "31 passed, 0 failed, 0 not computable, 0 not covered"


@pytest.mark.parametrize(("section", "n", "field"), CASES)
def test_every_digit_counts(section: str, n: int, field: str) -> None:
    """Each hex digit of each expected value, changed to each other digit, fails the run."""
    member = CARD[section][n]
    value = member[field].upper()
    free = free_digits(section, field, member)
    for at, digit in enumerate(value):
        for other in HEX:
            if other == digit or other in free.get(at, ""):
                continue
            changed = {**member, field: value[:at] + other + value[at + 1 :]}
            assert not run(changed, section).ok, (at, digit, other)


@pytest.mark.parametrize(("section", "n", "field"), CASES)
def test_case_of_hex_does_not_count(section: str, n: int, field: str) -> None:
    """The same value in small letters passes."""
    member = CARD[section][n]
    assert run({**member, field: member[field].lower()}, section).ok


@pytest.mark.parametrize("field", ["key", "rnd", "seq", "tseq", "amount", "type", "tid", "dt"])
def test_every_input_counts(field: str) -> None:
    """A changed input of a purchase fails at least one value: nothing is copied from the file."""
    member = CARD["purchase"][0]
    raw = bytearray.fromhex(member[field])
    raw[-1] ^= 0x02
    assert not run({**member, field: raw.hex()}, "purchase").ok


@pytest.mark.parametrize(
    ("section", "n", "missing", "lost"),
    [
        ("purchase", 0, ("key",), {"session"}),
        ("purchase", 0, ("key", "session"), {"mac1", "mac2", "debit", "rsp"}),
        ("purchase", 0, ("dtk",), {"tac", "rsp"}),
        ("load", 0, ("key", "session"), {"mac1", "mac2", "init_rsp", "credit"}),
        ("load", 0, ("dtk",), {"tac"}),
        ("load", 1, ("balance",), {"mac1", "tac"}),
        ("diversify", 0, ("mk",), {"dk"}),
        ("auth", 0, ("key8",), {"cryptogram"}),
        ("auth", 1, ("key8",), {"out"}),
    ],
)
def test_unpublished_inputs(section: str, n: int, missing: tuple[str, ...], lost: set[str]) -> None:
    """Without a key exactly the values that need it are not computable; nothing fails."""
    member = {k: v for k, v in CARD[section][n].items() if k not in missing}
    report = run(member, section)
    assert report.ok
    named = {field for field, got in outcomes(report).items() if got is Outcome.NOT_COMPUTABLE}
    assert named == lost


def test_an_answer_half_computable_still_fails() -> None:
    """Without dtk the TAC half of rsp is not judged, the MAC2 half and 9000 are."""
    member = {k: v for k, v in CARD["purchase"][0].items() if k != "dtk"}
    for wrong in ("8AF270DC66B54A6C9000", "8AF270DC66B54A6B9001", "8AF270DC66B54A6B", "90"):
        assert outcomes(run({**member, "rsp": wrong}, "purchase"))["rsp"] is Outcome.FAILED


@pytest.mark.parametrize("unverified", ["tac", ["tac"], "tac, mac9"])
def test_unverified_field(unverified: object) -> None:
    """A field named unverified is not computable, and what builds on it is not judged by it."""
    member = {**CARD["purchase"][0], "tac": "00000000", "unverified": unverified}
    report = run(member, "purchase")
    assert report.ok
    assert outcomes(report)["tac"] is Outcome.NOT_COMPUTABLE
    assert outcomes(report)["rsp"] is Outcome.NOT_COMPUTABLE
    assert outcomes(report)["mac1"] is Outcome.PASSED


def test_unverified_command() -> None:
    """A whole command can be named unverified too."""
    member = {**CARD["purchase"][0], "debit": "00", "unverified": ["debit"]}
    assert outcomes(run(member, "purchase"))["debit"] is Outcome.NOT_COMPUTABLE


@pytest.mark.parametrize("key8", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_secure_messaging(key8: bool, split: bool) -> None:
    """A MAC stated apart or at the end of its command is recomputed, with 8- or 16-byte keys."""
    key = bytes(range(8 if key8 else 16))
    rnd = bytes.fromhex("BB83BFF3")
    command = secured(app_block(), Pboc3Des(), key, rnd)
    member = {"id": "S", "key": key.hex(), "rnd": rnd.hex()}
    if split:
        member |= {"header": command.header.hex(), "mac": command.body.hex()}
    else:
        member |= {"apdu": command.encode().hex()}
    field = "mac" if split else "apdu"
    assert outcomes(run(member, "secure_messaging")) == {field: Outcome.PASSED}
    value = member[field]
    for at in range(len(value) - 8, len(value)):
        other = "0" if value[at] != "0" else "1"
        changed = {**member, field: value[:at] + other + value[at + 1 :]}
        assert not run(changed, "secure_messaging").ok
    member.pop("key")
    assert outcomes(run(member, "secure_messaging")) == {field: Outcome.NOT_COMPUTABLE}


def test_secure_messaging_with_data() -> None:
    """Header without Lc plus data, header with Lc, message and bare APDU mean the same bytes."""
    key, rnd, body = bytes(range(16)), bytes(4), b"\xaa\xbb"
    message = bytes.fromhex("04D6950006") + body
    mac = Pboc3Des().sm_mac(key, rnd, message).hex()
    base = {"id": "S", "key16": key.hex(), "challenge": rnd.hex(), "mac": mac}
    for form in (
        {"header": "04D69500", "data": body.hex()},
        {"header": "04D6950006", "data": body.hex()},
        {"message": message.hex()},
        {"apdu": message.hex()},
    ):
        assert run({**base, **form}, "secure_messaging").ok
        assert outcomes(run({**base, **form}, "secure_messaging"))["mac"] is Outcome.PASSED
    assert outcomes(run(base, "secure_messaging"))["mac"] is Outcome.NOT_COMPUTABLE


@pytest.mark.parametrize(
    ("section", "change", "field"),
    [
        ("purchase", {"mac9": "00"}, "mac9"),
        ("purchase", {"mac1": "D45737C"}, "mac1"),
        ("purchase", {"mac1": "D45737CG"}, "mac1"),
        ("purchase", {"mac1": "D4 737C5"}, "mac1"),
        ("purchase", {"mac1": "D45737"}, "mac1"),
        ("purchase", {"mac1": 5}, "mac1"),
        ("purchase", {"key": "00"}, "key"),
        ("purchase", {"id": 5}, "id"),
        ("purchase", {"unverified": 5}, "unverified"),
        ("auth", {"data": "00"}, "data"),
    ],
)
def test_form_errors_name_id_and_field(section: str, change: dict[str, Any], field: str) -> None:
    """An unknown field, malformed hex or a wrong length is KAT_FORM naming where."""
    member = {**CARD[section][0], **change}
    with pytest.raises(KatFormError) as caught:
        run(member, section)
    assert caught.value.code == "KAT_FORM"
    assert caught.value.facts["field"] == field
    if field != "id":
        assert caught.value.facts["id"] == CARD[section][0]["id"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        "purchase",
        {},
        {"note": "nothing"},
        {"purchases": []},
        {"purchase": {}},
        {"purchase": [5]},
        [5],
        [{}],
        [{"protocol": "OSDP", "name": 5, "hex": "00", "valid": True}],
        [{"protocol": "OSDP", "name": "x", "hex": "0", "valid": True}],
        [{"protocol": "OSDP", "name": "x", "hex": "00", "valid": 1}],
        [{"protocol": "OSDP", "name": "x", "hex": "00", "valid": True, "other": 1}],
    ],
)
def test_documents_of_neither_format(document: object) -> None:
    """Anything that is neither format is KAT_FORM."""
    with pytest.raises(KatFormError):
        run_kat(document)


def test_unknown_protocols_are_not_passed() -> None:
    """Frames of a protocol without a codec are listed as not covered, none as passed."""
    report = run_kat(FRAMES, codecs={})
    assert report.ok
    assert report.tally == Tally(0, 0, 0, len(FRAMES))
    assert run_kat(FRAMES).tally.failed == 0


class Mirror:
    """A codec of one protocol: E at the end is refused, a leading 00 is lost when encoding."""

    def __init__(self, raw: bytes) -> None:
        if raw[-1:] == b"\xee":
            raise FrameError(field="end", offset=len(raw) - 1, clause="test")
        self.raw = raw

    def encode(self) -> bytes:
        """The bytes again, without preamble."""
        return self.raw.lstrip(b"\xfe").lstrip(b"\x00")


@pytest.mark.parametrize(
    ("raw_hex", "valid", "outcome"),
    [
        ("0002", True, Outcome.FAILED),
        ("1102", True, Outcome.PASSED),
        ("fefe1102", True, Outcome.PASSED),
        ("11ee", True, Outcome.FAILED),
        ("11ee", False, Outcome.PASSED),
        ("1102", False, Outcome.FAILED),
    ],
)
def test_frames_both_ways(raw_hex: str, valid: bool, outcome: Outcome) -> None:
    """Valid frames must decode and re-encode, the others must be refused."""
    frame = {"protocol": "M", "name": "f", "hex": raw_hex, "valid": valid}
    (check,) = run_kat([frame], codecs={"M": Mirror}).checks
    assert check.outcome is outcome


def test_pn532_is_covered() -> None:
    """The one frame protocol that has a codec is judged by it."""
    good = {"protocol": "PN532", "name": "ack", "hex": "0000FF00FF00", "valid": True}
    bad = {"protocol": "PN532", "name": "cut", "hex": "0000FF00FF", "valid": False}
    assert run_kat([good, bad]).tally == Tally(2, 0, 0, 0)


def test_report_as_json_and_lines() -> None:
    """A failing value shows what was stated and what was computed, in both forms."""
    member = {**CARD["diversify"][0], "dk": "00" * 16}
    report = run(member, "diversify")
    shown = json.loads(json.dumps(report.as_json()))
    assert shown["ok"] is False
    assert shown["failed"] == 1
    assert shown["checks"][0]["got"] == CARD["diversify"][0]["dk"].lower()
    assert report.lines()[0].startswith("fail: diversify D1 dk: stated 0000")


def test_report_of_a_command_that_cannot_be_read() -> None:
    """A command that is no APDU fails as such and says that nothing was computed."""
    report = run({**CARD["purchase"][0], "debit": "8054"}, "purchase")
    line = next(line for line in report.lines() if " debit" in line)
    assert line == "fail: purchase P1-real-card debit: stated 8054, computed nothing"


hexes = st.binary(max_size=20).map(bytes.hex) | st.text(max_size=6) | st.integers()


@given(st.data())
def test_members_are_total(data: st.DataObject) -> None:
    """Any member gives a report or KAT_FORM, never another error."""
    section = data.draw(st.sampled_from(SECTIONS))
    member = copy.deepcopy(data.draw(st.sampled_from(CARD.get(section, [{"id": "S"}]))))
    for field in data.draw(st.lists(st.sampled_from(sorted(FIELDS[section])), max_size=4)):
        size = data.draw(st.sampled_from(FIELDS[section][field][:40]))
        member[field] = data.draw(st.binary(min_size=size, max_size=size).map(bytes.hex) | hexes)
    try:
        report = run(member, section)
    except KatFormError as error:
        facts = set(error.facts)
    else:
        assert report.checks or not set(member) & set(EXPECTED)
        return
    assert "field" in facts
