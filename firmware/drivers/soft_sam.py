"""The software SAM: purchase keys in the terminal's memory, for development and demos only.

It refuses to exist outside development (SAM_INSECURE). Its terminal serial never repeats: the
counter file is advanced a block ahead, durably, before a serial of that block is handed out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firmware.errors import SamError, SamInsecureError
from firmware.ports import Mac1Answer, Mac1Ask, SamInfo
from protocols.card.suite import Suite, purchase_mac1_message, same_mac

BLOCK = 64
TERMSEQ_MAX = 2**32 - 1


class Serials(Protocol):
    """A source of terminal serials that never gives one twice."""

    def next(self) -> int:
        """The next serial. Raises SAM_FAIL when it cannot be made durable or none is left."""


class CountFrom:
    """Serials in memory, for simulators whose SAM outlives the terminal."""

    def __init__(self, start: int) -> None:
        self.given = start - 1

    def next(self) -> int:
        """The next serial."""
        self.given += 1
        return _in_range(self.given)


class CounterFile:
    """Serials from a file that holds the highest one that may have been used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given: int | None = None
        self._reserved = 0

    def next(self) -> int:
        """The next serial; one fsync per 64. Raises SAM_FAIL."""
        if self._given is None:
            self._given = self._reserved = self._read()
        serial = _in_range(self._given + 1)
        if serial > self._reserved:
            self._reserve(min(self._reserved + BLOCK, TERMSEQ_MAX))
        self._given = serial
        return serial

    def _read(self) -> int:
        try:
            return int(self._path.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as fault:
            raise SamError(path=str(self._path), reason="counter file unreadable") from fault

    def _reserve(self, top: int) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            with fresh.open("w", encoding="ascii") as file:
                file.write(f"{top}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as fault:
            raise SamError(path=str(self._path), reason=fault.strerror) from fault
        self._reserved = top


class SoftSam:
    """SamPort over a purchase master key, or over a function that diversifies it by ASN8."""

    def __init__(
        self,
        mpk: bytes | Callable[[bytes], bytes],
        tid: bytes,
        termseq: int | Serials,
        suite: Suite,
        *,
        development: bool = False,
    ) -> None:
        if not development:
            raise SamInsecureError(name="soft_sam", allowed="development = true")
        assert len(tid) == 6, tid
        self._dpk = mpk if callable(mpk) else lambda asn8: suite.diversify(mpk, asn8)
        self._tid = tid
        self._serials = CountFrom(termseq) if isinstance(termseq, int) else termseq
        self._suite = suite
        self._expected: bytes | None = None

    def info(self) -> SamInfo:
        """Always a development SAM."""
        return SamInfo(self._tid, development=True, name="soft_sam")

    def mac1(self, ask: Mac1Ask) -> Mac1Answer:
        """MAC1 under the next serial, and the MAC2 that the card must answer."""
        termseq = self._serials.next()
        ses = self._suite.purchase_session(self._dpk(ask.asn8), ask.rnd, ask.offseq, termseq)
        message = purchase_mac1_message(ask.fen, ask.type, self._tid, ask.date, ask.time)
        self._expected = self._suite.mac2_purchase(ses, ask.fen)
        return Mac1Answer(termseq, self._suite.mac1_purchase(ses, message), self._expected)

    def check_mac2(self, mac2: bytes) -> bool:
        """Whether it is the MAC2 of the last mac1; asked once per mac1. Raises SAM_FAIL."""
        expected, self._expected = self._expected, None
        if expected is None:
            raise SamError(reason="MAC2 without a MAC1 before it")
        return same_mac(expected, mac2)


def _in_range(serial: int) -> int:
    if serial > TERMSEQ_MAX:
        raise SamError(reason="terminal serials used up")
    return serial
