"""A display of four lines of twenty columns: on a serial line, or drawn on the console.

It shows `Screen.customer`; a Chinese character takes two columns, a line too long goes on in the
next while there is one. What clears the display, ends a line and sounds the buzzer is
configuration, since makers differ (terminals.md §8.7). A display that is gone is logged once and
tried again with the next picture; it stops nothing (T9).
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from dataclasses import dataclass
from typing import TextIO

from firmware.base.clock import Clock
from firmware.base.log import event
from firmware.drivers.serial_link import SerialLink
from firmware.errors import LinkLostError, ReaderDownError
from firmware.ports import Screen

logger = logging.getLogger(__name__)

ROWS, COLUMNS = 4, 20
WRITE_MS = 300


@dataclass(frozen=True, slots=True)
class Template:
    """Bytes before a picture, after each line, and for the buzzer; the characters' encoding."""

    clear_raw: bytes = b"\x0c"
    line_end_raw: bytes = b"\r\n"
    beep_raw: bytes = b"\x07"
    encoding: str = "gb18030"

    def encode(self, screen: Screen, rows: int = ROWS, columns: int = COLUMNS) -> bytes:
        """The whole picture; characters that the encoding lacks become question marks."""
        lines = layout(screen.customer, rows, columns)
        body = self.line_end_raw.join(line.encode(self.encoding, "replace") for line in lines)
        return self.clear_raw + body + (b"" if screen.beep is None else self.beep_raw)


def layout(lines: tuple[str, ...], rows: int = ROWS, columns: int = COLUMNS) -> list[str]:
    """Exactly `rows` lines of at most `columns`; each is broken only while rows are left."""
    wanted = [_break(line, columns) for line in lines[:rows]]
    spare = rows - len(wanted)
    shown: list[str] = []
    for parts in wanted:
        extra = min(len(parts) - 1, spare)
        spare -= extra
        shown += parts[: 1 + extra]
    return shown + [""] * (rows - len(shown))


def width(text: str) -> int:
    """Columns of a text: wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(c) in ("W", "F") for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def _break(line: str, columns: int) -> list[str]:
    """The line in parts of at most `columns`; blanks at a break are dropped."""
    parts, part = list[str](), ""
    for character in "".join(c for c in line if c.isprintable()):
        if width(part + character) > columns:
            parts.append(part.rstrip())
            part = ""
            if character == " ":
                continue
        part += character
    return [*parts, part]


class SerialDisplay:
    """Display on a serial line."""

    def __init__(self, port: str, baud: int, template: Template, clock: Clock) -> None:
        self._link = SerialLink(port, clock)
        self._baud = baud
        self._template = template
        self._clock = clock
        self._open = self._told = False
        self._shown = b""

    def show(self, screen: Screen) -> None:
        """Replace the picture; the same picture without a beep is not sent again."""
        raw = self._template.encode(screen)
        if raw == self._shown and screen.beep is None:
            return
        try:
            if not self._open:
                self._link.open(self._baud)
                self._open = True
            self._link.write(raw, self._clock.mono_us() + WRITE_MS * 1000)
        except (LinkLostError, ReaderDownError) as fault:
            self._lost(str(fault))
            return
        self._shown, self._told = raw, False

    def stop(self) -> None:
        """Close the port."""
        self._link.close()
        self._open, self._shown = False, b""

    def _lost(self, reason: str) -> None:
        self.stop()
        if not self._told:
            self._told = True
            event(logger, logging.ERROR, "display_lost", reason=reason[:120])


class ConsoleDisplay:
    """The same picture drawn on a character console, for people at a desk."""

    def __init__(self, sink: TextIO | None = None) -> None:
        self._sink = sink
        self._broken = False

    def show(self, screen: Screen) -> None:
        """Draw the frame; a sink that is gone is logged once and then left alone."""
        if self._broken:
            return
        sink = sys.stdout if self._sink is None else self._sink
        try:
            sink.write(drawn(screen))
            sink.flush()
        except (OSError, ValueError) as fault:
            self._broken = True
            event(logger, logging.ERROR, "display_lost", reason=str(fault))

    def stop(self) -> None:
        """Nothing to give back."""


def drawn(screen: Screen) -> str:
    """The four lines in a frame; the buzzer is the terminal's bell."""
    edge = "+" + "-" * COLUMNS + "+"
    rows = [f"|{line}{' ' * (COLUMNS - width(line))}|" for line in layout(screen.customer)]
    bell = "" if screen.beep is None else "\a"
    return "\n".join([edge, *rows, edge]) + bell + "\n"
