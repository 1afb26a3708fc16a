"""One suite against both brokers: who may connect, publish and hear what (sync.md §8, §9).

Assertions are on delivery. A PUBACK or SUBACK proves nothing here, and nothing in the product.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from firmware.base.clock import SystemClock
from protocols.wire import topics
from sim.brokers import Mosquitto, Nats
from sim.mqtt_peer import Peer
from sim.pki import AnyCa, Identity
from sync.central.broker_auth import User, mosquitto_acl, nats_users

SITE, CAMPUS = "s1", "campus"
T1, T2 = "T0001", "T0002"
P1, P2 = topics.partition_of(T1), topics.partition_of(T2)
CENTRE = "central-w1"
START = datetime.fromtimestamp(SystemClock().wall_us() // 1_000_000, UTC) - timedelta(days=1)
USERS = [User(T1, P1, 1), User(T2, P2, 1)]


class Site:
    """A broker with its certificates and the peers of one test."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.ca = AnyCa(folder / "ca", START)
        self.centre_id = self.ca.issue(CENTRE)
        self.t1 = self.ca.issue(T1, ou="g1")
        self.t2 = self.ca.issue(T2, ou="g1")
        self.broker: Nats | Mosquitto
        if kind == "nats":
            self.broker = Nats(folder / "b", self.ca, nats_users(CAMPUS, SITE, [CENTRE], USERS))
        else:
            self.broker = Mosquitto(folder / "b", self.ca, mosquitto_acl(SITE, [CENTRE]))
        self.peers: list[Peer] = []

    def peer(self, identity: Identity | None, client_id: str, **how: object) -> Peer:
        made = Peer(self.broker.port, self.ca.certificate, identity, client_id, **how)  # type: ignore[arg-type]
        self.peers.append(made)
        return made

    def terminal(self, identity: Identity, name: str, client_id: str = "") -> Peer:
        made = self.peer(identity, client_id or f"{name}-0123456789abcdef")
        assert made.connect()
        for topic in topics.terminal_filters(SITE, name):
            made.subscribe(topic)
        return made

    def centre(self) -> Peer:
        made = self.peer(self.centre_id, CENTRE)
        assert made.connect()
        made.subscribe(topics.up_filter(SITE))
        return made


