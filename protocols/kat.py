"""Known-answer tests: published examples of cards and frames, recomputed value by value.

Two formats: an object of purse examples (`purchase`, `load`, `diversify`, `auth`,
`secure_messaging`), and a list of frames that must decode and re-encode, or be refused.
A value whose inputs are not published is `not computable`, a protocol without a codec
`not covered`; neither counts as passed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from protocols.bus import cjt188, dlt645, modbus
from protocols.card.known_answers import check_load, check_purchase
from protocols.card.known_keys import check_auth, check_diversify, check_secure_messaging
from protocols.card.known_sheet import Check, Outcome, Sheet, read_hex, read_member
from protocols.card.suite import Pboc3Des, Suite
from protocols.errors import KatFormError, OnecardError
from protocols.reader.pn532 import decode_frame

_SECTIONS: dict[str, Callable[[Sheet, Suite], None]] = {
    "purchase": check_purchase,
    "load": check_load,
    "diversify": check_diversify,
    "auth": check_auth,
    "secure_messaging": check_secure_messaging,
}
_FRAME_FIELDS = ("protocol", "name", "hex", "valid", "why", "source")
_PREAMBLE = b"\xfe"


class Encodable(Protocol):
    """A decoded frame that its codec can build again."""

    def encode(self) -> bytes:
        """The frame's bytes."""
        ...


# A protocol's decoder, or None where the frames of a protocol cannot be read yet.
CODECS: dict[str, Callable[[bytes], Encodable]] = {
    "PN532": decode_frame,
    "Modbus RTU": modbus.Frame.decode,
    "CJ/T 188": cjt188.Frame.decode,
    "DL/T 645": dlt645.Frame.decode,
}


class Tally(NamedTuple):
    """Closing count of a run."""

    passed: int
    failed: int
    not_computable: int
    not_covered: int


@dataclass(frozen=True, slots=True)
class KatReport:
    """Every check of one file, in the file's order."""

    checks: tuple[Check, ...]

    @property
    def tally(self) -> Tally:
        """How many of each outcome."""
        found = [check.outcome for check in self.checks]
        wanted = (Outcome.PASSED, Outcome.FAILED, Outcome.NOT_COMPUTABLE, Outcome.NOT_COVERED)
        return Tally(*(found.count(outcome) for outcome in wanted))

    @property
    def ok(self) -> bool:
        """True when nothing failed."""
        return self.tally.failed == 0

    def lines(self) -> list[str]:
        """One line per value or frame and a closing count."""
        count = self.tally
        closing = (
            f"{count.passed} passed, {count.failed} failed, "
            f"{count.not_computable} not computable, {count.not_covered} not covered"
        )
        return [check.line() for check in self.checks] + [closing]

    def as_json(self) -> dict[str, object]:
        """The report as one JSON-ready object."""
        checks = [
            {
                "section": check.section,
                "id": check.id,
                "field": check.field,
                "outcome": str(check.outcome),
                "expected": check.expected,
                "got": check.got,
            }
            for check in self.checks
        ]
        return {"ok": self.ok, **self.tally._asdict(), "checks": checks}


def run_kat(
    document: object,
    *,
    suite: Suite | None = None,
    codecs: Mapping[str, Callable[[bytes], Encodable]] | None = None,
) -> KatReport:
    """Check a parsed known-answer file of either format.

    Raises KatFormError (KAT_FORM) naming the member's id and the field that cannot be read.
    """
    if isinstance(document, list):
        known = CODECS if codecs is None else codecs
        return KatReport(tuple(_frame_check(member, known) for member in document))
    if isinstance(document, dict):
        return KatReport(tuple(_purse_checks(document, suite or Pboc3Des())))
    raise KatFormError(field="document", expected="object of sections or list of frames")


def _purse_checks(document: Mapping[str, object], suite: Suite) -> list[Check]:
    checks: list[Check] = []
    for section, members in document.items():
        if section in ("note", "source"):
            continue
        if section not in _SECTIONS:
            expected = " ".join(_SECTIONS)
            raise KatFormError(field="section", got=str(section)[:40], expected=expected)
        if not isinstance(members, list):
            raise KatFormError(section=section, field="section", expected="list")
        for member in members:
            sheet = read_member(section, member)
            _SECTIONS[section](sheet, suite)
            checks += sheet.checks
    if not any(section in document for section in _SECTIONS):
        raise KatFormError(field="document", expected=" ".join(_SECTIONS))
    return checks


def _frame_check(member: object, codecs: Mapping[str, Callable[[bytes], Encodable]]) -> Check:
    texts, raw, valid = _frame_member(member)
    protocol, name = texts["protocol"], texts["name"]
    decode = codecs.get(protocol)
    if decode is None:
        return Check(protocol, name, "frame", Outcome.NOT_COVERED, raw.hex())
    try:
        rebuilt = decode(raw).encode()
    except OnecardError as error:
        outcome = Outcome.FAILED if valid else Outcome.PASSED
        return Check(protocol, name, "frame", outcome, raw.hex(), error.code)
    right = valid and rebuilt.lstrip(_PREAMBLE) == raw.lstrip(_PREAMBLE)
    outcome = Outcome.PASSED if right else Outcome.FAILED
    return Check(protocol, name, "frame", outcome, raw.hex(), rebuilt.hex())


def _frame_member(member: object) -> tuple[dict[str, str], bytes, bool]:
    if not isinstance(member, dict):
        raise KatFormError(field="member", expected="object")
    name = str(member.get("name", "?"))
    for key in member:
        if key not in _FRAME_FIELDS:
            raise KatFormError(id=name, field=str(key)[:40], expected=" ".join(_FRAME_FIELDS))
    texts: dict[str, str] = {}
    for key in ("protocol", "name"):
        value = member.get(key)
        if not isinstance(value, str):
            raise KatFormError(id=name, field=key, expected="text")
        texts[key] = value
    valid = member.get("valid")
    if not isinstance(valid, bool):
        raise KatFormError(id=name, field="valid", expected="true or false")
    return texts, read_hex(member.get("hex"), name, "hex"), valid
