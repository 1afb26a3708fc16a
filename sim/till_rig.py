"""A whole till in one thread without a world: virtual time, one card position, an office that signs.

For tests of the terminal and for benches. The till, its journal and its recovery are the product's
own; the rig is what stands around them. A power cut is `reboot`: the objects are dropped and rebuilt
from the journal's folder.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware.base.clock import Trust
from firmware.base.sqlite import connect
from firmware.drivers.soft_sam import SoftSam
from firmware.ports import CardIn, CardOut, Key, Reply, SamPort, Screen, Trouble
from protocols.card.card_profile import CardProfile
from protocols.card.suite import Pboc3Des
from sim.card import SimCard
from sim.errors import CardTornError
from sim.relay import Relay
from sim.seeded import SeededRng
from sim.till_office import MASTERS, OPERATOR, START_US, TERM, TID, Office, RigInbox, grant
from terminal.acks import CentreWord
from terminal.canteen import moves
from terminal.canteen.news import News
from terminal.canteen.rules import PRODUCTION, TapRules
from terminal.canteen.till import Poll, Ports, Till, TillConfig
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal
from terminal.lists import ListDesk


class RigClock:
    """Virtual time; `jump` moves the wall clock alone."""

    def __init__(self, wall_us: int = START_US) -> None:
        self.now_us = 1_000_000
        self.wall_offset_us = wall_us - self.now_us
        self.state = Trust.HELD

    def mono_us(self) -> int:
        """Microseconds since the rig was made."""
        return self.now_us

    def wall_us(self) -> int:
        """Microseconds UTC."""
        return self.now_us + self.wall_offset_us

    def trust(self) -> Trust:
        """As set."""
        return self.state

    def jump(self, shift_us: int) -> None:
        """Somebody, or an empty battery, moved the wall clock."""
        self.wall_offset_us += shift_us


@dataclass(slots=True)
class RigDisplay:
    """Keeps every screen; the last one is what people see."""

    shown: list[Screen] = field(default_factory=list)

    def show(self, screen: Screen) -> None:
        """Keep it."""
        self.shown.append(screen)

    @property
    def text(self) -> str:
        """The customer's display now."""
        return " | ".join(self.shown[-1].customer)

    def beeps(self, name: str) -> int:
        """How often the buzzer said this."""
        return sum(s.beep is not None and s.beep.value == name for s in self.shown)


class RigTimers:
    """The session timer in virtual time."""

    def __init__(self, clock: RigClock) -> None:
        self._clock = clock
        self.running: tuple[int, moves.Timer] | None = None

    def arm(self, timer: moves.Timer, delay_ms: int) -> None:
        """Set it."""
        self.running = (self._clock.now_us + delay_ms * 1_000, timer)

    def disarm(self) -> None:
        """Stop it."""
        self.running = None


class RigCards:
    """CardIo over one card position; an answer arrives as the next event."""

    def __init__(self) -> None:
        self.card: SimCard | Relay | None = None
        self.post: Callable[[Any], None] = lambda event: None
        self.sent: list[bytes] = []
        self.before: Callable[[bytes], None] | None = None  # a test's look at each APDU
        self.trouble: dict[int, str] = {}  # INS -> code answered instead of sending

    def transmit(self, token: int, apdu: bytes, deadline_ms: int) -> None:
        """One APDU, once."""
        if self.before is not None:
            self.before(apdu)
        if apdu[1] in self.trouble:
            self.post(Trouble(token, self.trouble[apdu[1]]))
            return
        self.sent.append(apdu)
        if self.card is None:
            self.post(Trouble(token, "READER_BUSY"))
            return
        try:
            self.post(Reply(token, self.card.exchange(apdu)))
        except CardTornError as torn:
            heard = torn.facts.get("heard")
            self.card = None
            gone = Trouble(token, "CARD_GONE")
            self.post(Reply(token, heard) if isinstance(heard, bytes) and heard else gone)
            self.post(CardOut())

    def reset(self, token: int) -> None:
        """Field off and on."""
        if self.card is None:
            self.post(Trouble(token, "CARD_GONE"))
            return
        self.card.power_on()
        self.post(Reply(token, b""))


