"""Keys of evdev structs and of a serial line: split anywhere, bounced, stuck, ghosts, gone."""

import os
import tty
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.base.clock import SystemClock
from firmware.drivers.keypad_evdev import EvdevSource, Keypad, SerialSource
from firmware.key_streams import (
    EVENT,
    STUCK_MS,
    EvdevStream,
    SerialStream,
    key_codes,
    serial_characters,
)
from firmware.ports import Key, KeypadLost, KeyStuck
from firmware.reactor import Reactor

CODES = key_codes("KPASTERISK", "KPENTER")
STAR, ENTER = 55, 96


def moved(code: int, value: int, at_ms: int) -> bytes:
    """One key event and its SYN."""
    return EVENT.pack(0, at_ms * 1000, 1, code, value) + EVENT.pack(0, at_ms * 1000, 0, 0, 0)


def press(code: int, at_ms: int) -> bytes:
    """Down, autorepeat, up 60 ms later."""
    return moved(code, 1, at_ms) + moved(code, 2, at_ms + 40) + moved(code, 0, at_ms + 60)


def stream() -> EvdevStream:
    return EvdevStream(CODES)


def test_every_digit_in_its_places() -> None:
    """Keyboard row, number pad and phone pad give the same digits; RUN and END are mapped."""
    for codes in ((11, *range(2, 11)), (82, 79, 80, 81, 75, 76, 77, 71, 72, 73), range(512, 522)):
        raw = b"".join(press(code, 100 * n) for n, code in enumerate(codes))
        assert stream().feed(raw, 0) == [Key(str(n)) for n in range(10)]
    assert stream().feed(press(STAR, 0) + press(ENTER, 100), 0) == [Key("RUN"), Key("END")]


@given(st.lists(st.integers(1, 30), max_size=40))
def test_cut_anywhere(cuts: list[int]) -> None:
    """The same keys in whatever pieces the structs come."""
    raw = b"".join(press(code, 100 * n) for n, code in enumerate((2, 3, 3, STAR, 30)))
    keys, cutter, at = list[object](), stream(), 0
    for cut in [*cuts, len(raw)]:
        keys += cutter.feed(raw[at : at + cut], 0)
        at += cut
    assert keys == [Key("1"), Key("2"), Key("2"), Key("RUN")]


@given(st.binary(max_size=200))
def test_garbage(raw: bytes) -> None:
    """Any bytes: keys or nothing, and no memory."""
    garbled = stream()
    garbled.feed(raw, 0)
    assert len(garbled._rest) < EVENT.size


def test_bounce_is_one_press() -> None:
    """Contacts that open and close within 30 ms give one key; 40 ms later is another press."""
    bounce = moved(2, 1, 0) + moved(2, 0, 5) + moved(2, 1, 9) + moved(2, 0, 20) + moved(2, 1, 25)
    keys = stream().feed(bounce + moved(2, 0, 100) + moved(2, 1, 140), 0)
    assert keys == [Key("1"), Key("1")]


def test_three_keys_at_once_are_ghosts() -> None:
    """The third key held down is ignored; after letting go, keys count again."""
    held = stream()
    assert held.feed(moved(2, 1, 0) + moved(3, 1, 50) + moved(4, 1, 100), 0) == [
        *(Key("1"), Key("2"))
    ]
    raw = moved(4, 0, 200) + moved(3, 0, 250) + moved(5, 1, 300)
    assert held.feed(raw, 300) == [Key("4")]


def test_a_stuck_key_is_told_once_and_masked() -> None:
    """30 s down: KEY_STUCK; the other keys go on, two at once included; let go it counts again."""
    stuck = stream()
    stuck.feed(moved(2, 1, 0), 0)
    assert stuck.next_timer() == STUCK_MS
    assert stuck.on_timer(STUCK_MS - 1) == []
    assert stuck.on_timer(STUCK_MS) == [KeyStuck("1")]
    assert stuck.on_timer(STUCK_MS + 1) == []
    assert stuck.next_timer() is None
    assert stuck.feed(moved(3, 1, 40_000) + moved(4, 1, 40_100), 40_100) == [Key("2"), Key("3")]
    assert stuck.feed(moved(2, 0, 50_000) + moved(2, 1, 50_100), 50_100) == []  # three at once
    assert stuck.feed(moved(3, 0, 50_200) + press(2, 50_300), 50_300) == []  # still down
    assert stuck.feed(press(2, 51_000), 51_000) == [Key("1")]


