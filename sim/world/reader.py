"""The card reader of one till in virtual time: an APDU takes its time there and back.

A cut of the current may thus fall before the card has it, after its commit, or before the till
hears of it. Implements firmware.ports.CardIo; what the reader tells goes to the till as events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from firmware.ports import CardIn, CardOut, Reply, Trouble
from sim.errors import CardTornError
from sim.world.chance import Stream
from sim.world.disk import Breaker
from sim.world.heap import Heap

LOST_CODES = ("CARD_GONE", "LINK_LOST", "CARD_MUTE")
DEBIT = b"\x80\x54"
WAY_US = (4_000, 30_000)

Told = CardIn | CardOut | Reply | Trouble


class Plastic(Protocol):
    """What can lie on a reader: a card, or somebody pretending."""

    @property
    def uid(self) -> bytes:
        """As the radio shows it."""

    def power_on(self) -> bytes:
        """Activate. Raises CardTornError."""

    def power_off(self) -> None:
        """Out of the field."""

    def exchange(self, apdu: bytes) -> bytes:
        """One APDU. Raises CardTornError."""


class Reader:
    """One slot; `tell` gives an event to the till, `debit` hears of a DEBIT at the card."""

    def __init__(
        self,
        heap: Heap,
        node: str,
        chance: Stream,
        breaker: Breaker,
        tell: Callable[[Told], None],
        debit: Callable[[Plastic], None],
    ) -> None:
        self.card: Plastic | None = None
        self._heap = heap
        self._node = node
        self._chance = chance
        self._breaker = breaker
        self._tell = tell
        self._debit = debit
        self._life = 0

    # ---- people

    def put(self, card: Plastic) -> None:
        """A card comes into the field."""
        self.card = card
        try:
            card.power_on()
        except CardTornError:
            self.card = None
            return
        self._tell(CardIn(card.uid, "iso14443"))

    def take(self) -> None:
        """The card is taken away."""
        if self.card is not None:
            self.card.power_off()
            self.card = None
            self._tell(CardOut())

    def dead(self) -> None:
        """The till's process is gone: the field falls, nobody waits for answers."""
        self._life += 1
        if self.card is not None:
            self.card.power_off()
        self.card = None

    # ---- CardIo

    def transmit(self, token: int, apdu: bytes, deadline_ms: int) -> None:
        """Ask for one APDU; Reply or Trouble comes later."""
        self._breaker.point()
        life = self._life
        what = b"apdu" + apdu
        self._heap.after(self._way(), self._node, what, lambda: self._at_card(life, token, apdu))

    def reset(self, token: int) -> None:
        """Ask for a cold start of the card."""
        self._breaker.point()
        life = self._life
        self._heap.after(self._way(), self._node, b"reset", lambda: self._restart(life, token))

    # ---- inside

    def _at_card(self, life: int, token: int, apdu: bytes) -> None:
        if life != self._life:
            return
        card = self.card
        if card is None:
            self._answer(life, Trouble(token, "CARD_GONE"))
            return
        if apdu[:2] == DEBIT:
            self._debit(card)
        try:
            raw = card.exchange(apdu)
        except CardTornError:
            self.card = None
            self._answer(life, Trouble(token, self._chance.pick(LOST_CODES)))
            return
        self._answer(life, Reply(token, raw))

    def _restart(self, life: int, token: int) -> None:
        if life != self._life:
            return
        card = self.card
        try:
            if card is None:
                raise CardTornError(at="gone")
            card.power_off()
            card.power_on()
        except CardTornError:
            self.card = None
            self._answer(life, Trouble(token, "CARD_GONE"))
            return
        self._answer(life, Reply(token, b""))

    def _answer(self, life: int, event: Reply | Trouble) -> None:
        said = event.raw if isinstance(event, Reply) else event.code.encode()

        def told() -> None:
            if life == self._life:
                self._tell(event)

        self._heap.after(self._way(), self._node, b"answer" + said, told)

    def _way(self) -> int:
        return self._chance.between(*WAY_US)