@pytest.fixture(params=["nats", "mosquitto"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(request.param, tmp_path)
    made.broker.start()
    yield made
    for peer in made.peers:
        peer.close()
    made.broker.stop()


def test_both_directions_and_size(site: Site) -> None:
    """B02: up and down at QoS 1; a 64 KiB segment and 200 KB pass."""
    centre, one = site.centre(), site.terminal(site.t1, T1)
    for size in (10, 65_536, 200_000):
        one.publish(topics.up(SITE, P1, T1, "journal"), b"x" * size)
        assert [len(p) for _, p in centre.received(1)] == [size]
    centre.publish(topics.down(SITE, T1, "ack"), b"ack")
    assert one.received(1) == [(topics.down(SITE, T1, "ack"), b"ack")]


def test_oversized_message_ends_only_its_sender(site: Site) -> None:
    """B02: above 256 KiB nothing is delivered and the others stay."""
    centre, one, two = site.centre(), site.terminal(site.t1, T1), site.terminal(site.t2, T2)
    one.publish(topics.up(SITE, P1, T1, "journal"), b"x" * 300_000)
    two.publish(topics.up(SITE, P2, T2, "journal"), b"fine")
    assert [p for _, p in centre.received(2, 2.0)] == [b"fine"]


@pytest.mark.parametrize("who", ["none", "foreign", "expired"])
def test_bad_certificate_has_no_session(site: Site, tmp_path: Path, who: str) -> None:
    """B01: no certificate, another CA's, an expired one: no session."""
    identity: Identity | None = None
    if who == "foreign":
        identity = AnyCa(tmp_path / "foreign", START, "foreign").issue(T1, ou="g1")
    if who == "expired":
        identity = site.ca.issue(T1, ou="g1", expired=True, file="expired")
    assert not site.peer(identity, f"{T1}-x").connect()


FORGED = [
    topics.up(SITE, P1, T1, "journal"),
    topics.up(SITE, P1, T1, "hello"),
    topics.up(SITE, P1, T1, "state"),
    topics.down(SITE, T1, "ack"),
    topics.down(SITE, T1, "cmd"),
    topics.list_head(SITE, "cards"),
]


def test_forged_publish_is_not_delivered(site: Site) -> None:
    """B03: T2 publishing as T1 or as the centre reaches nobody, at QoS 0, 1 and retained."""
    centre, one, two = site.centre(), site.terminal(site.t1, T1), site.terminal(site.t2, T2)
    for topic in FORGED:
        for qos, retain in ((0, False), (1, False), (1, True)):
            if not two.lost.empty():  # a broker may close the session over it
                two.close()
                two = site.terminal(site.t2, T2)
            two.publish(topic, b"forged", qos=qos, retain=retain)
    honest = two if two.lost.empty() else site.terminal(site.t2, T2)
    honest.publish(topics.up(SITE, P2, T2, "hello"), b"honest")
    assert [p for _, p in centre.received(2, 3.0)] == [b"honest"]
    assert one.received(1, 1.0) == []
    late = site.terminal(site.t1, T1, f"{T1}-fedcba9876543210")
    assert late.received(1, 1.0) == []  # nothing was retained either


def test_forged_will_is_not_delivered(site: Site) -> None:
    """B03: a Will on another's topic is not published when the socket falls."""
    centre = site.centre()
    liar = site.peer(site.t2, f"{T2}-liar", will=(FORGED[0], b"forged", True))
    liar.connect()
    liar.drop()
    assert centre.received(1, 2.0) == []


def test_offline_durable_subscriber_gets_no_forgery(site: Site) -> None:
    """B03: a forgery published while the centre is away is not delivered when it returns."""
    away = site.peer(site.centre_id, CENTRE, clean=False)
    assert away.connect()
    away.subscribe(topics.up_filter(SITE))
    away.close()
    two = site.terminal(site.t2, T2)
    two.publish(FORGED[0], b"forged")
    two = two if two.lost.empty() else site.terminal(site.t2, T2)
    two.publish(topics.up(SITE, P2, T2, "journal"), b"honest")
    back = site.peer(site.centre_id, CENTRE, clean=False)
    assert back.connect()
    assert [p for _, p in back.received(2, 3.0)] == [b"honest"]


FOREIGN = ["#", "cc/v1/#", f"cc/v1/{SITE}/dn/{T1}/#", f"cc/v1/{SITE}/up/#", "$SYS/#",
           "$MQTT/sub/#", f"$share/g/cc/v1/{SITE}/up/#"]  # fmt: skip


def test_foreign_subscription_hears_nothing(site: Site) -> None:
    """B04: whatever T2 subscribes to, T1's messages do not reach it."""
    centre, one = site.centre(), site.terminal(site.t1, T1)
    for n, topic in enumerate(FOREIGN):
        spy = site.peer(site.t2, f"{T2}-spy{n}")
        assert spy.connect()
        spy.client.subscribe(topic, qos=1)
        one.publish(topics.up(SITE, P1, T1, "journal"), b"secret")
        centre.publish(topics.down(SITE, T1, "ack"), b"secret")
        assert [p for _, p in spy.received(1, 0.5) if p == b"secret"] == [], topic
        spy.close()
    assert len(centre.received(len(FOREIGN))) == len(FOREIGN)


def test_stolen_name_as_client_id(site: Site) -> None:
    """B05: T2 using T1's terminal name as client id does not disturb T1's session."""
    centre, one = site.centre(), site.terminal(site.t1, T1)
    thief = site.peer(site.t2, T1)
    thief.connect()
    centre.publish(topics.down(SITE, T1, "ack"), b"still here")
    assert [p for _, p in one.received(1)] == [b"still here"]
    assert one.lost.empty()


def test_san_does_not_make_another_terminal(site: Site) -> None:
    """A certificate for T2 whose SAN names T1: refused by our CA; here the brokers are shown one.

    NATS lets a SAN win over the subject, which is why the centre's CA issues terminals none.
    """
    if site.kind == "nats":
        return  # the hole is closed at the CA: tests/sync/central/test_ca.py
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, T1)])
    liar = site.ca.issue(T2, ou="g1", san=[x509.DirectoryName(name)], file="liar")
    centre = site.centre()
    peer = site.peer(liar, f"{T2}-liar")
    assert peer.connect()
    peer.publish(FORGED[0], b"forged")
    assert centre.received(1, 1.0) == []


