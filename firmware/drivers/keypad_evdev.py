"""A keypad on an evdev descriptor or on a serial line: one Key per press, nothing else.

What a press is stands in firmware.key_streams. The event device is grabbed, so that no console sees
a code. A keypad that is gone is told once, looked for again, and never stops cards (T9).
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from typing import Protocol

from firmware.base.clock import Clock
from firmware.base.log import event
from firmware.drivers.serial_link import SerialLink
from firmware.errors import LinkLostError, ReaderDownError
from firmware.key_streams import KeyStream
from firmware.ports import Key, KeypadLost, KeyStuck
from firmware.reactor import Reactor, Timer

logger = logging.getLogger(__name__)

EVIOCGRAB = 0x40044590
REOPEN_MS = 2_000
READ_MAX = 4096


class Source(Protocol):
    """Where the bytes come from."""

    def open(self) -> int:
        """The descriptor, opened. Raises OSError or READER_DOWN."""

    def read(self) -> bytes:
        """What has come. Raises OSError or LINK_LOST when it is gone."""

    def close(self) -> None:
        """Close it."""


class EvdevSource:
    """An event device, or a FIFO that carries the same structs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def open(self) -> int:
        """Open and grab; a FIFO cannot be grabbed and need not be."""
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.ioctl(self._descriptor, EVIOCGRAB, 1)
        except OSError as fault:
            event(logger, logging.INFO, "keypad_not_grabbed", reason=str(fault))
        return self._descriptor

    def read(self) -> bytes:
        """What has come."""
        raw = os.read(self._descriptor, READ_MAX)
        if not raw:
            raise LinkLostError(port=self._path, reason="ended")
        return raw

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class SerialSource:
    """A serial line."""

    def __init__(self, port: str, baud: int, clock: Clock) -> None:
        self._link = SerialLink(port, clock)
        self._baud = baud

    def open(self) -> int:
        """Open the port."""
        self._link.open(self._baud)
        return self._link.descriptor

    def read(self) -> bytes:
        """What has come."""
        return self._link.read(0)

    def close(self) -> None:
        """Close the port."""
        self._link.close()


class Keypad:
    """Posts Key, KeyStuck and KeypadLost on the loop; a keypad that went is looked for again."""

    def __init__(self, source: Source, stream: KeyStream, clock: Clock) -> None:
        self._source = source
        self._stream = stream
        self._clock = clock
        self._reactor: Reactor | None = None
        self._post: Callable[[object], None] | None = None
        self._descriptor: int | None = None
        self._timer: Timer | None = None
        self._lost = False

    def start(self, reactor: Reactor, post: Callable[[object], None]) -> None:
        """Open the device and listen; one that is not there is KeypadLost, and tried again."""
        self._reactor, self._post = reactor, post
        self._open()

    def stop(self) -> None:
        """Let the device go."""
        if self._reactor is not None and self._timer is not None:
            self._reactor.cancel(self._timer)
        self._close()
        self._reactor = None

    def _open(self) -> None:
        assert self._reactor is not None, "start came first"
        try:
            self._descriptor = self._source.open()
        except (OSError, ReaderDownError) as fault:
            self._gone(str(fault))
            return
        self._lost = False
        self._reactor.watch(self._descriptor, self._readable)

    def _readable(self) -> None:
        try:
            raw = self._source.read()
        except BlockingIOError:
            return
        except (OSError, LinkLostError) as fault:
            self._gone(str(fault))
            return
        self._tell(self._stream.feed(raw, self._now_ms()))

    def _tell(self, keys: list[Key | KeyStuck]) -> None:
        assert self._post is not None, "start came first"
        assert self._reactor is not None, "start came first"
        for key in keys:
            self._post(key)
        if self._timer is not None:
            self._reactor.cancel(self._timer)
            self._timer = None
        due_ms = self._stream.next_timer()
        if due_ms is not None:
            self._timer = self._reactor.call_at(due_ms * 1000, self._late)

    def _late(self) -> None:
        self._tell(self._stream.on_timer(self._now_ms()))

    def _gone(self, reason: str) -> None:
        assert self._reactor is not None, "start came first"
        assert self._post is not None, "start came first"
        self._close()
        if not self._lost:
            event(logger, logging.ERROR, "keypad_lost", reason=reason[:120])
            self._lost = True
            self._post(KeypadLost())
        if self._timer is not None:
            self._reactor.cancel(self._timer)
        self._timer = self._reactor.call_later(REOPEN_MS, self._open)

    def _close(self) -> None:
        if self._descriptor is not None and self._reactor is not None:
            self._reactor.unwatch(self._descriptor)
        self._descriptor = None
        self._source.close()

    def _now_ms(self) -> int:
        return self._clock.mono_us() // 1000
