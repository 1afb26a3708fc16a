"""The sync daemon without its thread: link events and time in, publications and sync.db out.

The pure core decides (sync.core); this class stamps, signs, stores and publishes in the order the
core asked for. The same object runs in production and in the simulator.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from firmware.base.clock import Clock
from firmware.base.log import event
from firmware.base.rng import Rng
from protocols.errors import OnecardError
from protocols.wire import topics
from protocols.wire.chain import NOWHERE, Position
from protocols.wire.cose import KeyRing, Signer, open1, sign1
from protocols.wire.messages import (
    Cmd,
    Hello,
    ListDelta,
    ListHead,
    ListPart,
    Request,
    Welcome,
    decode_down,
)
from protocols.wire.segment import Segment
from sync.core import (
    SPREAD_DEFAULT_S,
    Action,
    Alarm,
    AskStatus,
    Dial,
    Keep,
    KeepDseq,
    SendHello,
    SendSegment,
    SyncCore,
)
from sync.device.journal_view import JournalReader
from sync.device.lists import ListKeeper
from sync.device.store import SyncStore, position_raw

LOG = logging.getLogger("onecard.sync")
REQUEST_DEADLINE_US = 5_000_000
OUTBOX_RECORDS = 60_000  # 30 days at 2,000 records a day
IDLE_WAIT_MS = 100


class Link(Protocol):
    """The MQTT session as the daemon uses it."""

    def dial(self) -> None:
        """Connect once; the outcome arrives as an event."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Publish at QoS 1; a number that its PUBACK will carry, or None."""


class StatusDesk(Protocol):
    """POST /status: asked when the broker refuses us again and again."""

    def ask(self) -> str | None:
        """The centre's signed word on this terminal's state, or None when unreachable."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Whose daemon this is, as enrolled."""

    site: str
    part: int
    term: str
    firmware: str = "onecard 0.1.0"
    spread_s: int | None = None  # first connect within so many seconds; None: the centre's word


