"""A broker that misbehaves in every way a broker may: the port of sync.link in virtual time.

It loses, repeats, delays and reorders, forgets what it acknowledged, forgets sessions and retained
messages, and is never kinder than MQTT 3.1.1 allows. Terminals have clean sessions, the centre a
persistent one with manual acknowledgement. PUBACK means that the broker has seen it, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from protocols.wire import topics
from sim.world.chance import Chance, Stream
from sim.world.heap import SECOND_US, Heap

CENTRE = "centre"
KEEPALIVE_US = 60 * SECOND_US  # a half-open link is noticed within it
CONNECT_TIMEOUT_US = 5 * SECOND_US
QUEUE_MAX = 100_000
DELAY_US = (3_000, 60_000)


@dataclass(slots=True)
class Weather:
    """How bad the network and the broker are; parts per million of messages."""

    loss_ppm: int = 0
    duplicate_ppm: int = 0
    forget_ppm: int = 0  # PUBACK sent, message forgotten
    reorder: bool = False  # what waits may come in another order after a reconnect


class Peer:
    """What a client of the broker gets told; terminals and the centre implement it."""

    def on_connected(self) -> None:
        """The session is up."""

    def on_lost(self, *, refused: bool, reason: str) -> None:
        """The session is down."""

    def on_puback(self, number: int) -> None:
        """The broker has a publication."""

    def on_message(self, topic: str, payload: bytes, mid: int) -> None:
        """A message; the centre acknowledges `mid` by itself."""


@dataclass(slots=True)
class Session:
    """One client at the broker."""

    peer: Peer
    filters: tuple[str, ...]
    persistent: bool
    up: bool = False
    generation: int = 0  # of the connection: what was sent on an older one never arrives
    number: int = 0
    last_us: int = 0  # per connection order is kept
    waiting: list[tuple[str, bytes]] = field(default_factory=list)
    unacked: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class SimTransport:
    """The broker and every link to it."""

    def __init__(self, heap: Heap, chance: Chance, weather: Weather) -> None:
        self.weather = weather
        self.cut: set[str] = set()  # nodes whose cable is out
        self.down = False
        self.counts: dict[str, int] = {}
        self._heap = heap
        self._chance = chance
        self._sessions: dict[str, Session] = {}
        self._retained: dict[str, bytes] = {}
        self._readers: dict[str, tuple[str, ...]] = {}  # topic -> who subscribed to it

    def register(self, node: str, peer: Peer, filters: tuple[str, ...], *, keeps: bool) -> None:
        """Make a client known; `keeps` gives it a persistent session."""
        self._sessions[node] = Session(peer, filters, keeps)
        self._readers.clear()

    # ---- links

    def dial(self, node: str) -> None:
        """Connect once; the outcome arrives as on_connected or on_lost."""
        session = self._sessions[node]
        session.generation += 1
        session.up = False
        mine = session.generation
        away = self.down or node in self.cut
        delay_us = CONNECT_TIMEOUT_US if away else self._delay(node)
        self._heap.after(delay_us, node, b"dial", lambda: self._dialled(node, mine))

    def hang_up(self, node: str) -> None:
        """The client's process is gone; the broker keeps what it must."""
        self._drop(node)

    def publish(self, node: str, topic: str, payload: bytes, retain: bool) -> int | None:
        """QoS 1; the number its PUBACK will carry, None when the session is down."""
        session = self._sessions[node]
        if not session.up:
            return None
        session.number += 1
        number, mine = session.number, session.generation
        chance = self._stream(node)
        if node in self.cut or self._likely(node, "loss", self.weather.loss_ppm):
            return number
        times = 2 if self._likely(node, "duplicate", self.weather.duplicate_ppm) else 1
        forgotten = self._likely(node, "forget", self.weather.forget_ppm)
        for n in range(times):
            late_us = chance.between(0, 5 * SECOND_US) if n else 0
            what = b"up" + number.to_bytes(4, "big") + sha256(payload).digest()
            self._send(
                node,
                what,
                late_us,
                lambda: self._arrived(node, mine, number, (topic, payload, retain), forgotten),
            )
        return number

    def ack(self, node: str, mid: int) -> None:
        """The client took a message for good."""
        self._sessions[node].unacked.pop(mid, None)

    # ---- faults

    def partition(self, node: str) -> None:
        """Pull the cable; both ends notice only by their keepalive."""
        self.cut.add(node)
        mine = self._sessions[node].generation
        self._heap.after(KEEPALIVE_US, node, b"keepalive", lambda: self._half_open(node, mine))

    def heal(self, node: str) -> None:
        """Put the cable back; an undetected break went unnoticed."""
        self.cut.discard(node)

    def amnesia(self) -> None:
        """The broker restarts and has forgotten sessions, queues and retained messages."""
        self._count("amnesia")
        self._retained.clear()
        for node, session in self._sessions.items():
            session.waiting.clear()
            session.unacked.clear()
            if session.up:
                self._drop(node)
                what, told = b"reset", self._lost(node, session.generation)
                self._heap.after(self._delay(node), node, what, told)

    def waiting(self) -> int:
        """Messages the broker still holds for persistent sessions."""
        return sum(len(s.waiting) + len(s.unacked) for s in self._sessions.values())

    # ---- inside

    def _dialled(self, node: str, mine: int) -> None:
        session = self._sessions[node]
        if session.generation != mine:
            return
        if self.down or node in self.cut:
            session.peer.on_lost(refused=False, reason="timeout")
            return
        session.up = True
        session.last_us = self._heap.now_us
        session.peer.on_connected()
        self._resume(node, session)

    def _resume(self, node: str, session: Session) -> None:
        """Redelivery, what waited, and retained messages of a fresh subscription."""
        backlog = [*session.unacked.values(), *session.waiting]
        session.unacked.clear()
        session.waiting.clear()
        if self.weather.reorder and len(backlog) > 1:
            self._count("reorder")
            backlog = self._stream(node).shuffled(backlog)
        for topic, payload in backlog:
            self._deliver(node, topic, payload)
        for topic, payload in list(self._retained.items()):
            if node in self._readers_of(topic):
                self._deliver(node, topic, payload)

    def _arrived(
        self,
        node: str,
        mine: int,
        number: int,
        message: tuple[str, bytes, bool],
        forgotten: bool,
    ) -> None:
        session = self._sessions[node]
        if self.down or node in self.cut:
            return
        if session.generation == mine and session.up:
            what = b"puback" + number.to_bytes(4, "big")
            self._send(node, what, 0, lambda: self._pubacked(node, mine, number))
        if not forgotten:
            self._route(*message)

    def _pubacked(self, node: str, mine: int, number: int) -> None:
        session = self._sessions[node]
        if session.up and session.generation == mine and node not in self.cut:
            session.peer.on_puback(number)

    def _route(self, topic: str, payload: bytes, retain: bool) -> None:
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        for node in self._readers_of(topic) if payload else ():
            session = self._sessions[node]
            if session.up:
                self._deliver(node, topic, payload)
            elif session.persistent and len(session.waiting) < QUEUE_MAX:
                session.waiting.append((topic, payload))

    def _readers_of(self, topic: str) -> tuple[str, ...]:
        found = self._readers.get(topic)
        if found is None:
            clients = self._sessions.items()
            found = tuple(node for node, session in clients if _fits(session.filters, topic))
            self._readers[topic] = found
        return found

    def _deliver(self, node: str, topic: str, payload: bytes) -> None:
        session = self._sessions[node]
        session.number += 1
        mid, mine = session.number, session.generation
        if session.persistent:
            session.unacked[mid] = (topic, payload)
        elif self._likely(node, "loss", self.weather.loss_ppm):
            return
        times = 2 if self._likely(node, "duplicate", self.weather.duplicate_ppm) else 1
        for n in range(times):
            late_us = self._stream(node).between(0, 5 * SECOND_US) if n else 0
            what = b"down" + mid.to_bytes(4, "big") + sha256(payload).digest()
            self._send(node, what, late_us, lambda: self._given(node, mine, topic, payload, mid))

    def _given(self, node: str, mine: int, topic: str, payload: bytes, mid: int) -> None:
        session = self._sessions[node]
        if session.up and session.generation == mine and node not in self.cut:
            session.peer.on_message(topic, payload, mid)

    def _send(self, node: str, what: bytes, late_us: int, act: Callable[[], None]) -> None:
        """Over the wire of one connection: in order, unless it is a late copy."""
        session = self._sessions[node]
        arrives_us = max(self._heap.now_us + self._delay(node), session.last_us)
        if late_us == 0:
            session.last_us = arrives_us
        self._heap.at(arrives_us + late_us, node, what, act)

    def _drop(self, node: str) -> None:
        session = self._sessions[node]
        session.up = False
        session.generation += 1

    def _half_open(self, node: str, mine: int) -> None:
        session = self._sessions[node]
        if node in self.cut and session.up and session.generation == mine:
            self._drop(node)
            session.peer.on_lost(refused=False, reason="keepalive")

    def _lost(self, node: str, mine: int) -> Callable[[], None]:
        def told() -> None:
            session = self._sessions[node]
            if session.generation == mine:
                session.peer.on_lost(refused=False, reason="reset")

        return told

    def _likely(self, node: str, what: str, ppm: int) -> bool:
        if ppm == 0 or not self._chance.stream(node, what).likely(ppm):
            return False
        self._count(what)
        return True

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _delay(self, node: str) -> int:
        return self._stream(node).between(*DELAY_US)

    def _stream(self, node: str) -> Stream:
        return self._chance.stream(node, "net")


@dataclass(frozen=True, slots=True)
class SimLink:
    """The daemon's Link over the simulated broker."""

    transport: SimTransport
    node: str

    def dial(self) -> None:
        """Connect once."""
        self.transport.dial(self.node)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Publish at QoS 1."""
        return self.transport.publish(self.node, topic, payload, retain)


def _fits(filters: tuple[str, ...], topic: str) -> bool:
    return any(_matches(one, topic) for one in filters)


def _matches(wanted: str, topic: str) -> bool:
    """MQTT topic filters with + and a final #."""
    pattern, parts = wanted.split("/"), topic.split("/")
    for n, level in enumerate(pattern):
        if level == "#":
            return True
        if n >= len(parts) or level not in ("+", parts[n]):
            return False
    return len(pattern) == len(parts)


def centre_filters(site: str) -> tuple[str, ...]:
    """What the centre subscribes to."""
    return (topics.up_filter(site),)
