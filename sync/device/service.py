"""`onecard sync --config FILE`: the daemon's process: one thread, paho's beside it.

Reads the same file as the terminal, but only its `data` folder: everything else the daemon needs
came with the enrolment. A silent loop is ended by the watchdog and started again by its supervisor.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firmware.base.clock import Clock, SystemClock
from firmware.base.config import Section
from firmware.base.keys import DeviceKey
from firmware.base.log import event, setup
from firmware.base.rng import SystemRng
from protocols.errors import OnecardError
from protocols.texts import TEXTS
from protocols.wire import cbor, topics
from protocols.wire.cose import KeyRing
from sync.device.daemon import Daemon, Lane
from sync.device.journal_view import JournalReader
from sync.device.status import StatusCall
from sync.device.store import SyncStore
from sync.link import Broker, Connected, Inbound, LinkEvent, Lost, PubAcked, TerminalLink, TlsFiles
from terminal.identity import FILE, Identity

LOG = logging.getLogger("onecard.sync")
WATCHDOG_S = 30.0
WATCHDOG_EXIT = 70


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolment left for the daemon."""

    lane: Lane
    ring: KeyRing
    broker: Broker
    centre_url: str
    ca: Path

    @classmethod
    def load(cls, folder: Path) -> Enrolled:
        """From the folder `identity`. Raises IDENTITY."""
        identity = Identity.load(folder)
        content: Any = cbor.loads((folder / FILE).read_bytes())
        files = {name: str(folder / name) for name in ("ca.crt", "device.crt", "device.key")}
        tls = TlsFiles(files["ca.crt"], files["device.crt"], files["device.key"])
        broker = Broker(content["broker_host"], content["broker_port"], content["client_id"], tls)
        lane = Lane(identity.site, content["partition"], identity.terminal)
        return cls(lane, identity.ring, broker, content["centre_url"], folder / "ca.crt")


class Watchdog:
    """Ends the process when the loop has given no sign for 30 s (sync.md §11)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_us = clock.mono_us()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def sign(self) -> None:
        """The loop lives."""
        self._seen_us = self._clock.mono_us()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            if self._clock.mono_us() - self._seen_us > WATCHDOG_S * 1_000_000:
                event(LOG, logging.CRITICAL, "loop_silent")
                os._exit(WATCHDOG_EXIT)


def main(argv: list[str]) -> int:
    """Run until SIGTERM; 2 for bad input."""
    parser = argparse.ArgumentParser("onecard sync", description="The sync daemon of a terminal.")
    parser.add_argument("--config", type=Path, required=True, help="the terminal's TOML file")
    parser.add_argument(
        "--spread-s", type=int, help="first connect within so many seconds (default: the centre's)"
    )
    asked = parser.parse_args(argv)
    setup(logging.INFO, sys.stderr)
    try:
        folder = Section.load(asked.config).path("data", "data", "folder of the terminal")
        enrolled = Enrolled.load(folder / "identity")
        return _serve(folder, enrolled, asked.spread_s)
    except OnecardError as exc:
        zh, en = TEXTS.get(exc.code, ("", ""))
        sys.stderr.write(f"{exc}\n{zh} / {en}\n")
        return 2


def _serve(folder: Path, enrolled: Enrolled, spread_s: int | None) -> int:
    clock, stopping = SystemClock(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    lane = enrolled.lane
    link = TerminalLink(
        enrolled.broker,
        topics.terminal_filters(lane.site, lane.term),
        topics.up(lane.site, lane.part, lane.term, "state"),
    )
    key = DeviceKey.load(folder / "identity" / "device.key")
    view, store = JournalReader(folder / "journal"), SyncStore(folder / "sync.db")
    status = StatusCall(enrolled.centre_url, enrolled.ca, key, enrolled.ring, lane.term, clock)
    lane = replace(lane, spread_s=spread_s)
    daemon = Daemon(lane, key, enrolled.ring, view, store, link, clock, SystemRng(), status)
    watchdog = Watchdog(clock)
    watchdog.start()
    try:
        while not stopping.is_set():
            watchdog.sign()
            found = link.take(daemon.turn())
            for _ in range(100):  # a burst of events costs one look at the journal
                if found is None:
                    break
                _tell(daemon, found)
                found = link.take(0)
    finally:
        watchdog.stop()
        link.close()
        view.close()
        store.close()
    return 0


def _tell(daemon: Daemon, found: LinkEvent) -> None:
    match found:
        case Connected():
            daemon.connected()
        case Lost(refused, reason):
            daemon.lost(refused=refused, reason=reason)
        case Inbound():
            daemon.inbound(found.topic, found.payload)
        case PubAcked(mid):
            daemon.puback(mid)