def test_graceful_restart_keeps_the_durable_session(site: Site) -> None:
    """B06: what was PUBACKed for an offline centre is there after a graceful restart."""
    away = site.peer(site.centre_id, CENTRE, clean=False)
    assert away.connect()
    away.subscribe(topics.up_filter(SITE))
    away.close()
    one = site.terminal(site.t1, T1)
    for n in range(20):
        one.publish(topics.up(SITE, P1, T1, "journal"), b"%d" % n)
    one.close()
    site.broker.stop()
    site.broker.start()
    back = site.peer(site.centre_id, CENTRE, clean=False)
    assert back.connect()
    assert [p for _, p in back.received(20)] == [b"%d" % n for n in range(20)]


def test_unacknowledged_message_comes_again(site: Site) -> None:
    """B09: a message the centre took but did not acknowledge is delivered again."""
    first = site.peer(site.centre_id, CENTRE, clean=False, manual_ack=True)
    assert first.connect()
    first.subscribe(topics.up_filter(SITE))
    one = site.terminal(site.t1, T1)
    one.publish(topics.up(SITE, P1, T1, "journal"), b"once more")
    assert [p for _, p in first.received(1)] == [b"once more"]
    first.drop()
    again = site.peer(site.centre_id, CENTRE, clean=False)
    assert again.connect()
    assert [p for _, p in again.received(1, 15.0)] == [b"once more"]


def test_order_per_topic(site: Site) -> None:
    """B10: one publisher's messages on one topic arrive in order."""
    centre, one = site.centre(), site.terminal(site.t1, T1)
    for n in range(200):
        one.publish(topics.up(SITE, P1, T1, "journal"), b"%d" % n)
    assert [p for _, p in centre.received(200)] == [b"%d" % n for n in range(200)]


def test_retained_and_will(site: Site) -> None:
    """B10: retained is set, replaced and cleared; a Will comes on socket loss, not on DISCONNECT."""
    centre = site.centre()
    head = topics.list_head(SITE, "cards")
    centre.publish(head, b"v1", retain=True)
    centre.publish(head, b"v2", retain=True)
    one = site.terminal(site.t1, T1)
    assert [p for t, p in one.received(1) if t == head] == [b"v2"]
    centre.publish(head, b"", retain=True)
    other = site.terminal(site.t2, T2)
    assert other.received(1, 1.0) == []
    state = topics.up(SITE, P1, T1, "state")
    for graceful in (True, False):
        peer = site.peer(site.t1, f"{T1}-w{graceful}", will=(state, b"offline", True))
        assert peer.connect()
        if graceful:
            peer.close()
        else:
            peer.drop()
        heard = [p for t, p in centre.received(1, 2.0) if t == state]
        assert heard == ([] if graceful else [b"offline"])


def test_second_connect_of_the_same_client_wins(site: Site) -> None:
    """B11: a terminal that lost its socket unnoticed gets its session back at once."""
    first = site.terminal(site.t1, T1)
    second = site.terminal(site.t1, T1)
    centre = site.centre()
    centre.publish(topics.down(SITE, T1, "ack"), b"x")
    assert [p for _, p in second.received(1)] == [b"x"]
    assert first.lost.get(timeout=5)


def test_enrol_and_revoke_while_running(tmp_path: Path) -> None:
    """B14 (nats): a new user gets in, a removed one is cut and stays out, others stay connected."""
    site = Site("nats", tmp_path)
    assert isinstance(site.broker, Nats)
    site.broker.start()
    try:
        one, two = site.terminal(site.t1, T1), site.terminal(site.t2, T2)
        third = site.ca.issue("T0003", ou="g1")
        assert not site.peer(third, "T0003-x").connect()
        more = [*USERS, User("T0003", topics.partition_of("T0003"), 1)]
        site.broker.set_users(nats_users(CAMPUS, SITE, [CENTRE], more))
        assert any(site.peer(third, f"T0003-{n}").connect() for n in range(10))
        site.broker.set_users(nats_users(CAMPUS, SITE, [CENTRE], more[1:]))
        assert one.lost.get(timeout=5)
        assert not site.peer(site.t1, f"{T1}-y").connect()
        assert two.lost.empty()
        site.broker.set_users("authorization { users: [ {{{")  # a broken file changes nothing
        assert two.lost.empty()
        assert site.peer(site.t2, f"{T2}-z").connect()
    finally:
        for peer in site.peers:
            peer.close()
        site.broker.stop()
