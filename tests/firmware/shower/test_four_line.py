"""The four-line display: layout in columns, templates, a display that is gone."""

import io
import logging
import os
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.base.clock import SystemClock
from firmware.drivers.four_line import (
    ConsoleDisplay,
    SerialDisplay,
    Template,
    drawn,
    layout,
    width,
)
from firmware.ports import Beep, Screen

RUNNING = Screen((), ("用水中 12.4升 0.31元", "预扣余 约23秒", "卡余额 23.40", "[*]暂停 拔卡结束"))


def test_a_picture_of_the_design_fits() -> None:
    """The four lines of RUN stay as they are, each within twenty columns."""
    assert layout(RUNNING.customer) == list(RUNNING.customer)
    assert [width(line) for line in RUNNING.customer] == [20, 13, 12, 16]


def test_long_lines_go_on_while_there_are_rows() -> None:
    """A long line takes a spare row; with four lines it is cut."""
    long = "停水 请取出卡片后重新放入"
    assert layout((long,)) == ["停水 请取出卡片后重", "新放入", "", ""]
    assert layout((long, "b", "c", "d")) == ["停水 请取出卡片后重", "b", "c", "d"]
    assert layout(("x" * 100,)) == ["x" * 20] * 4
    assert layout(tuple("abcdef")) == ["a", "b", "c", "d"]


@given(st.lists(st.text(max_size=60), max_size=6))
def test_layout_never_overflows(lines: list[str]) -> None:
    """Any text: exactly four rows of at most twenty columns, nothing that steers the display."""
    shown = layout(tuple(lines))
    assert len(shown) == 4
    assert all(width(line) <= 20 and (line.isprintable() or not line) for line in shown)


def test_templates() -> None:
    """Clear, line end, beep and encoding as configured; what it lacks is a question mark."""
    screen = Screen((), ("停水", "A"), Beep.ATTENTION)
    template = Template(b"\x1b@", b"\r", b"\x1b(", "gb18030")
    assert template.encode(screen) == b"\x1b@\xcd\xa3\xcb\xae\rA\r\r\x1b("
    assert Template(encoding="ascii").encode(Screen((), ("停A",))) == b"\x0c?A\r\n\r\n\r\n"


def test_drawn_on_a_console() -> None:
    """The same rows in a frame, with the bell."""
    sink = io.StringIO()
    ConsoleDisplay(sink).show(Screen((), ("停水",), Beep.KEY))
    edge = "+" + "-" * 20 + "+"
    rows = ["|停水" + " " * 16 + "|"] + ["|" + " " * 20 + "|"] * 3
    assert sink.getvalue() == "\n".join([edge, *rows, edge]) + "\a\n"
    assert drawn(RUNNING).count("\n") == 6


def test_a_lost_console_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A closed sink never raises."""
    sink = io.StringIO()
    sink.close()
    display = ConsoleDisplay(sink)
    with caplog.at_level(logging.ERROR):
        display.show(RUNNING)
        display.show(RUNNING)
    assert len(caplog.records) == 1
    display.stop()


def test_serial_display_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    """The same picture goes out once; a display that is gone is logged once and never raises."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    display = SerialDisplay(os.ttyname(theirs), 9_600, Template(), SystemClock())
    display.show(RUNNING)
    display.show(RUNNING)
    assert os.read(ours, 4096) == Template().encode(RUNNING)
    display.show(Screen((), ("b",)))
    assert os.read(ours, 4096) == b"\x0cb\r\n\r\n\r\n"
    os.close(theirs)
    os.close(ours)
    with caplog.at_level(logging.ERROR):
        display.show(RUNNING)
        display.show(Screen((), ("c",)))
    assert len(caplog.records) == 1
    display.stop()
