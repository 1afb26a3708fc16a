"""The RF field of a simulated reader: which card lies in it, powered or not, busy or not.

The test's thread inserts and removes, the reader's thread runs APDUs; one lock between them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from sim.card import Pending, SimCard
from sim.errors import CardTornError

STEP_S = 0.002


class FieldCard(Protocol):
    """What the field needs of a card; SimCard and Relay have it."""

    @property
    def uid(self) -> bytes:
        """UID."""

    @property
    def ats(self) -> bytes:
        """ATS with its length byte."""

    @property
    def atr(self) -> bytes:
        """ATR, for contact slots."""

    def power_on(self) -> bytes:
        """Activate."""

    def power_off(self) -> None:
        """Field gone."""

    def exchange(self, apdu: bytes) -> bytes:
        """One APDU."""


class Field:
    """One card position."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self._notice = notice
        self._lock = threading.RLock()
        self._card: FieldCard | None = None
        self._laid = 0
        self._on = False
        self._late: tuple[Pending, float] | None = None

    @property
    def card(self) -> FieldCard | None:
        """The card that lies in the field now."""
        return self._card

    @property
    def laid(self) -> int:
        """How often a card was laid on: the same card put back is not where it was selected."""
        return self._laid

    @property
    def busy(self) -> bool:
        """Whether a command was delivered whose EEPROM time is not over."""
        return self._late is not None

    def insert(self, card: FieldCard) -> None:
        """Lay a card into the field."""
        with self._lock:
            assert self._card is None, "one card at a time"
            self._card = card
            self._laid += 1
        self._notice()

    def remove(self) -> None:
        """Take the card away, in mid-command too."""
        with self._lock:
            self.settle()
            self._late = None
            card, self._card = self._card, None
            if card is not None:
                card.power_off()
        self._notice()

    def switch(self, *, on: bool) -> None:
        """The reader's field on or off; off takes the card's power."""
        with self._lock:
            self.settle()
            self._on = on
            if not on and self._card is not None:
                self._late = None
                self._card.power_off()

    def activate(self) -> FieldCard | None:
        """Anticollision and selection; a card that leaves during it is gone."""
        with self._lock:
            self.settle()
            self._late = None
            if self._card is None or not self._on:
                return None
            try:
                self._card.power_on()
            except CardTornError:
                self._card = None
            return self._card

    def run(
        self, apdu: bytes, limit_s: float, stopped: Callable[[], bool]
    ) -> tuple[bytes | None, bool]:
        """(answer, True), (None, True) while the card is busy, (None, False) when it is gone."""
        with self._lock:
            card = self._card
            if card is None:
                return None, False
            try:
                if not isinstance(card, SimCard):
                    return card.exchange(apdu), True
                self._late = (pending := card.begin(apdu), 0.0)
                if pending.delay_ms == 0:
                    return self._finish(pending), True
            except CardTornError:
                self._card = self._late = None
                return None, False
            self._late = pending, time.monotonic() + pending.delay_ms / 1000
        return self.wait(limit_s, stopped)

    def wait(self, limit_s: float, stopped: Callable[[], bool]) -> tuple[bytes | None, bool]:
        """Wait for the busy card; results as in `run`."""
        until = time.monotonic() + limit_s
        while True:
            with self._lock:
                if self._card is None:
                    return None, False
                answer = self.settle()
                if answer is not None:
                    return answer, True
            if time.monotonic() >= until or stopped():
                return None, True
            time.sleep(STEP_S)

    def settle(self) -> bytes | None:
        """Let a busy card finish whose time is over; its answer."""
        with self._lock:
            if self._late is None or time.monotonic() < self._late[1]:
                return None
            try:
                return self._finish(self._late[0])
            except CardTornError:
                self._card = None
                return None

    def _finish(self, pending: Pending) -> bytes:
        self._late = None
        return pending.finish()
