"""People at one counter: a cashier who keys amounts, customers who tap, and what they do when a tap
goes wrong. They know only what the screen says.

One visit at a time; the others queue. A visit looks at the screen a moment after it changed and
then acts, so everything that happens is an event of the heap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from protocols.money import format_yuan
from sim.card import SimCard, Tear, TearAt
from sim.relay import Relay, Tricks
from sim.world.chance import Stream
from sim.world.heap import SECOND_US, Heap
from sim.world.station import Station
from sim.world.truth import Holder, Truth
from terminal.canteen.moves import State

REACTION_US = 400_000
PATIENCE_US = 40 * SECOND_US
LOOKS_MAX = 30
TEARS = (
    TearAt.BEFORE_DELIVERY,
    TearAt.BEFORE_COMMIT,
    TearAt.AFTER_COMMIT,
    TearAt.MID_REPLY,
    TearAt.ACTIVATION,
)
DEBIT_AT = 3  # SELECT, READ RECORD, INITIALIZE, DEBIT
QUIET = (State.IDLE, State.APPROVED, State.DECLINED, State.ARMED, State.AMOUNT)


@dataclass(slots=True)
class Errand:
    """Why somebody comes: with which card, for how much, and what is wrong with it."""

    holder: Holder
    fen: int
    tear: Tear | None = None
    attack: str | None = None  # swallow, garbage, hold
    void: bool = False  # the sale is taken back at once
    leaves: bool = False  # in doubt: walks away instead of tapping again
    then: Callable[[str], None] | None = None  # told how the visit ended


class Counter:
    """The queue in front of one station and its cashier."""

    def __init__(
        self, station: Station, heap: Heap, chance: Stream, truth: Truth, operator: SimCard
    ) -> None:
        self.station = station
        self.operator = operator
        self.queue: deque[Errand] = deque()
        self.visit: Visit | None = None
        self.chance = chance
        self.heap = heap
        self.truth = truth
        self._asked = False
        station.seen = self._screen

    def come(self, errand: Errand) -> None:
        """Somebody joins the queue; a card in use elsewhere is not taken."""
        if errand.holder.busy:
            return
        errand.holder.busy = True
        self.queue.append(errand)
        self._next()

    def leave(self, how: str) -> None:
        """The visit is over."""
        assert self.visit is not None, self.station.term
        errand, self.visit = self.visit.errand, None
        self.station.reader.take()
        errand.holder.card.plan(None)
        errand.holder.busy = False
        self.truth.count("declined" if how == "declined" else f"visit_{how}")
        self.station.poll_soon(2 * SECOND_US)
        if errand.then is not None:
            errand.then(how)
        self.heap.after(SECOND_US, self.station.term, b"next", self._next)
        self._screen()

    def answer_served(self) -> None:
        """已出餐? Sometimes the plate was already on the tray."""
        station = self.station
        session = None if station.till is None else station.till.session
        if session is None or session.hold is None or session.state is not State.ASK_SERVED:
            return
        hold = session.hold
        if not self.chance.likely(300_000):
            station.keys(("CANCEL",))
            return
        epoch = station.epoch
        station.keys(("ENTER",))
        if station.state not in (None, State.ASK_SERVED, State.FAULT):
            self.truth.said_served(station.term, epoch, hold.asn, hold.fen, hold.intent)

    def _next(self) -> None:
        if self.visit is None and self.queue:
            self.visit = Visit(self, self.queue.popleft())
            self.visit.begin()

    def _screen(self) -> None:
        if self.visit is not None:
            self.visit.look_soon(REACTION_US)
        elif self.station.state is State.ASK_SERVED and not self._asked:
            self._asked = True
            self.heap.after(3 * SECOND_US, self.station.term, b"served?", self._alone)

    def _alone(self) -> None:
        self._asked = False
        if self.visit is None:
            self.answer_served()


class Visit:
    """One customer from the amount to the plate, or to the door."""

    def __init__(self, counter: Counter, errand: Errand) -> None:
        self.counter = counter
        self.errand = errand
        self._station = counter.station
        self._phase = self._key
        self._looks = 0
        self._due_us = -1
        self._puts = 0
        self._relay: Relay | None = None
        self._presented = False

    def begin(self) -> None:
        """The customer stands at the counter."""
        self.counter.heap.after(PATIENCE_US, self._station.term, b"patience", self._give_up)
        self.look_soon(REACTION_US)

    def look_soon(self, delay_us: int) -> None:
        """Look at the screen in a moment; the later of two looks counts once."""
        at_us = self.counter.heap.now_us + delay_us
        if self._due_us > self.counter.heap.now_us:
            return
        self._due_us = at_us
        self.counter.heap.at(at_us, self._station.term, b"look", self._look)

    # ---- looking

    def _mine(self) -> bool:
        return self.counter.visit is self

    def _look(self) -> None:
        if not self._mine() or self.counter.heap.now_us != self._due_us:
            return
        self._looks += 1
        if self._looks > LOOKS_MAX:
            self.counter.leave("tired")
        elif self._station.state in (None, State.FAULT):
            self.counter.leave("dark")
        else:
            self._phase()

    def _give_up(self) -> None:
        if not self._mine():
            return
        if self._station.state is State.AUTHORISE:
            self.counter.heap.after(PATIENCE_US, self._station.term, b"patience", self._give_up)
            return
        self._withdraw()
        self.counter.leave("tired")

    def _withdraw(self) -> None:
        if self._station.state in (State.ARMED, State.AMOUNT, State.OPERATOR, State.VOID_ARM):
            self._station.keys(("CANCEL",))

    # ---- phases

    def _key(self) -> None:
        """The cashier brings the till to the amount."""
        state = self._station.state
        if state is State.PAUSED:
            self.counter.truth.count("paused")
            self.counter.leave("declined")
        elif state in (State.CLOSED_SHIFT, State.OPERATOR):
            self._put(self.counter.operator, b"")
            self.look_soon(2 * SECOND_US)
        elif state is State.READING:
            self.look_soon(SECOND_US)
        elif state is State.ASK_SERVED:
            self.counter.answer_served()
            self.look_soon(REACTION_US)
        elif state is State.IN_DOUBT:
            self._station.keys(("CANCEL",))
            self.look_soon(REACTION_US)
        elif state in QUIET:
            self._amount()
        else:
            self.look_soon(SECOND_US)

    def _amount(self) -> None:
        self._station.reader.take()
        self._withdraw()
        digits = format_yuan(self.errand.fen)
        self._station.keys((*digits, "ENTER"))
        if self._station.state is not State.ARMED:
            self.look_soon(SECOND_US)
            return
        self._phase = self._pay
        self._present(self.errand.tear)

    def _present(self, tear: Tear | None) -> None:
        """The customer's card, or the thing that pretends to be it."""
        holder = self.errand.holder
        self._puts += 1
        if self.errand.attack is not None:
            relay = self._relay or Relay(holder.card, Tricks())
            self._relay = relay
            _tricks(relay, self.errand.attack, first=self._puts == 1)
            self._put(relay, holder.asn)
        else:
            if not holder.card.powered:
                holder.card.plan(tear)
            self._put(holder.card, holder.asn)
        if not self._presented:
            self._presented = True
            self.counter.truth.count("taps")
        self.look_soon(2 * SECOND_US)

    def _put(self, card: SimCard | Relay, asn: bytes) -> None:
        self._station.reader.take()
        if asn:
            self._station.paying = asn
        self._station.put(card)

    def _pay(self) -> None:
        """What the screen says after the card was put down."""
        state = self._station.state
        if state is State.APPROVED:
            self._approved()
        elif state is State.DECLINED:
            self.counter.leave("declined")
        elif state is State.ARMED and self._puts < 3:
            self._present(None)
        elif state is State.IN_DOUBT:
            self._in_doubt()
        elif state is State.ASK_SERVED:
            self.counter.answer_served()
            self.look_soon(REACTION_US)
        elif state in (State.AUTHORISE, State.READING):
            self.look_soon(SECOND_US)
        else:
            self._withdraw()
            self.counter.leave("unfinished")

    def _approved(self) -> None:
        if not self.errand.void:
            self.counter.leave("paid")
            return
        self._station.reader.take()
        self._station.keys(("VOID",))
        self._phase = self._void
        self.look_soon(REACTION_US)

    def _in_doubt(self) -> None:
        if self.errand.attack == "hold":
            self._station.keys(("CANCEL",))
            assert self._relay is not None, self.errand
            self._station.reader.take()
            self._relay.release()
            self._relay.card.power_off()
            self.counter.leave("held")
        elif self.errand.leaves or self._puts >= 4:
            self.counter.leave("walked")
        else:
            again = self.errand.tear if self.counter.chance.likely(100_000) else None
            self._present(again)

    def _void(self) -> None:
        """撤销: the operator's card, then the payer's."""
        state, term = self._station.state, self._station.term
        if state is State.OPERATOR:
            self._put(self.counter.operator, b"")
        elif state is State.VOID_ARM:
            self._put(self.errand.holder.card, b"")
        elif state is State.APPROVED:
            self.counter.truth.count("voided")
            self.counter.truth.returned(term, self._station.epoch, self.errand.holder.asn)
            self.counter.leave("voided")
            return
        elif state is not State.READING:
            self.counter.leave("paid")
            return
        self.look_soon(SECOND_US)


def _tricks(relay: Relay, attack: str, *, first: bool) -> None:
    """First it swallows or keeps the DEBIT, then it shows a record that says it was done."""
    tricks = relay.tricks
    if attack == "hold":
        tricks.hold_debit = first
        return
    tricks.swallow_debit = first
    tricks.invent_record = not first
    tricks.counter_lift = 0 if first else (1 if attack == "swallow" else 2)
    garbage = bytes.fromhex("5a5a5a5aa5a5a5a5") + b"\x90\x00"
    tricks.replay_prove = garbage if attack == "garbage" and not first else None


def tear_of(chance: Stream, *, unpaid: bool) -> Tear:
    """A tear somewhere in a tap, half of them around the DEBIT; `unpaid`: rather before it."""
    if unpaid and chance.likely(700_000):
        return Tear(chance.pick(TEARS[:2]), DEBIT_AT)
    at = chance.pick(TEARS)
    apdu = DEBIT_AT if chance.likely(500_000) else chance.below(8)
    return Tear(at, apdu, chance.below(10))
