"""One member of a known-answer file: its stated values, what can be derived, the checks made.

A member states inputs and expected values as hex. What a command or answer of the same member
carries (amount in INIT, random number in its answer, date in DEBIT) counts as input where no
field states it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from protocols.errors import FrameError, KatFormError

TEXTS = frozenset(("id", "source", "note", "warning", "unverified"))
_KEY = (8, 16)
_ANY = tuple(range(262))
_COMMON = {
    "key": _KEY,
    "dtk": _KEY,
    "init": _ANY,
    "init_rsp": _ANY,
    "rnd": (4,),
    "seq": (2,),
    "balance": (4,),
    "new_balance": (4,),
    "amount": (4,),
    "type": (1,),
    "tid": (6,),
    "dt": (7,),
    "session": (8,),
    "mac1": (4,),
    "mac2": (4,),
    "tac": (4,),
    "rsp": _ANY,
}
FIELDS: dict[str, dict[str, tuple[int, ...]]] = {
    "purchase": {**_COMMON, "tseq": (4,), "debit": _ANY},
    "load": {**_COMMON, "credit": _ANY},
    "diversify": {"mk": _KEY, "asn": (8, 10), "dk": (16,)},
    "auth": {
        "key": _KEY,
        "key8": (8,),
        "key16": (16,),
        "challenge": (4, 8),
        "challenge4": (4,),
        "challenge8": (8,),
        "cryptogram": (8,),
        "data": tuple(range(8, 256, 8)),
        "out": tuple(range(8, 256, 8)),
    },
    "secure_messaging": {
        "key": _KEY,
        "key8": (8,),
        "key16": (16,),
        "rnd": (4, 8),
        "challenge": (4, 8),
        "challenge4": (4,),
        "challenge8": (8,),
        "header": (4, 5),
        "data": _ANY,
        "message": _ANY,
        "apdu": tuple(range(5, 262)),
        "mac": (4,),
    },
}


class Outcome(StrEnum):
    """What became of one stated value."""

    PASSED = "pass"
    FAILED = "fail"
    NOT_COMPUTABLE = "not computable"
    NOT_COVERED = "not covered"


@dataclass(frozen=True, slots=True)
class Check:
    """One stated value: where it stands, what came of it, what was computed instead (hex)."""

    section: str
    id: str
    field: str
    outcome: Outcome
    expected: str
    got: str = ""

    def line(self) -> str:
        """One line for people."""
        told = f"{self.outcome}: {self.section} {self.id} {self.field}"
        if self.outcome is Outcome.FAILED:
            return f"{told}: stated {self.expected}, computed {self.got or 'nothing'}"
        return told


@dataclass(slots=True)
class Sheet:
    """One member under examination: stated values, facts derived from them, checks so far."""

    section: str
    id: str
    stated: Mapping[str, bytes]
    unverified: frozenset[str]
    facts: dict[str, bytes] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def fact(self, *names: str) -> bytes | None:
        """The first of these that is stated, else the first that was derived."""
        for source in (self.stated, self.facts):
            for name in names:
                if name in source:
                    return source[name]
        return None

    def all(self, *names: str) -> tuple[bytes, ...] | None:
        """Every one of these facts, or None when one is missing."""
        found = tuple(self.fact(name) for name in names)
        return None if any(fact is None for fact in found) else cast(tuple[bytes, ...], found)

    def note(self, name: str, outcome: Outcome, got: bytes = b"") -> None:
        """Write down what became of a stated field."""
        stated = self.stated[name].hex()
        self.checks.append(Check(self.section, self.id, name, outcome, stated, got.hex()))

    def compare(self, name: str, got: bytes | None) -> bytes | None:
        """Check a stated value; give back what others may build on, None if unverified."""
        usable = None if name in self.unverified else got
        if name in self.stated:
            if usable is None:
                self.note(name, Outcome.NOT_COMPUTABLE)
            else:
                right = usable == self.stated[name]
                self.note(name, Outcome.PASSED if right else Outcome.FAILED, usable)
        return usable

    def rebuilt(self, name: str, candidates: Iterable[bytes], *, whole: bool) -> None:
        """Check a stated command or answer against its rebuilt forms.

        `whole` is False when a part of them was taken from the stated value itself because it
        cannot be computed: then agreement shows nothing, disagreement still is a failure.
        """
        built = list(candidates)
        if name in self.unverified:
            self.note(name, Outcome.NOT_COMPUTABLE)
        elif self.stated[name] not in built:
            self.note(name, Outcome.FAILED, built[0] if built else b"")
        else:
            self.note(name, Outcome.PASSED if whole else Outcome.NOT_COMPUTABLE)

    def parsed(self, name: str, read: Callable[[bytes], dict[str, bytes]]) -> bool:
        """Derive facts from a stated command or answer; one that cannot be read has failed."""
        if name not in self.stated:
            return False
        try:
            derived = read(self.stated[name])
        except FrameError:
            self.rebuilt(name, (), whole=True)
            return False
        for key, value in derived.items():
            self.facts.setdefault(key, value)
        return True


def read_member(section: str, member: object) -> Sheet:
    """Check a member's form and read its hex; raises KAT_FORM naming id and field."""
    if not isinstance(member, dict):
        raise KatFormError(section=section, field="member", expected="object")
    name = member.get("id", "?")
    if not isinstance(name, str):
        raise KatFormError(section=section, field="id", expected="text")
    sizes = FIELDS[section]
    stated: dict[str, bytes] = {}
    for key, value in member.items():
        if key in sizes:
            stated[key] = read_hex(value, name, key)
            if len(stated[key]) not in sizes[key]:
                raise KatFormError(
                    id=name, field=key, got=len(stated[key]), expected="other length"
                )
        elif key not in TEXTS:
            raise KatFormError(id=name, field=str(key)[:40], expected=" ".join(sizes))
    return Sheet(section, name, stated, _unverified(member.get("unverified", []), name))


def read_hex(value: object, name: str, key: str) -> bytes:
    """Bytes of a hex text; raises KAT_FORM naming id and field."""
    digits = value if isinstance(value, str) else "?"
    if len(digits) % 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise KatFormError(id=name, field=key, expected="hex", got=digits[:40])
    return bytes.fromhex(digits)


def _unverified(value: object, name: str) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.replace(",", " ").replace(";", " ").split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise KatFormError(id=name, field="unverified", expected="text or list of field names")
