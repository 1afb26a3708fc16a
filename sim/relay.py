"""The attacker with two phones: a real card behind it, and a terminal that believes to see it.

It can swallow DEBIT, hold it back, invent records, replay INIT and PROVE answers: everything that
carries no MAC the terminal can check (card.md §6.1, §10). It never has a key.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.card.files import PurseRecord
from protocols.card.purse import DebitAsk, InitAsk
from protocols.money import Fen
from sim.card import SimCard
from sim.errors import CardTornError


@dataclass(slots=True)
class Tricks:
    """What the relay does beside passing on; each flag works until it is taken back."""

    swallow_debit: bool = False  # the card never sees it
    hold_debit: bool = False  # the card sees it only at `release`
    invent_record: bool = False  # READ RECORD 1 shows the swallowed debit as done
    replay_init: bytes | None = None  # whole answer to INITIALIZE FOR PURCHASE
    replay_prove: bytes | None = None  # whole answer to GET TRANSACTION PROVE
    counter_lift: int = 0  # added to the offline counter that INIT shows


class Relay:
    """Same shape as SimCard: usable in any reader."""

    def __init__(self, card: SimCard, tricks: Tricks) -> None:
        self.card = card
        self.tricks = tricks
        self.swallowed: list[bytes] = []
        self._held: bytes | None = None
        self._asked: InitAsk | None = None
        self._made_up: PurseRecord | None = None

    @property
    def uid(self) -> bytes:
        """The card's own."""
        return self.card.uid

    @property
    def ats(self) -> bytes:
        """The card's own."""
        return self.card.ats

    @property
    def atr(self) -> bytes:
        """The card's own."""
        return self.card.atr

    def power_on(self) -> bytes:
        """The terminal activates; a held DEBIT keeps the real card's session alive instead."""
        return self.card.ats if self._held is not None else self.card.power_on()

    def power_off(self) -> None:
        """The terminal sees the card leave; the real one stays powered while a DEBIT is held."""
        if self._held is None:
            self.card.power_off()

    def release(self) -> bytes:
        """Deliver the DEBIT held back; the real card's answer, which the terminal never saw."""
        assert self._held is not None, "nothing is held"
        apdu, self._held = self._held, None
        return self.card.exchange(apdu)

    def exchange(self, apdu: bytes) -> bytes:
        """One APDU, as the tricks have it. Raises CardTornError when it plays the pulled card."""
        kind = apdu[:3]
        if kind == b"\x80\x50\x01":
            return self._init(apdu)
        if kind[:2] == b"\x80\x54":
            return self._debit(apdu)
        if kind[:2] == b"\x80\x5a" and self.tricks.replay_prove is not None:
            return self.tricks.replay_prove
        if kind == b"\x00\xb2\x01" and self.tricks.invent_record and self._made_up is not None:
            return self._made_up.encode() + b"\x90\x00"
        return self.card.exchange(apdu)

    def _init(self, apdu: bytes) -> bytes:
        self._asked = InitAsk.decode(apdu[5:16])
        if self.tricks.replay_init is not None:
            return self.tricks.replay_init
        answer = self.card.exchange(apdu)
        if len(answer) != 17 or not self.tricks.counter_lift:
            return answer
        counter = int.from_bytes(answer[4:6], "big") + self.tricks.counter_lift
        return answer[:4] + counter.to_bytes(2, "big") + answer[6:]

    def _debit(self, apdu: bytes) -> bytes:
        if not (self.tricks.swallow_debit or self.tricks.hold_debit):
            return self.card.exchange(apdu)
        asked, ask = self._asked, DebitAsk.decode(apdu[5:20])
        assert asked is not None, "a DEBIT follows an INIT"
        self._made_up = PurseRecord(
            ctr=self.card.purse.offline + self.card.profile.record_ctr_base.purchase,
            overdraft=0,
            fen=Fen(asked.fen),
            type=0x06,
            tid=asked.tid,
            date=ask.date,
            time=ask.time,
        )
        if self.tricks.hold_debit:
            self._held = apdu
        else:
            self.swallowed.append(apdu)
            self.card.power_off()
        raise CardTornError(at="relay")
