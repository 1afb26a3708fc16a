"""Keys out of a keypad's bytes: evdev events cut anywhere, or characters of a serial line. Pure.

Rules (terminals.md §8.6): one Key per press, no repeat; 30 ms of debounce; three keys held at once
are ghosts and ignored; a key held for 30 s is masked until it is let go (KEY_STUCK). A serial one
tells no release: only the debounce applies, and a character that streams on for 30 s is stuck.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from firmware.ports import Key, KeyStuck

EVENT = struct.Struct("<qqHHi")  # sec, usec, type, code, value on 64-bit Linux
EV_KEY, RELEASE, PRESS = 1, 0, 1
DEBOUNCE_US = 30_000
STUCK_MS = 30_000
GHOSTS = 3
# of linux/input-event-codes.h: the keyboard's digits from 1, the number pad's rows, the phone pad's
ROWS = (("1234567890", 2), ("789", 71), ("456", 75), ("1230", 79), ("0123456789", 0x200))
DIGITS = {first + n: digit for row, first in ROWS for n, digit in enumerate(row)}
SPARE = {
    "KPASTERISK": 55,
    "KPENTER": 96,
    "KPSLASH": 98,
    "KPMINUS": 74,
    "KPPLUS": 78,
    "KPDOT": 83,
    "ENTER": 28,
    "ESC": 1,
    "BACKSPACE": 14,
    "NUMERIC_STAR": 0x20A,
    "NUMERIC_POUND": 0x20B,
}


def key_codes(run: str, end: str) -> dict[int, str]:
    """Codes of the digits, and of the two SPARE keys that stand for RUN and END."""
    assert run != end, run
    return DIGITS | {SPARE[run]: "RUN", SPARE[end]: "END"}


class KeyStream(Protocol):
    """Bytes in, keys out."""

    def feed(self, raw: bytes, now_ms: int) -> list[Key | KeyStuck]:
        """The keys that these bytes complete."""

    def on_timer(self, now_ms: int) -> list[Key | KeyStuck]:
        """The keys found stuck by now."""

    def next_timer(self) -> int | None:
        """When to call `on_timer`."""


@dataclass(slots=True)
class _Held:
    since_ms: int
    masked: bool = False


class EvdevStream:
    """Keys of a stream of input events, cut anywhere."""

    def __init__(self, codes: Mapping[int, str]) -> None:
        self._codes = codes
        self._rest = b""
        self._held: dict[int, _Held] = {}
        self._moved_us: dict[int, int] = {}

    def feed(self, raw: bytes, now_ms: int) -> list[Key | KeyStuck]:
        """The keys pressed in these events; a part of an event waits for the rest."""
        raw = self._rest + raw
        whole = len(raw) // EVENT.size * EVENT.size
        self._rest = raw[whole:]
        found = self.on_timer(now_ms)
        for sec, usec, kind, code, value in EVENT.iter_unpack(raw[:whole]):
            if kind == EV_KEY and code in self._codes and value in (PRESS, RELEASE):
                found += self._moved(code, value == PRESS, sec * 1_000_000 + usec, now_ms)
        return found

    def on_timer(self, now_ms: int) -> list[Key | KeyStuck]:
        """Mask the keys that are held for STUCK_MS, and tell each once."""
        found: list[Key | KeyStuck] = []
        for code, held in self._held.items():
            if not held.masked and now_ms - held.since_ms >= STUCK_MS:
                held.masked = True
                found.append(KeyStuck(self._codes[code]))
        return found

    def next_timer(self) -> int | None:
        """When the key that is held longest counts as stuck."""
        held = (held.since_ms for held in self._held.values() if not held.masked)
        since_ms = min(held, default=None)
        return None if since_ms is None else since_ms + STUCK_MS

    def _moved(self, code: int, pressed: bool, at_us: int, now_ms: int) -> list[Key | KeyStuck]:
        bounced = 0 <= at_us - self._moved_us.get(code, at_us - DEBOUNCE_US) < DEBOUNCE_US
        self._moved_us[code] = at_us
        if not pressed:
            self._held.pop(code, None)
            return []
        fresh = code not in self._held
        self._held.setdefault(code, _Held(now_ms))
        live = sum(not held.masked for held in self._held.values())
        return [Key(self._codes[code])] if fresh and not bounced and live < GHOSTS else []


class SerialStream:
    """Keys of a serial keypad: a character a key; held keys repeat their character."""

    def __init__(self, characters: Mapping[str, str]) -> None:
        self._characters = characters
        self._last = ""
        self._last_ms = self._since_ms = 0
        self._stuck = False

    def feed(self, raw: bytes, now_ms: int) -> list[Key | KeyStuck]:
        """The keys of these characters; what is no key is dropped."""
        found: list[Key | KeyStuck] = []
        for character in raw.decode("ascii", "replace"):
            name = self._characters.get(character)
            if name is None:
                continue
            again = name == self._last and now_ms - self._last_ms < DEBOUNCE_US // 1000
            self._last, self._last_ms = name, now_ms
            if not again:
                self._since_ms, self._stuck = now_ms, False
                found.append(Key(name))
            elif now_ms - self._since_ms >= STUCK_MS and not self._stuck:
                self._stuck = True
                found.append(KeyStuck(name))
        return found

    def on_timer(self, now_ms: int) -> list[Key | KeyStuck]:
        """Nothing: a serial keypad tells no release."""
        return []

    def next_timer(self) -> int | None:
        """Never."""
        return None


def serial_characters(run: str, end: str) -> dict[str, str]:
    """The digits, and the characters that stand for RUN and END."""
    assert run != end, run
    return {**{c: c for c in "0123456789"}, run: "RUN", end: "END"}
