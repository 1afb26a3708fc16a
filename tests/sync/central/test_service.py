"""Real processes: broker, centre, TLS enrolment, MQTT; SIGKILL in the middle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Any

import pytest

from firmware.base.clock import SystemClock
from firmware.base.keys import DeviceKey
from firmware.base.rng import SystemRng
from firmware.enrol import enrol
from firmware.errors import EnrolError, EnrolUnreachableError
from protocols.wire import cbor, topics
from protocols.wire.cose import KeyRing, P256Signer
from protocols.wire.messages import Ack, Welcome, decode_down
from sync.central.engine import open_engine
from sync.central.founding import Ports, init_centre
from sync.central.service import audit_command, office
from sync.central.settings import CentreConfig
from sync.device.status import StatusCall
from sync.link import Broker, Connected, Inbound, Lost, TerminalLink, TlsFiles
from tests.sync.central.pens import Chip, Pen

DEADLINE_S = 30.0


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


def until(check: Callable[[], Any], what: str, limit_s: float = DEADLINE_S) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"timed out: {what}")


class Processes:
    """`onecard broker` and `onecard central` over one founded folder."""

    def __init__(self, config: CentreConfig) -> None:
        self.config = config
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        path = str(self.config.folder / "centre.toml")
        command = [sys.executable, "-m", "sync", name, "--config", path]
        log = (self.config.folder / f"{name}.log").open("ab")
        self.children[name] = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        port = self.config.broker_port if name == "broker" else self.config.enrol_port
        until(lambda: self.listening(name, port), name)

    def listening(self, name: str, port: int) -> bool:
        text = (self.config.folder / f"{name}.log").read_text("utf-8", "replace")
        assert self.children[name].poll() is None, text[-2_000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def kill(self, name: str) -> None:
        child = self.children.pop(name)
        child.send_signal(signal.SIGKILL)
        child.wait(10)

    def stop(self) -> None:
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Processes]:
    broker, core, port = free_ports(3)
    ports = Ports(broker=broker, core=core, enrol=port)
    config = init_centre(tmp_path / "c", "campus", "s1", True, SystemRng(), ports=ports)
    found = Processes(config)
    try:
        found.start("broker")
        found.start("central")
        yield found
    finally:
        found.stop()


class Session:
    """A terminal's MQTT session with an enrolled key."""

    def __init__(self, folder: Path) -> None:
        told: Any = cbor.loads((folder / "enrol.cbor").read_bytes())
        self.ring = KeyRing(list(told["centre_keys"]))
        self.key = DeviceKey.load(folder / "device.key")
        files = TlsFiles(*(str(folder / n) for n in ("ca.crt", "device.crt", "device.key")))
        broker = Broker(told["broker_host"], told["broker_port"], told["client_id"], files)
        term = told["terminal"]
        will = topics.up("s1", topics.partition_of(term), term, "state")
        self.link = TerminalLink(broker, topics.terminal_filters("s1", term), will)
        clock: Any = SystemClock()
        self.pen = Pen(clock, term, P256Signer(self.key.private_key), 5)
        self.heard: list[Any] = []

    def connect(self) -> bool:
        self.link.dial()
        return isinstance(self.event(), Connected)

    def event(self) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            found = self.link.take(200)
            if isinstance(found, Connected | Lost):
                return found
        return None

    def send(self, letter: Any) -> None:
        """Publish; a session that fell meanwhile is dialled again, as the daemon does."""

        def sent() -> bool:
            if self.link.publish(letter.topic, letter.payload) is not None:
                return True
            self.connect()
            return False

        until(sent, "publish")

    def ask(self, letter: Any, kind: type[Any]) -> Any:
        """Send until it is answered: a message or an answer lost with a session is sent again."""
        until_s = time.monotonic() + 3 * DEADLINE_S
        while time.monotonic() < until_s:
            self.send(letter)
            try:
                return self.hears(kind, 5.0)
            except AssertionError:
                continue
        raise AssertionError(f"no {kind.__name__}")

    def hears(self, kind: type[Any], limit_s: float = DEADLINE_S) -> Any:
        def look() -> Any:
            found = self.link.take(200)
            if isinstance(found, Inbound) and not found.topic.endswith("/state"):
                message = decode_down(self.ring.open(found.payload))
                return message if isinstance(message, kind) else None
            return None

        return until(look, kind.__name__, limit_s)


