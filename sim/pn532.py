"""A PN532 on a pseudo terminal: real frames, wire time, and faults on the line.

One thread plays the chip. `insert` and `remove` are the person; `plan` is the electrician.
Wire time: 10 bit times a byte each way at the speed the host has set; pace 0 means none.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from dataclasses import dataclass

from protocols.reader import pn532 as wire
from sim.field import Field, FieldCard
from sim.pn532_chip import Chip

START_BAUD = 115_200
PREAMBLE_MIN = 10  # bytes that wake a sleeping chip
FAULTS = (
    "no_ack",
    "deaf",
    "mute",
    "drop",
    "double",
    "flip",
    "garbage",
    "hang_up",
    "refuse",
    "dribble",
)


@dataclass(slots=True)
class Fault:
    """One fault on the answer to command `code` (None: any): after `skip` such, `times` times.

    deaf: the command is not received. no_ack, mute: it is carried out, ACK or answer is lost.
    drop, flip: one byte at `offset` of the answer. refuse: the error frame. dribble: byte by byte.
    """

    kind: str
    code: int | None = None
    skip: int = 0
    times: int = 1
    offset: int = 7

    def __post_init__(self) -> None:
        assert self.kind in FAULTS, self.kind


class Pn532Sim:
    """The chip; `port` is the path for the driver."""

    def __init__(self, *, paced: bool = False) -> None:
        self._paced = paced
        self._baud = START_BAUD
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK)
        self.field = Field(self._notice)
        self._chip = Chip(self.field, self._pause)
        self._chip.asleep = True
        self._splitter = wire.Splitter()
        self._asleep_seen = b""
        self._last = b""
        self._faults: list[Fault] = []
        self._ending = False
        self.byte_count = 0  # both ways
        self.commands: list[int] = []
        self._thread = threading.Thread(target=self._run, name="pn532-sim", daemon=True)

    def __enter__(self) -> Pn532Sim:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def insert(self, card: FieldCard) -> None:
        """Lay the card on the reader."""
        self.field.insert(card)

    def remove(self) -> None:
        """Take the card off the reader."""
        self.field.remove()

    def plan(self, *faults: Fault) -> None:
        """Replace the planned faults."""
        self._faults = list(faults)

    def wire_s(self) -> float:
        """The time that the bytes so far take on the wire at the present speed."""
        return self.byte_count * 10 / self._baud

    def stop_line(self) -> None:
        """The cable is pulled: the driver sees a hang-up."""
        self._ending = True
        self._notice()
        if self._thread.is_alive():
            self._thread.join(5)
        self._hang_up()

    def stop(self) -> None:
        """End the thread and close the terminal."""
        self.stop_line()
        for end in (self._wake_read, self._wake_write):
            os.close(end)

    def _run(self) -> None:
        while not self._ending and self._master >= 0:
            self.field.settle()
            if not self._pause(0.05 if self.field.busy else 1.0) or not self._readable():
                continue
            try:
                raw = os.read(self._master, 4096)
            except OSError:
                return
            self._take(raw)

    def _take(self, raw: bytes) -> None:
        self._wire(len(raw))
        if self._chip.asleep:
            raw = self._woken(raw)
        for event in self._splitter.feed(raw):
            if isinstance(event, wire.Frame):
                self._command(event)
            elif isinstance(event, wire.Nack) and self._last:
                self._send_answer(self._last, self._due(None, ("flip", "drop")))
            if self._master < 0:
                return

    def _woken(self, raw: bytes) -> bytes:
        """A sleeping chip hears nothing before a long enough preamble."""
        self._asleep_seen += raw
        at = self._asleep_seen.find(b"\x00\xff")
        if len(self._asleep_seen) < PREAMBLE_MIN or 0 <= at < PREAMBLE_MIN - 1:
            self._asleep_seen = self._asleep_seen if at < 0 else b""
            return b""
        self._chip.asleep = False
        raw, self._asleep_seen = self._asleep_seen, b""
        return raw

    def _command(self, frame: wire.Frame) -> None:
        self.commands.append(frame.code)
        fault = self._due(frame.code)
        kind = "" if fault is None else fault.kind
        if kind == "deaf":
            return
        if kind != "no_ack":
            self._send(wire.Ack().encode())
        answer = wire.ErrorFrame() if kind == "refuse" else self._chip.answer(frame)
        if kind == "hang_up":
            self._hang_up()
        if answer is None or kind in ("no_ack", "mute", "hang_up"):
            return
        self._last = answer.encode()
        self._send_answer(self._last, fault)
        if self._chip.next_baud is not None:
            self._baud, self._chip.next_baud = self._chip.next_baud, None

    def _due(self, code: int | None, kinds: tuple[str, ...] = FAULTS) -> Fault | None:
        for fault in self._faults:
            if fault.kind in kinds and (code is None or fault.code in (None, code)):
                if fault.skip and code is not None:
                    fault.skip -= 1
                    continue
                if fault.times:
                    fault.times -= 1
                    return fault
        return None

    def _send_answer(self, raw: bytes, fault: Fault | None) -> None:
        kind = "" if fault is None else fault.kind
        at = min(0 if fault is None else fault.offset, len(raw) - 1)
        if kind == "drop":
            raw = raw[:at] + raw[at + 1 :]
        elif kind == "flip":
            raw = raw[:at] + bytes((raw[at] ^ 0x10,)) + raw[at + 1 :]
        elif kind == "double":
            raw += raw
        elif kind == "garbage":
            raw = b"\x12\x00\x34\xff\x55" + raw
        if kind == "dribble":
            for octet in raw:
                self._send(bytes((octet,)))
        else:
            self._send(raw)

    def _send(self, raw: bytes) -> None:
        self._wire(len(raw))
        if self._master >= 0:
            os.write(self._master, raw)

    def _wire(self, count: int) -> None:
        self.byte_count += count
        if self._paced:
            time.sleep(count * 10 / self._baud)

    def _pause(self, limit_s: float) -> bool:
        """Wait for the host or the field; True when the host has sent something."""
        if self._master < 0 or self._ending:
            return True
        ready, _, _ = select.select([self._master, self._wake_read], [], [], limit_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        return self._master in ready or self._ending

    def _readable(self) -> bool:
        return self._master >= 0 and bool(select.select([self._master], [], [], 0)[0])

    def _notice(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return

    def _hang_up(self) -> None:
        master, slave = self._master, self._slave
        self._master = self._slave = -1
        for end in (master, slave):
            if end >= 0:
                os.close(end)
