"""Keys from characters and from words; screens for people and for programs; lost ends."""

import io
import json
import os
import pty
from collections.abc import Callable

import pytest

from firmware.drivers.console import Console, KeyStream
from firmware.ports import Beep, Key, KeypadLost, Screen

SCREEN = Screen(("金额 12.50", "请刷卡"), ("12.50",), Beep.PAID)


def names(form: str, *pieces: bytes) -> list[str]:
    stream = KeyStream(form)
    return [key.name for piece in pieces for key in stream.feed(piece)]


def test_characters_are_keys() -> None:
    """Text: one character one key; escape cancels, backspace takes back, the rest is dropped."""
    assert names("text", b"12.5\n\x1b\x7fvs*#!\xff") == [
        *("1", "2", ".", "5", "ENTER", "CANCEL", "BACK", "VOID", "SHIFT", "RUN", "END")
    ]


def test_words_are_keys() -> None:
    """JSON side: key names on a line, whatever pieces it comes in; unknown words are dropped."""
    assert names("json", b"1 2 . 5", b"0 ENT", b"ER\nCAN", b"CEL junk 00\n") == [
        *("1", "2", ".", "ENTER", "CANCEL", "00")
    ]


def test_endless_line_is_dropped() -> None:
    """A line without an end does not grow memory, and the next line is read."""
    stream = KeyStream("json")
    for _ in range(100):
        assert stream.feed(b"x" * 1000) == []
    assert [key.name for key in stream.feed(b"\n1\n")] == ["1"]


def test_json_screen_is_one_line() -> None:
    """Each screen is one JSON object on one line, with both displays and the sound."""
    sink = io.StringIO()
    Console("json", sink=sink).show(SCREEN)
    assert sink.getvalue().count("\n") == 1
    assert json.loads(sink.getvalue()) == {
        "operator": ["金额 12.50", "请刷卡"],
        "customer": ["12.50"],
        "beep": "paid",
    }


def test_text_screen_shows_both_displays() -> None:
    """For people: both displays' lines, and the terminal's bell for the buzzer."""
    sink = io.StringIO()
    Console("text", sink=sink).show(SCREEN)
    shown = sink.getvalue()
    assert "请刷卡" in shown
    assert "顾客 | 12.50" in shown
    assert shown.endswith("\a\n")


def test_broken_display_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A sink that is gone is logged once; later screens are dropped."""
    sink = io.StringIO()
    console = Console("json", sink=sink)
    sink.close()
    console.show(SCREEN)
    console.show(SCREEN)
    assert [record.message for record in caplog.records] == ["display_lost"]


class Loop:
    """The part of the reactor that a keypad needs."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], None]] = {}
        self.posted: list[object] = []

    def start(self, console: Console) -> None:
        console.start(self.calls.__setitem__, self.calls.__delitem__, self.posted.append)


def test_keys_are_posted_and_the_end_is_told() -> None:
    """Bytes on the stream become Key events; its end is KeypadLost and the watch is taken back."""
    read_end, write_end = os.pipe()
    loop = Loop()
    loop.start(Console("json", source=read_end))
    os.write(write_end, b"1 ENTER\n")
    loop.calls[read_end]()
    assert loop.posted == [Key("1"), Key("ENTER")]
    os.close(write_end)
    loop.calls[read_end]()
    assert loop.posted[2:] == [KeypadLost()]
    assert loop.calls == {}
    os.close(read_end)


def test_single_keys_on_a_terminal() -> None:
    """On a terminal keys come without ENTER; stop gives the line back as it was."""
    master, slave = pty.openpty()
    loop, console = Loop(), Console("text", source=slave)
    loop.start(console)
    os.write(master, b"7")
    loop.calls[slave]()
    assert loop.posted == [Key("7")]
    console.stop()
    os.write(master, b"8")
    os.set_blocking(slave, False)
    with pytest.raises(BlockingIOError):
        os.read(slave, 1)  # line mode again: no ENTER, no line
    os.close(master)
    os.close(slave)
