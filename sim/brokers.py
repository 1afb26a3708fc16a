"""Real brokers for tests: nats-server and Mosquitto in a folder, on random loopback ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Protocol

from sim.pki import AnyCa, Identity
from sync.broker import Broker, BrokerSettings

START_S = 15.0

MOSQUITTO = """\
per_listener_settings false
listener {port} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {acl}
persistence {persistence}
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 100000
max_inflight_messages 100
set_tcp_nodelay true
message_size_limit 262144
{user}
"""


class RealBroker(Protocol):
    """What the contract suite needs of a broker."""

    name: str
    port: int

    def start(self) -> None:
        """Start and wait until it listens."""

    def kill(self) -> None:
        """SIGKILL."""

    def forget(self) -> None:
        """Delete everything it stored; only while it is dead."""

    def stop(self) -> None:
        """End it by its pid."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def wait_listening(port: int, limit_s: float = START_S) -> None:
    """Return when something listens on the port. Raises TimeoutError."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


class Nats:
    """The embedded broker of the product, under test."""

    name = "nats"

    def __init__(self, folder: Path, ca: AnyCa, users: str) -> None:
        server = ca.server()
        self.port = free_port()
        self._settings = BrokerSettings(
            folder, "127.0.0.1", self.port, free_port(), ca.certificate,
            server.certificate, server.key,
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self._settings.users.write_text(users)
        self.broker = Broker(self._settings)

    def start(self) -> None:
        """Start and wait until it listens."""
        self.broker.start()
        wait_listening(self.port)

    def set_users(self, users: str) -> None:
        """Replace the user file as the centre does, and let the broker see it."""
        fresh = self._settings.users.with_suffix(".new")
        fresh.write_text(users)
        fresh.replace(self._settings.users)
        assert self.broker.poll()

    def kill(self) -> None:
        """SIGKILL."""
        pid = self.broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.broker.stop()

    def forget(self) -> None:
        """Delete the JetStream store."""
        shutil.rmtree(self._settings.folder / "js", ignore_errors=True)

    def stop(self) -> None:
        """End it."""
        self.broker.stop()


class Mosquitto:
    """Debian's Mosquitto with the product's ACL."""

    name = "mosquitto"

    def __init__(self, folder: Path, ca: AnyCa, acl: str, *, persistence: bool = True) -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert found is not None, "mosquitto is not installed"
        self._binary = found
        self._folder = folder
        self._ca = ca
        self._server: Identity = ca.server()
        self._persistence = persistence
        self._child: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "acl").write_text(acl)
        (folder / "acl").chmod(0o600)

    def start(self) -> None:
        """Start and wait until it listens."""
        config = self._folder / "mosquitto.conf"
        config.write_text(
            MOSQUITTO.format(
                port=self.port,
                ca=self._ca.certificate,
                certificate=self._server.certificate,
                key=self._server.key,
                acl=self._folder / "acl",
                persistence=str(self._persistence).lower(),
                folder=self._folder,
                user="user root",
            )
        )
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._child = subprocess.Popen(
                [self._binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=log
            )
        wait_listening(self.port)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._child is not None
        self._child.kill()
        self._child.wait(5)
        self._child = None

    def forget(self) -> None:
        """Delete the persistence file."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(5)
            self._child = None