class Daemon:
    """One terminal's uplink and downlink."""

    def __init__(
        self,
        lane: Lane,
        signer: Signer,
        centre: KeyRing,
        view: JournalReader,
        store: SyncStore,
        link: Link,
        clock: Clock,
        rng: Rng,
        status: StatusDesk | None = None,
        core_type: type[SyncCore] = SyncCore,
    ) -> None:
        self._lane = lane
        self._signer = signer
        self._centre = centre
        self._view = view
        self._store = store
        self._link = link
        self._clock = clock
        self._rng = rng
        self._status = status
        self._lists = ListKeeper(store.versions(), self._stored_list)
        self._segments: dict[int, int] = {}  # publish number -> last seq; bounded by credit
        self._dial_at_ms: int | None = None
        self._told_tip = NOWHERE
        view.refresh()
        spread = self._last_spread_s() if lane.spread_s is None else lane.spread_s
        self.core = core_type(view, rng, self._start_position(), store.dseq(), spread)
        self.alarms: list[str] = []  # newest last, at most 32
        self._act(self.core.start(), None)

    def _last_spread_s(self) -> int:
        """What the centre said last; the default before it ever spoke."""
        raw = self._store.kept("welcome")
        if raw is None:
            return SPREAD_DEFAULT_S
        return Welcome.decode(self._centre.open(raw)).spread_s

    def _start_position(self) -> Position:
        acked, tip = self._store.acked(), self._view.tip()
        if acked is not None and acked.epoch == tip.epoch and acked.seq <= tip.seq:
            return acked
        h0 = self._view.hash_at(0)
        return NOWHERE if h0 is None else Position(tip.epoch, 0, h0)

    # --- events -------------------------------------------------------------------------------

    def connected(self) -> None:
        """The session is up."""
        event(LOG, logging.INFO, "link_up")
        self._segments.clear()
        self._lists.reconnected()
        self._view.refresh()
        self._link.publish(self._up("state"), b"online", retain=True)
        self._act(self.core.connected(self._now_ms()), None)

    def lost(self, *, refused: bool, reason: str) -> None:
        """The session is down."""
        event(LOG, logging.INFO, "link_lost", refused=int(refused), reason=reason)
        self._segments.clear()
        self._act(self.core.disconnected(self._now_ms(), refused=refused), None)

    def puback(self, number: int) -> None:
        """The broker took a publication; only a time-out depends on it."""
        last = self._segments.pop(number, None)
        if last is not None:
            self._act(self.core.puback(last, self._now_ms()), None)

    def inbound(self, topic: str, cose: bytes) -> None:
        """A message; what the centre did not sign is dropped and counted."""
        if topic == topics.centre_state(self._lane.site):
            return  # display only
        try:
            message = decode_down(self._centre.open(cose))
        except OnecardError as exc:
            self._alarm(exc.code)
            return
        if isinstance(message, ListHead | ListPart | ListDelta):
            self._list(message, cose)
        elif message.term != self._lane.term:
            self._alarm("WIRE_TOPIC")
        elif isinstance(message, Cmd):
            self._store.keep_command(message.id, cose, self._clock.wall_us())
        else:
            self._view.refresh()
            self._act(self.core.received(message, self._now_ms()), cose)

    def turn(self) -> int:
        """Look at the journal and the clock; milliseconds until the next turn is wanted."""
        now_ms = self._now_ms()
        self._view.refresh()
        if self._view.tip() != self._told_tip:  # whoever refreshed it, the core hears of it here
            self._told_tip = self._view.tip()
            self._act(self.core.appended(now_ms), None)
        if self._dial_at_ms is not None and now_ms >= self._dial_at_ms:
            self._dial_at_ms = None
            self._link.dial()
        deadline_ms = self.core.deadline_ms()
        if deadline_ms is not None and now_ms >= deadline_ms:
            self._act(self.core.timer(now_ms), None)
        if self._lists.waiting:
            self._ask_lists()
        return IDLE_WAIT_MS

    def wake_ms(self) -> int | None:
        """The next instant at which `turn` has something to do without an event (simulator)."""
        times = (self._dial_at_ms, self.core.deadline_ms(), self._lists.ask_due_ms())
        due = [at for at in times if at is not None]
        return min(due, default=None)

    # --- actions ------------------------------------------------------------------------------

    def _act(self, actions: list[Action], cose: bytes | None) -> None:
        for action in actions:
            match action:
                case SendHello():
                    self._send_hello()
                case SendSegment(first, last):
                    self._send_segment(first, last)
                case Dial(delay_ms):
                    self._dial_at_ms = self._now_ms() + delay_ms
                case Alarm(code):
                    self._alarm(code)
                case AskStatus():
                    self._ask_status()
                case Keep() | KeepDseq():
                    self._keep(action, cose)

    def _keep(self, action: Keep | KeepDseq, cose: bytes | None) -> None:
        if isinstance(action, KeepDseq):
            self._store.keep({"dseq": action.dseq.to_bytes(8, "big")})
            return
        assert cose is not None, action
        self._store.keep({action.name: cose, "acked": position_raw(self.core.acked)})

    def _send_hello(self) -> None:
        t1_us = self._clock.wall_us()
        tip = self._view.tip()
        unsynced = tip.seq - self.core.acked.seq if tip.epoch == self.core.acked.epoch else tip.seq
        told, acked = self.core.positions()
        hello = Hello(
            term=self._lane.term,
            boot=self._view.boot_id(),
            tip=told,
            acked=acked,
            lists=self._lists.versions,
            t1_us=t1_us,
            mono_us=self._clock.mono_us(),
            firmware=self._lane.firmware,
            outbox_pct=min(1000, unsynced * 100 // OUTBOX_RECORDS),
            dseq=self.core.dseq,
        )
        self.core.hello_sent(t1_us)
        self._link.publish(self._up("hello"), sign1(hello.encode(), self._signer))

    def _send_segment(self, first: int, last: int) -> None:
        bodies = self._view.bodies(first, last)
        prev, tip = self._view.hash_at(first - 1), self._view.hash_at(last)
        if len(bodies) != last - first + 1 or prev is None or tip is None:
            return  # that volume is gone: the ack time-out asks the centre where it stands
        segment = Segment(
            self._lane.site,
            self._lane.part,
            self._lane.term,
            self._view.tip().epoch,
            first,
            prev,
            tip,
            self._clock.wall_us(),
            tuple(bodies),
        )
        number = self._link.publish(self._up("journal"), segment.signed(self._signer))
        if number is not None:
            self._segments[number] = last

    def _list(self, message: ListHead | ListPart | ListDelta, cose: bytes) -> None:
        if isinstance(message, ListPart):
            whole = self._lists.part(message, cose)
            if whole is not None:
                self._store.keep_list(whole.name, whole.version, whole.head, whole.parts)
            return
        if isinstance(message, ListHead):
            led = self._lists.head(message, cose, self._now_ms())
        else:
            led = self._lists.delta(message, cose)
        if led is not None:
            self._store.keep_deltas(led.name, led.head, led.deltas)
        self._ask_lists()

    def _stored_list(self, name: str) -> tuple[list[ListPart], list[ListDelta]]:
        """What is stored, which was verified when it came."""
        parts, deltas = self._store.snapshot(name)
        return (
            [ListPart.decode(open1(raw).payload) for raw in parts],
            [ListDelta.decode(open1(raw).payload) for raw in deltas],
        )

    def _ask_lists(self) -> None:
        for name, version in self._lists.to_ask(self._now_ms()):
            deadline_us = self._clock.wall_us() + REQUEST_DEADLINE_US
            ask = Request(
                self._lane.term, self._rng.token(16), deadline_us, "list", [name, version]
            )
            self._link.publish(self._up("req"), sign1(ask.encode(), self._signer))

    def _ask_status(self) -> None:
        state = None if self._status is None else self._status.ask()
        if state is not None:
            self._alarm(state)

    def _alarm(self, code: str) -> None:
        event(LOG, logging.WARNING, "sync_alarm", code=code)
        self.alarms = [*self.alarms[-31:], code]

    def _up(self, leaf: str) -> str:
        return topics.up(self._lane.site, self._lane.part, self._lane.term, leaf)

    def _now_ms(self) -> int:
        return self._clock.mono_us() // 1000