def enrolled(line: Processes, folder: Path, code: str = "T0001") -> Session:
    acts = office(line.config)
    claim = acts.create_terminal(os.urandom(16), "office", code, place="hall", merchant="north")
    acts.engine.dispose()
    der = PEM_cert_to_DER_cert(line.config.ca_pem.read_text("ascii"))
    url = f"https://127.0.0.1:{line.config.enrol_port}"
    assert enrol(folder, url, sha256(der).hexdigest(), claim) == code
    return Session(folder)


def sales(line: Processes) -> int:
    engine = open_engine(line.config.database)
    with engine.connect() as connection:
        sql = "SELECT count(*) FROM transfer WHERE terminal <> 0"
        found = connection.exec_driver_sql(sql).scalar()
    engine.dispose()
    return int(found or 0)


# paho leaves the socket of a refused TLS handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_enrol_pay_kill_revoke(line: Processes, tmp_path: Path) -> None:
    """From the one-time code to the signed ack; killed centre and broker lose nothing; revoke cuts."""
    session = enrolled(line, tmp_path / "t1")
    acts = office(line.config)
    acts.issue_card(os.urandom(16), "office", bytes(9) + b"\x01", 10_000)
    mtk = line.config.masters().use("MTK.1", lambda key: key)
    chip = Chip(bytes(9) + b"\x01", 10_000, mtk=mtk)
    assert until(session.connect, "first connect")
    pen = session.pen
    pen.begin()
    pen.sale(chip, 350)
    assert session.ask(pen.hello(), Welcome).pos.seq == 0
    ack = session.ask(pen.segment(), Ack)
    assert (ack.seq, ack.hash) == (4, pen.tip.hash)

    line.kill("central")
    pen.sale(chip, 100)
    session.send(pen.segment())  # PUBACK by the broker means nothing
    assert sales(line) == 1
    line.start("central")
    assert session.hears(Ack).seq >= 4
    until(lambda: sales(line) == 2, "the broker's redelivery")

    line.kill("broker")
    line.start("broker")
    assert until(session.connect, "reconnect")
    pen.sale(chip, 100)
    third = pen.segment(7, 8)
    session.ask(third, Ack)
    until(lambda: sales(line) == 3, "third")

    status = StatusCall(
        f"https://127.0.0.1:{line.config.enrol_port}",
        tmp_path / "t1" / "ca.crt",
        session.key,
        session.ring,
        "T0001",
        SystemClock(),
    )
    assert status.ask() == "ENROLLED"
    acts.revoke_terminal(os.urandom(16), "office", "T0001", "stolen")
    assert isinstance(session.event(), Lost)
    until(lambda: not session.connect(), "refused")
    assert status.ask() == "SYNC_FENCED"
    session.link.close()
    until(lambda: all(_clean(line)), "clean audit")


def _clean(line: Processes) -> list[bool]:
    checks = audit_command(None, line.config.folder / "centre.toml", True)
    return [check.ok for check in checks]


@pytest.mark.slow
def test_enrolment_refusals_over_tls(line: Processes, tmp_path: Path) -> None:
    """A wrong code and a wrong CA fingerprint, from the terminal's own command."""
    url = f"https://127.0.0.1:{line.config.enrol_port}"
    der = PEM_cert_to_DER_cert(line.config.ca_pem.read_text("ascii"))
    with pytest.raises(EnrolError) as caught:
        enrol(tmp_path / "x", url, sha256(der).hexdigest(), "ABCDEFGHJK")
    assert caught.value.facts["reason"] == "ENROL_CODE"
    with pytest.raises(EnrolUnreachableError):
        enrol(tmp_path / "y", url, "00" * 32, "ABCDEFGHJK")
    line.children["central"].terminate()
    assert line.children["central"].wait(15) == 0