class TillRig:
    """One till, its surroundings, and the person in front of it."""

    def __init__(
        self,
        folder: Path,
        config: TillConfig | None = None,
        *,
        rules: TapRules = PRODUCTION,
        policy: dict[str, Any] | None = None,
        sam: SamPort | None = None,
        open_file: Callable[[Path], sqlite3.Connection] = connect,
    ) -> None:
        self.folder = folder
        self.config = config or TillConfig(cooldown_s=0)
        self.rules = rules
        self.clock = RigClock()
        self.rng = SeededRng(1, "rig")
        self.office = Office()
        self.office.publish_all(policy)
        self.grant = grant()
        self.sam: SamPort = sam or SoftSam(MASTERS.mpk, TID, 1, Pboc3Des(), development=True)
        self.display = RigDisplay()
        self.profile = CardProfile()
        self.open_file = open_file
        self.boot()

    # life of the process

    def boot(self) -> None:
        """Build the till from the journal's folder. Raises what open_journal raises."""
        word = CentreWord(TERM, self.office.ring)
        inbox = RigInbox(self.office)
        self.journal: Journal = open_journal(
            self.folder / "journal",
            self.grant,
            self.clock,
            self.rng.token(8),
            acked=word.take(inbox).acked,
            open_file=self.open_file,
        )
        self.news = News(
            inbox, word, ListDesk(self.office.ring), self.journal, self.clock, self.grant.hw0_us
        )
        self.cards = RigCards()
        self.timers = RigTimers(self.clock)
        ports = Ports(
            self.journal,
            self.cards,
            self.sam,
            self.news,
            self.display,
            self.clock,
            self.timers,
            self.profile,
        )
        self.till = Till(ports, self.config, self.rules)
        self.cards.post = self.till.on_event
        self.till.start()

    def reboot(self) -> None:
        """Power off and on: what is not in the files is gone."""
        self.journal.close()
        self.boot()

    # people

    def keys(self, text: str) -> None:
        """Keys separated by blanks."""
        for name in text.split():
            self.till.on_event(Key(name))

    def put(self, card: SimCard | Relay) -> None:
        """Lay a card on the reader; it may leave by its own tear plan."""
        self.take()
        try:
            card.power_on()
        except CardTornError:
            return
        self.cards.card = card
        self.till.on_event(CardIn(card.uid, "iso14443a"))

    def take(self) -> None:
        """Take the card away."""
        if self.cards.card is not None:
            self.cards.card.power_off()
            self.cards.card = None
            self.till.on_event(CardOut())

    def tap(self, card: SimCard | Relay) -> None:
        """Lay it on and take it away."""
        self.put(card)
        self.take()

    def open_shift(self) -> None:
        """The operator's card opens the shift."""
        self.tap(self.issue(OPERATOR, 0))

    def sell(self, fen: int, card: SimCard | Relay) -> None:
        """Key an amount, confirm, tap."""
        self.keys(" ".join(f"{fen // 100}.{fen % 100:02d}") + " ENTER")
        self.tap(card)

    def wait(self, ms: int) -> None:
        """Let virtual time pass; the session timer fires at its moment."""
        end_us = self.clock.now_us + ms * 1_000
        while self.timers.running is not None and self.timers.running[0] <= end_us:
            due_us, timer = self.timers.running
            self.timers.running = None
            self.clock.now_us = max(due_us, self.clock.now_us)
            self.till.on_event(moves.Due(timer))
        self.clock.now_us = end_us

    def poll(self) -> None:
        """The loop looks at sync.db and uses idle time."""
        self.till.on_event(Poll())

    # questions

    def issue(self, asn: bytes, balance_fen: int) -> SimCard:
        """A card of this campus."""
        return SimCard.issue(asn, MASTERS, self.rng, balance_fen=balance_fen, profile=self.profile)

    @property
    def state(self) -> moves.State:
        """The session's state."""
        return self.till.session.state

    def records(self) -> list[tuple[Any, Any]]:
        """(kind, record) of the current volume."""
        return [(record.kind, record) for record in self.journal.scan(1)]

    def kinds(self) -> list[str]:
        """Kinds by name, from the first record on."""
        from protocols.wire.record import Kind

        return [Kind(kind).name for kind, _ in self.records()]
