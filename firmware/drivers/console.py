"""Keypad, operator display, customer display and buzzer on a character console.

Format `text` is for a person: keys are single characters, screens are plain lines. Format `json`
is for a program on a pipe: each input line holds key names separated by blanks (`1 2 . 5 ENTER`),
each screen is one JSON object on one line. A lost keypad or display never stops cards (T9).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import termios
from collections.abc import Callable
from typing import TextIO

from firmware.base.log import event
from firmware.ports import KEY_NAMES, Key, KeypadLost, Screen

logger = logging.getLogger(__name__)

LINE_MAX = 1024
CHARACTERS = {
    **{c: c for c in "0123456789."},
    "\n": "ENTER",
    "\r": "ENTER",
    "\x1b": "CANCEL",
    "c": "CANCEL",
    "\x7f": "BACK",
    "\x08": "BACK",
    "b": "BACK",
    "v": "VOID",
    "s": "SHIFT",
    "*": "RUN",
    "#": "END",
}


class KeyStream:
    """Bytes in, keys out; whatever is no key is dropped, an endless line too."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._line = b""

    def feed(self, raw: bytes) -> list[Key]:
        """The keys that these bytes complete."""
        if self._form == "text":
            text = raw.decode("ascii", "replace")
            return [Key(CHARACTERS[c]) for c in text if c in CHARACTERS]
        *lines, rest = (self._line + raw).split(b"\n")
        self._line = rest if len(rest) <= LINE_MAX else b""
        words = [word for line in lines for word in line.decode("ascii", "replace").split()]
        return [Key(word) for word in words if word in KEY_NAMES]


class Console:
    """Display, and a Keypad once `start` was called."""

    def __init__(self, form: str, *, source: int | None = None, sink: TextIO | None = None) -> None:
        self._form = form
        self._source = 0 if source is None else source
        self._sink = sink
        self._keys = KeyStream(form)
        self._saved: list[object] | None = None
        self._broken = False

    def start(
        self,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        post: Callable[[object], None],
    ) -> None:
        """Let the reactor watch the keys; each key is posted as a Key, the end as KeypadLost."""
        if self._form == "text" and os.isatty(self._source):
            self._single_keys()

        def readable() -> None:
            try:
                raw = os.read(self._source, 4096)
            except OSError:
                raw = b""
            for key in self._keys.feed(raw):
                post(key)
            if not raw:
                unwatch(self._source)
                post(KeypadLost())

        watch(self._source, readable)

    def stop(self) -> None:
        """Give the terminal line back as it was."""
        if self._saved is not None:
            termios.tcsetattr(self._source, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
            self._saved = None

    def show(self, screen: Screen) -> None:
        """Print the screen; a sink that is gone is logged once and then left alone."""
        if self._broken:
            return
        sink = sys.stdout if self._sink is None else self._sink
        try:
            sink.write(as_json(screen) if self._form == "json" else as_text(screen))
            sink.flush()
        except (OSError, ValueError) as fault:
            self._broken = True
            event(logger, logging.ERROR, "display_lost", reason=str(fault))

    def _single_keys(self) -> None:
        """Keys without ENTER and without echo; signals stay."""
        self._saved = termios.tcgetattr(self._source)
        raw = termios.tcgetattr(self._source)
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self._source, termios.TCSADRAIN, raw)


def as_json(screen: Screen) -> str:
    """One line: {"operator": [...], "customer": [...], "beep": null | "paid" | ...}."""
    shown = {
        "operator": list(screen.operator),
        "customer": list(screen.customer),
        "beep": None if screen.beep is None else screen.beep.value,
    }
    return json.dumps(shown, ensure_ascii=False) + "\n"


def as_text(screen: Screen) -> str:
    """Both displays under each other; the buzzer is the terminal's bell."""
    lines = ["", *(f"  操作 | {line}" for line in screen.operator)]
    lines += [f"  顾客 | {line}" for line in screen.customer]
    bell = "" if screen.beep is None else "\a"
    return "\n".join(lines) + bell + "\n"