def test_serial_characters() -> None:
    """One character a key; a contact that repeats within 30 ms is one press; noise is dropped."""
    keys = SerialStream(serial_characters("*", "#"))
    assert keys.feed(b"1\xff*x#", 0) == [Key("1"), Key("RUN"), Key("END")]
    assert keys.feed(b"55", 1_000) == [Key("5")]
    assert keys.feed(b"5", 1_040) == [Key("5")]
    assert keys.next_timer() is None


def test_a_serial_key_that_streams_is_stuck() -> None:
    """A character every 10 ms for half a minute: one key, then KEY_STUCK once."""
    keys, found = SerialStream(serial_characters("*", "#")), list[object]()
    for now_ms in range(0, 40_000, 10):
        found += keys.feed(b"7", now_ms) + keys.on_timer(now_ms)
    assert found == [Key("7"), KeyStuck("7")]


def run(
    keypad: Keypad, count: int, act: object = None, begin: Callable[[], object] | None = None
) -> list[object]:
    """The first `count` events of the keypad on a loop; `act` is called on each event."""
    reactor, heard = Reactor(SystemClock()), list[object]()

    def hear(event: object) -> None:
        heard.append(event)
        if act is not None:
            act(event)  # type: ignore[operator]
        if len(heard) == count:
            reactor.stop()

    def too_late() -> None:
        raise AssertionError(heard)

    reactor.deliver_to(hear)
    reactor.call_later(5_000, too_late)
    keypad.start(reactor, reactor.post)
    if begin is not None:
        begin()
    reactor.run()
    keypad.stop()
    return heard


def test_a_fifo_of_real_structs(tmp_path: Path) -> None:
    """The driver reads structs from any descriptor; the end of the stream is KeypadLost."""
    fifo = tmp_path / "keys"
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, press(2, 0) + press(STAR, 100)[:50])
    os.write(writer, press(STAR, 100)[50:])

    def act(event: object) -> None:
        if event == Key("RUN"):
            os.close(writer)
            os.close(keeper)

    keypad = Keypad(EvdevSource(str(fifo)), stream(), SystemClock())
    assert run(keypad, 3, act) == [Key("1"), Key("RUN"), KeypadLost()]


def test_a_keypad_that_is_not_there_is_looked_for(tmp_path: Path) -> None:
    """KeypadLost once; when the device appears its keys come."""
    path = tmp_path / "keys"
    ends: list[int] = []

    def act(event: object) -> None:
        if event == KeypadLost():
            os.mkfifo(path)
            ends.append(os.open(path, os.O_RDWR))
            os.write(ends[0], press(3, 0))

    keypad = Keypad(EvdevSource(str(path)), stream(), SystemClock())
    assert run(keypad, 2, act) == [KeypadLost(), Key("2")]
    os.close(ends[0])


def test_a_serial_keypad() -> None:
    """Characters of a pseudo terminal, and its end."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    clock = SystemClock()
    source = SerialSource(os.ttyname(theirs), 9_600, clock)

    def act(event: object) -> None:
        if event == Key("END"):
            os.close(theirs)
            os.close(ours)

    keypad = Keypad(source, SerialStream(serial_characters("*", "#")), clock)
    assert run(keypad, 4, act, lambda: os.write(ours, b"42#")) == [
        Key("4"),
        Key("2"),
        Key("END"),
        KeypadLost(),
    ]


def test_one_key_cannot_mean_two_things() -> None:
    """RUN and END on the same key is a bug of the caller."""
    with pytest.raises(AssertionError):
        key_codes("ENTER", "ENTER")
    with pytest.raises(AssertionError):
        serial_characters("*", "*")
