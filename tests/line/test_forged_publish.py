"""A segment published as another terminal never reaches the books, on nats-server and Mosquitto.

The forger has a valid session: terminal T0002's own certificate and key.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from firmware.base.keys import DeviceKey
from firmware.base.rng import SystemRng
from protocols.wire import topics
from protocols.wire.chain import link
from protocols.wire.record import Kind, Record
from protocols.wire.segment import Segment
from sim.brokers import Mosquitto
from sim.campus.burst import heal, serve
from sim.campus.campus import SITE, Campus, CampusPlan, wait_until
from sim.campus.ledger_truth import Witness, judge
from sim.campus.till import TillPlan, TillRig
from sim.mqtt_peer import Peer
from sim.pki import Identity
from sync.central import schema
from sync.central.broker_auth import mosquitto_acl
from sync.central.engine import reading
from sync.central.settings import SERVICE, CentreConfig
from sync.device.journal_view import JournalReader

pytestmark = pytest.mark.slow
T1, T2 = "T0001", "T0002"
PLANS = [TillPlan(T1, "000000000001"), TillPlan(T2, "000000000002")]


class CampusCa:
    """The campus' own authority as a broker in a test needs it."""

    def __init__(self, config: CentreConfig) -> None:
        self.certificate = config.ca_pem
        self._keys = config.keys

    def server(self) -> Identity:
        return Identity(self._keys / "broker.crt", self._keys / "broker.key")


class MosquittoCampus(Campus):
    """The same campus with Debian's Mosquitto in place of the embedded broker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CampusPlan(PLANS, cards=6, flush_ms=300), SystemRng())
        acl = mosquitto_acl(SITE, [SERVICE])
        broker = Mosquitto(folder / "mosquitto", CampusCa(self.config), acl)
        broker.port = self.config.broker_port
        self.broker = broker


@pytest.fixture(params=["nats", "mosquitto"])
def campus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campus]:
    if request.param == "nats":
        made = Campus(tmp_path, CampusPlan(PLANS, cards=6, flush_ms=300), SystemRng())
    else:
        made = MosquittoCampus(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def identity(till: TillRig) -> Identity:
    folder = till.folder / "identity"
    return Identity(folder / "device.crt", folder / "device.key")


def forged(victim: TillRig, forger: TillRig) -> bytes:
    """A sale that T1 never made, in T1's lane behind its tip, signed by T2."""
    view, own = JournalReader(victim.journal), JournalReader(forger.journal)
    view.refresh()
    own.refresh()
    tip, boot = view.tip(), own.tip().seq
    records = [Record.decode(body, own_journal=True) for body in own.bodies(1, boot)]
    view.close()
    own.close()
    intent = next(r for r in reversed(records) if r.kind == Kind.INTENT)
    capture = next(r for r in reversed(records) if r.kind == Kind.CAPTURE)
    bodies = (
        replace(intent, seq=tip.seq + 1).encode(),
        replace(capture, seq=tip.seq + 2, ref=tip.seq + 1).encode(),
    )
    end = link(link(tip.hash, bodies[0]), bodies[1])
    part = topics.partition_of(T1)
    segment = Segment(SITE, part, T1, tip.epoch, tip.seq + 1, tip.hash, end, intent.wall_us, bodies)
    return segment.signed(DeviceKey.load(forger.folder / "identity" / "device.key"))


def quarantined(campus: Campus) -> list[tuple[str, str]]:
    with reading(campus.engine) as connection:
        table = schema.quarantine
        return [(r.topic, r.code) for r in connection.execute(select(table.c.topic, table.c.code))]


def test_a_forged_segment_changes_nothing(campus: Campus) -> None:
    """On T1's topic it is not even delivered; on T2's own topic it is quarantined."""
    witness = Witness()
    one, two = campus.tills[T1], campus.tills[T2]
    for till, card in ((one, campus.cards[0]), (two, campus.cards[1])):
        serve(till, card, witness)
    campus.wait_synced()
    before = campus.books()
    two.daemon.stop()
    raw = forged(one, two)
    peer = Peer(campus.config.broker_port, campus.config.ca_pem, identity(two), f"{T2}-forger")
    assert peer.connect()
    peer.publish(topics.up(SITE, topics.partition_of(T1), T1, "journal"), raw)
    peer.close()
    again = Peer(campus.config.broker_port, campus.config.ca_pem, identity(two), f"{T2}-forger")
    assert again.connect()  # whatever the broker thought of the first session
    own = topics.up(SITE, topics.partition_of(T2), T2, "journal")
    again.publish(own, raw)
    wait_until(lambda: bool(quarantined(campus)), 20, lambda: "the second one never arrived")
    again.close()
    assert quarantined(campus) == [(own, "SYNC_BAD_TOPIC")]
    after = campus.books()
    assert (after.transfers, after.balances) == (before.transfers, before.balances)
    assert [line.records for line in after.terminals] == [line.records for line in before.terminals]

    two.daemon.start()
    heal(campus, [(T1, campus.cards[2]), (T2, campus.cards[3])], witness)
    serve(one, campus.cards[4], witness)
    campus.wait_synced()
    truth = judge(campus, witness)
    assert truth.clean, truth.why()
