"""The service's loop over a link of paper: commit, then acknowledge, then answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from firmware.base.errors import ConfigError, KeyExistsError, KeyInsecureError
from firmware.base.keys import DeviceKey
from protocols.wire.messages import Ack, ListHead, Welcome, decode_down
from sync.central.broker_users import write_users
from sync.central.engine import open_engine
from sync.central.founding import Ports, init_centre
from sync.central.service import Loop, audit_command, broker_settings, office
from sync.central.settings import CentreConfig, load
from sync.errors import BusyError, CentreDownError
from sync.link import Connected, Inbound, Lost
from tests.sync.central.pens import Campus, SeededRng


@dataclass
class PaperLink:
    """Records what the loop does, in order."""

    acts: list[tuple[str, Any]] = field(default_factory=list)

    def ack(self, messages: list[Inbound]) -> None:
        self.acts.append(("ack", [m.mid for m in messages]))

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        self.acts.append(("publish", topic))
        return True


@pytest.fixture
def config(tmp_path: Path) -> CentreConfig:
    """A founded centre in a folder."""
    ports = Ports(broker=18_883, core=14_222, enrol=18_443)
    return init_centre(tmp_path / "c", "campus", "s1", True, SeededRng(3), ports=ports)


@pytest.fixture
def loop(campus: Campus, config: CentreConfig) -> Any:
    link = PaperLink()
    found = Loop(config, campus.centre, link, campus.clock)  # type: ignore[arg-type]
    return campus, link, found


def inbound(letter: Any, mid: int) -> Inbound:
    return Inbound(letter.topic, letter.payload, mid, 1)


def test_acknowledged_after_the_commit_and_before_the_answer(loop: Any) -> None:
    """sync.md §12: verify, one transaction, MQTT acks, application acks; good and bad alike."""
    campus, link, found = loop
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    letters = [inbound(pen.segment(), 7), Inbound(pen.topic("journal"), b"rubbish", 8, 1)]
    found._turn(letters, threading.Event())
    assert link.acts == [
        ("ack", [7, 8]),
        ("publish", "cc/v1/s1/dn/T0001/ack"),
        ("publish", "cc/v1/s1/dn/T0001/ack"),
    ]
    assert campus.fen("merchant:north") == 100


def test_nothing_is_acknowledged_that_is_not_committed(loop: Any) -> None:
    """BUSY or a missing database: the same messages again, and no ack until they are in."""
    campus, link, found = loop
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    letter = inbound(pen.segment(), 7)
    real, faults = campus.centre.receive, [BusyError(), CentreDownError()]

    def receive(messages: Any, *, lag_ms: int = 0) -> Any:
        if faults:
            raise faults.pop()
        return real(messages, lag_ms=lag_ms)

    campus.centre.receive = receive
    found._turn([letter], threading.Event())
    assert link.acts[0] == ("ack", [7])
    assert campus.fen("merchant:north") == 100
    stopping = threading.Event()
    stopping.set()
    faults += [BusyError()]
    link.acts.clear()
    found._turn([letter], stopping)
    assert link.acts == []


def test_a_session_begins_with_the_heads(loop: Any) -> None:
    """Connected: state, list heads, acks of all lanes; the outbox waits while the link is lost."""
    campus, link, found = loop
    campus.centre.publish_cards(campus.idem(), "office")
    found._turn([], threading.Event())
    assert link.acts == []
    found._turn([Connected()], threading.Event())
    topics = [topic for _, topic in link.acts]
    assert topics[:2] == ["cc/v1/s1/dn/all/state", "cc/v1/s1/dn/all/list/cards/head"]
    assert topics.count("cc/v1/s1/dn/all/list/cards/head") == 2
    link.acts.clear()
    campus.centre.publish_cards(campus.idem(), "office")
    found._turn([Lost(False, "gone")], threading.Event())
    assert link.acts == []


def test_full_batches_are_a_backlog(loop: Any) -> None:
    """Twenty messages a turn for more than five seconds: the window narrows."""
    campus, _, found = loop
    assert found._lag_ms(20) == 0
    campus.clock.step(6)
    assert found._lag_ms(20) == 6_000
    assert found._lag_ms(3) == 0


def test_the_user_file_follows_the_books(loop: Any, config: CentreConfig) -> None:
    """Written by temp and rename, only when something changed."""
    campus, _, found = loop
    path = config.broker_folder / "broker-users.conf"
    before = path.read_text()
    campus.terminal()
    campus.clock.step(3)
    found._turn([], threading.Event())
    assert "CN=T0001,OU=g1,O=campus" in path.read_text()
    assert before != path.read_text()
    assert not write_users(config, campus.engine)
    assert sorted(p.name for p in config.broker_folder.iterdir()) == ["acl", "broker-users.conf"]


def test_answers_decode(campus: Campus) -> None:
    """What goes out over the link is what the terminal's decoder reads."""
    pen = campus.terminal()
    pen.begin()
    campus.centre.publish_cards(campus.idem(), "office")
    out = campus.centre.receive([pen.hello(), pen.segment()])
    kinds = [type(decode_down(campus.ring.open(o.payload))) for o in out]
    assert kinds == [Ack, Welcome, ListHead]


# --- founding ---------------------------------------------------------------------------------


def test_founding_makes_everything_once(config: CentreConfig) -> None:
    """Keys 0600, certificates, an empty and clean ledger; a second time refuses."""
    for path in config.keys.glob("*.key"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert config.masters().labels() == ("MAMK.1", "MLK.1", "MPK.1", "MTK.1")
    desk = config.desk()
    assert len(set(desk.centre_keys)) == 2
    assert desk.signer.kid != DeviceKey.load(config.keys / "sync-2.key").kid
    checks = audit_command(None, config.folder / "centre.toml", True)
    assert [c.name for c in checks if not c.ok] == []
    with pytest.raises(KeyExistsError):
        init_centre(config.folder, "campus", "s1", True, SeededRng(3))


def test_founding_needs_a_passphrase_outside_development(tmp_path: Path) -> None:
    """Master keys lie open in development only."""
    with pytest.raises(KeyInsecureError):
        init_centre(tmp_path / "a", "campus", "s1", False, SeededRng(3))
    secret = tmp_path / "secret"
    secret.write_bytes(b"correct horse\n")
    found = init_centre(tmp_path / "b", "campus", "s1", False, SeededRng(3), passphrase_file=secret)
    assert len(found.masters().labels()) == 4


def test_the_configuration_is_checked(config: CentreConfig) -> None:
    """An unread key or a figure out of range names itself."""
    path = config.folder / "centre.toml"
    path.write_text(path.read_text() + "colour = 1\n[window]\ncredit = 99\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    keys = {problem["key"] for problem in caught.value.problems}
    assert keys == {"enrol.colour", "window.credit"}


def test_tools_read_the_configuration(config: CentreConfig) -> None:
    """Broker arguments, office acts from a shell, the audit of a missing database."""
    told = broker_settings(config.folder / "centre.toml")
    assert (told["port"], told["core_port"]) == (18_883, 14_222)
    assert told["certificate"].is_file()
    acts = office(config)
    acts.issue_card(bytes(16), "clerk", bytes(10), 500)
    acts.engine.dispose()
    engine = open_engine(config.database)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM card").scalar() == 1
    engine.dispose()
    with pytest.raises(CentreDownError):
        audit_command(f"sqlite:///{config.folder / 'none.db'}", None, False)
