"""The simulated broker is never kinder than a real one: what MQTT does not promise, it breaks."""

from __future__ import annotations

from sim.world.chance import Chance
from sim.world.heap import MINUTE_US, SECOND_US, Heap
from sim.world.transport import CENTRE, Peer, SimLink, SimTransport, Weather, centre_filters

UP = "cc/v1/sim/up/p01/T001/journal"
DOWN = "cc/v1/sim/dn/T001/ack"
HEAD = "cc/v1/sim/dn/all/list/cards/head"
ALWAYS = 1_000_000


class Client(Peer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.got: list[tuple[str, bytes, int]] = []

    def on_connected(self) -> None:
        """Up."""
        self.log.append("up")

    def on_lost(self, *, refused: bool, reason: str) -> None:
        """Down."""
        self.log.append(reason)

    def on_puback(self, number: int) -> None:
        """The broker has it."""
        self.log.append(f"puback {number}")

    def on_message(self, topic: str, payload: bytes, mid: int) -> None:
        """A message."""
        self.got.append((topic, payload, mid))


class Rig:
    """A terminal and a centre on one broker."""

    def __init__(self, weather: Weather | None = None) -> None:
        self.heap = Heap(lambda *_: None)
        self.broker = SimTransport(self.heap, Chance(1), weather or Weather())
        self.term, self.centre = Client(), Client()
        self.broker.register(
            "T001", self.term, ("cc/v1/sim/dn/T001/#", "cc/v1/sim/dn/all/#"), keeps=False
        )
        self.broker.register(CENTRE, self.centre, centre_filters("sim"), keeps=True)
        self.link = SimLink(self.broker, "T001")
        self.link.dial()
        self.broker.dial(CENTRE)
        self.run()

    def run(self, span_us: int = 10 * SECOND_US) -> None:
        """Let time pass."""
        self.heap.run(self.heap.now_us + span_us, lambda: False)


def payloads(client: Client) -> list[bytes]:
    """What came, in order."""
    return [payload for _, payload, _ in client.got]


def test_delivers_in_order_and_acknowledges() -> None:
    """A good day: per topic order, one PUBACK each (B02, B10)."""
    rig = Rig()
    numbers = [rig.link.publish(UP, bytes([n])) for n in range(5)]
    rig.run()
    assert payloads(rig.centre) == [bytes([n]) for n in range(5)]
    assert rig.term.log == ["up", *(f"puback {n}" for n in numbers)]


def test_puback_means_nothing() -> None:
    """Acknowledged and forgotten (B07)."""
    rig = Rig(Weather(forget_ppm=ALWAYS))
    number = rig.link.publish(UP, b"x")
    rig.run()
    assert rig.term.log == ["up", f"puback {number}"]
    assert rig.centre.got == []


def test_loss_and_duplicates() -> None:
    """Lost: no PUBACK either. Twice: both copies arrive, the late one out of order."""
    lossy = Rig(Weather(loss_ppm=ALWAYS))
    lossy.link.publish(UP, b"x")
    lossy.run()
    assert (lossy.centre.got, lossy.term.log) == ([], ["up"])
    twice = Rig(Weather(duplicate_ppm=ALWAYS))
    twice.link.publish(UP, b"x")
    twice.run()
    assert len(payloads(twice.centre)) >= 2


def test_what_the_centre_did_not_acknowledge_comes_again() -> None:
    """A persistent session: unacked and waiting messages are redelivered (B06, B09)."""
    rig = Rig()
    rig.link.publish(UP, b"1")
    rig.run()
    rig.broker.hang_up(CENTRE)
    rig.link.publish(UP, b"2")
    rig.run()
    rig.broker.dial(CENTRE)
    rig.run()
    assert payloads(rig.centre) == [b"1", b"1", b"2"]
    for _, _, mid in rig.centre.got:
        rig.broker.ack(CENTRE, mid)
    assert rig.broker.waiting() == 0


def test_amnesia_forgets_queues_and_retained_messages() -> None:
    """Everybody is thrown out; nothing that waited ever arrives (B07)."""
    rig = Rig()
    rig.broker.publish(CENTRE, HEAD, b"head", True)
    rig.broker.hang_up(CENTRE)
    rig.link.publish(UP, b"1")
    rig.run()
    rig.broker.amnesia()
    rig.run()
    assert rig.term.log[-1] == "reset"
    rig.link.dial()
    rig.broker.dial(CENTRE)
    rig.term.got.clear()
    rig.run()
    assert (rig.centre.got, rig.term.got) == ([], [])


def test_retained_messages_meet_a_new_subscription() -> None:
    """Set, replaced, cleared by an empty payload (B10)."""
    rig = Rig()
    for payload in (b"old", b"new"):
        rig.broker.publish(CENTRE, HEAD, payload, True)
    rig.run()
    rig.broker.hang_up("T001")
    rig.term.got.clear()
    rig.link.dial()
    rig.run()
    assert payloads(rig.term) == [b"new"]
    rig.broker.publish(CENTRE, HEAD, b"", True)
    rig.run()
    rig.broker.hang_up("T001")
    rig.term.got.clear()
    rig.link.dial()
    rig.run()
    assert rig.term.got == []


def test_a_pulled_cable_is_noticed_by_the_keepalive() -> None:
    """Half open: publications vanish, within 60 s the session is down (B11)."""
    rig = Rig()
    rig.broker.partition("T001")
    assert rig.link.publish(UP, b"x") is not None
    rig.run(2 * MINUTE_US)
    assert rig.term.log == ["up", "keepalive"]
    assert rig.centre.got == []
    rig.link.dial()
    rig.run()
    assert rig.term.log[-1] == "timeout"
    rig.broker.heal("T001")
    rig.link.dial()
    rig.run()
    assert rig.term.log[-1] == "up"


def test_a_clean_session_keeps_nothing() -> None:
    """A terminal that is away misses what was sent to it."""
    rig = Rig()
    rig.broker.hang_up("T001")
    rig.broker.publish(CENTRE, DOWN, b"ack", False)
    rig.run()
    rig.link.dial()
    rig.run()
    assert rig.term.got == []
    assert rig.link.publish(UP, b"x") is not None


def test_nothing_of_an_older_connection_arrives() -> None:
    """A message on its way when the session ended is gone with it."""
    rig = Rig()
    rig.broker.publish(CENTRE, DOWN, b"ack", False)
    rig.heap.run(rig.heap.now_us + SECOND_US, lambda: True)  # one event: the broker has it
    rig.broker.hang_up("T001")
    rig.link.dial()
    rig.run()
    assert rig.term.got == []
