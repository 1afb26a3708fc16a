"""Configuration with ranges: every part reads its own section, an unread key is an error.

A getter never raises: it notes the problem and returns a value of the right type, so that one run
names every fault. Build nothing from the values before the root's `close()` returned.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from firmware.base.errors import ConfigError
from protocols.errors import Fact

TEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option, as `config --explain` prints it."""

    key: str
    value: Fact
    default: Fact
    allowed: str
    help: str


class Section:
    """A table of a TOML file; sections below share its list of problems."""

    def __init__(self, file: str, table: Mapping[str, object], name: str = "") -> None:
        self.file = file
        self.name = name
        self._table = table
        self._read: set[str] = set()
        self._children: dict[str, Section] = {}
        self._problems: list[dict[str, Fact]] = []
        self._options: list[Option] = []

    @classmethod
    def load(cls, path: Path) -> Section:
        """The root section of a TOML file. Raises CONFIG if it cannot be read or parsed."""
        try:
            return cls(str(path), tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
            problem: dict[str, Fact] = {
                "file": str(path),
                "key": "",
                "allowed": "TOML in UTF-8",
                "got": str(fault),
            }
            raise ConfigError((problem,)) from fault

    def integer(self, key: str, default: int | None, lo: int, hi: int, help: str = "") -> int:
        """An integer of lo..hi; default None makes the key obligatory."""
        allowed = f"{lo}..{hi}"
        got = self._take(key, default, allowed, help)
        if type(got) is int and lo <= got <= hi:
            return got
        self._refuse(key, allowed, got)
        return lo if default is None else default

    def text(
        self, key: str, default: str | None, help: str = "", *, len_max: int = TEXT_MAX
    ) -> str:
        """A text of at most len_max characters; default None makes it obligatory and not empty."""
        least = 1 if default is None else 0
        allowed = f"text of {least}..{len_max} characters"
        got = self._take(key, default, allowed, help)
        if isinstance(got, str) and least <= len(got) <= len_max:
            return got
        self._refuse(key, allowed, got)
        return default or ""

    def flag(self, key: str, default: bool, help: str = "") -> bool:
        """true or false."""
        got = self._take(key, default, "true, false", help)
        if isinstance(got, bool):
            return got
        self._refuse(key, "true, false", got)
        return default

    def choice(self, key: str, default: str | None, allowed: Iterable[str], help: str = "") -> str:
        """One of the allowed words."""
        words = tuple(allowed)
        shown = ", ".join(words)
        got = self._take(key, default, shown, help)
        if isinstance(got, str) and got in words:
            return got
        self._refuse(key, shown, got)
        return words[0] if default is None else default

    def path(self, key: str, default: str | None, help: str = "") -> Path:
        """A path; a relative one counts from the folder of the configuration file."""
        text = self.text(key, default, help or "path, relative to this file's folder")
        return Path(self.file).parent / text

    def octets(self, key: str, default: bytes | None, size: int, help: str = "") -> bytes:
        """Exactly `size` bytes, written as hex."""
        allowed = f"{2 * size} hex digits"
        got = self._take(key, None if default is None else default.hex(), allowed, help)
        if isinstance(got, str) and len(got) == 2 * size and _is_hex(got):
            return bytes.fromhex(got)
        self._refuse(key, allowed, got)
        return bytes(size) if default is None else default

    def section(self, key: str) -> Section:
        """The section below; a missing one is empty and shows its own missing keys."""
        if key in self._children:
            return self._children[key]
        self._read.add(key)
        table = self._table.get(key, {})
        child = Section(self.file, table if isinstance(table, dict) else {}, self._full(key))
        if not isinstance(table, dict):
            self._refuse(key, "table", table)
        self._children[key] = child
        return child

    def refuse(self, key: str, allowed: str, got: Fact) -> None:
        """Note a problem that only the owner can see (a cross-check of two keys)."""
        self._refuse(key, allowed, got)

    def close(self) -> None:
        """Raises CONFIG with every problem found here and below, unread keys included."""
        problems = self._gather()
        if problems:
            raise ConfigError(tuple(problems))

    def explain(self) -> list[Option]:
        """Every option declared so far, here and below, in order of declaration."""
        below = [option for child in self._children.values() for option in child.explain()]
        return self._options + below

    def _gather(self) -> list[dict[str, Fact]]:
        unknown = [k for k in self._table if k not in self._read]
        problems = list(self._problems)
        for key in unknown:
            problems.append(self._problem(key, "no such key", _shown(self._table[key])))
        for child in self._children.values():
            problems += child._gather()  # same class, one level down
        return problems

    def _take(self, key: str, default: Fact, allowed: str, help_text: str) -> object:
        assert key not in self._read, ("an option is read once", self._full(key))
        self._read.add(key)
        got = self._table.get(key, default)
        self._options.append(Option(self._full(key), _shown(got), default, allowed, help_text))
        return got

    def _refuse(self, key: str, allowed: str, got: object) -> None:
        self._problems.append(self._problem(key, allowed, _shown(got)))

    def _problem(self, key: str, allowed: str, got: Fact) -> dict[str, Fact]:
        return {"file": self.file, "key": self._full(key), "allowed": allowed, "got": got}

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _shown(got: object) -> Fact:
    """A value as an error may carry it: short, and its type visible."""
    if got is None or isinstance(got, int | bool):
        return got
    return repr(got)[:80]


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
