"""`./run bench tap`: how long the host takes for one tap beyond the wire, PN532 on a pty and PC/SC.

Two measures for each reader. `till`: from the card's event in the loop to the screen that says
paid, by the production till, worker, driver, software SAM and journal (two flushes to this disk).
`driver`: the same five APDUs sent in a row by the driver alone. The simulated reader and card
answer at once (no baud pacing, no EEPROM time), so everything measured is host, simulator
included: an upper bound. Goal of the issue: p50 <= 5 ms, p99 <= 50 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware.base.clock import SystemClock
from firmware.card_worker import CardWorker
from firmware.drivers.pcsc import PcscReader
from firmware.drivers.pn532 import Pn532Reader
from firmware.errors import ReaderDownError
from firmware.ports import CardIn, CardOut, CardReader, ReaderState, Screen
from firmware.reactor import Reactor
from sim.card import SimCard
from sim.pcsc import PcscStage
from sim.plain_tap import plain_purchase
from sim.pn532 import Pn532Sim
from sim.till_office import asn
from sim.till_rig import RigDisplay, TillRig
from terminal.canteen.moves import Mode
from terminal.canteen.till import Ports, Till, TillConfig

WARM_UP = 30
FEN = 1
CARD_FEN = 50_000
GOAL_P50_MS, GOAL_P99_MS = 5.0, 50.0
BAUDS = (115_200, 921_600)
POLICY_OPEN: dict[str, Any] = {
    "per_sale_fen": 20_000,
    "per_day_fen": 10_000_000,
    "per_meal_count": None,
    "offline_fen": 100_000_000,
    "offline_card_day_fen": 10_000_000,
    "offline_h": 72,
    "pin_above_fen": 10_000,
    "list_age_h": 48,
}


@dataclass
class Bed:
    """A reader with its card in, and how many bytes its wire has carried."""

    reader: CardReader
    insert: Callable[[SimCard], None]
    byte_count: Callable[[], int]


@contextmanager
def pn532_bed() -> Iterator[Bed]:
    """Our driver over a pseudo terminal without baud pacing."""
    with Pn532Sim() as chip:
        yield Bed(Pn532Reader(chip.port), chip.insert, lambda: chip.byte_count)


@contextmanager
def pcsc_bed() -> Iterator[Bed]:
    """The PC/SC driver through pcscd and vpcd."""
    with PcscStage(1) as stage:
        slot = stage.slot(0)
        reader = PcscReader(slot.name)
        until = time.monotonic() + 10
        while True:
            try:
                reader.open()
                break
            except ReaderDownError:
                if time.monotonic() > until:
                    raise
        reader.close()
        yield Bed(reader, slot.insert, lambda: 0)


BEDS = {"pn532": pn532_bed, "pcsc": pcsc_bed}


def drive_alone(bed: Bed, rig: TillRig, taps: int) -> tuple[list[int], int]:
    """Microseconds of each purchase sent by the driver, and the wire's bytes per tap."""
    card = rig.issue(asn(1), CARD_FEN)
    bed.insert(card)
    bed.reader.open()
    found = bed.reader.wait_card(5000)
    assert found is not None, "the card was just inserted"
    took_us: list[int] = []
    before = bed.byte_count()
    for _ in range(WARM_UP + taps):
        start_ns = time.perf_counter_ns()
        done = plain_purchase(lambda apdu: bed.reader.transmit(apdu, 1000), rig.sam, FEN)
        took_us.append((time.perf_counter_ns() - start_ns) // 1000)
        assert done.proved, done
    bytes_per_tap = (bed.byte_count() - before) // (WARM_UP + taps)
    bed.reader.close()
    return took_us[WARM_UP:], bytes_per_tap


@dataclass
class Watch(RigDisplay):
    """A display that notes when it says paid."""

    paid_ns: int = 0
    paid: int = 0

    def show(self, screen: Screen) -> None:
        """Keep the time of the buzzer's good news only."""
        if screen.beep is not None and screen.beep.value == "paid":
            self.paid_ns = time.perf_counter_ns()
            self.paid += 1


@dataclass
class Cashier:
    """Feeds a till tap after tap: the card stays in, each tap is told as a new arrival."""

    rig: TillRig
    till: Till
    watch: Watch
    loop: Reactor
    taps: int
    took_us: list[int] = field(default_factory=list)
    _start_ns: int = 0
    _card: CardIn | None = None

    def on_event(self, event: Any) -> None:
        """One event of the loop."""
        if isinstance(event, CardIn):
            self._card = event
            self._arrive()
            return
        paid = self.watch.paid
        self.till.on_event(event)
        if self.watch.paid > paid:
            self.took_us.append((self.watch.paid_ns - self._start_ns) // 1000)
            self._next()
        elif isinstance(event, ReaderState | CardOut) and event != ReaderState(None):
            raise RuntimeError(f"the reader failed: {event}")

    def _next(self) -> None:
        self.till.on_event(CardOut())
        if len(self.took_us) == WARM_UP + self.taps:
            self.loop.stop()
            return
        self.rig.clock.now_us += 4_000_000  # the last picture has faded; another second
        self.loop.call_later(1, self._arrive)

    def _arrive(self) -> None:
        assert self._card is not None, "a first card came"
        self._start_ns = time.perf_counter_ns()
        self.till.on_event(self._card)


def through_till(bed: Bed, rig: TillRig, taps: int) -> list[int]:
    """Microseconds from the card's event to the paid screen, through the production till."""
    loop, watch = Reactor(SystemClock()), Watch()
    worker = CardWorker(bed.reader, loop.post)
    ports = Ports(rig.journal, worker, rig.sam, rig.news, watch, rig.clock, rig.timers, rig.profile)
    till = Till(ports, rig.config)
    till.start()
    cashier = Cashier(rig, till, watch, loop, taps)
    loop.deliver_to(cashier.on_event)
    bed.insert(rig.issue(asn(2), CARD_FEN))
    worker.start()
    try:
        loop.run()
    finally:
        worker.stop()
    return cashier.took_us[WARM_UP:]


def opened_rig(folder: Path) -> TillRig:
    """A till with an open shift that sells at one price without a pause."""
    config = TillConfig(mode=Mode.FIXED, fixed_fen=FEN, cooldown_s=0)
    rig = TillRig(folder, config, policy=POLICY_OPEN)
    rig.open_shift()
    return rig


def quantile_ms(took_us: list[int], per_mille: int) -> float:
    """The value below which that share of the samples lies."""
    ordered = sorted(took_us)
    return ordered[min(len(ordered) * per_mille // 1000, len(ordered) - 1)] / 1000


def summary(took_us: list[int]) -> dict[str, Any]:
    """p50, p99, worst, and the samples themselves."""
    return {
        "p50_ms": quantile_ms(took_us, 500),
        "p99_ms": quantile_ms(took_us, 990),
        "max_ms": max(took_us) / 1000,
        "raw_us": took_us,
    }


def measure(name: str, taps: int) -> dict[str, Any]:
    """Both measures of one reader."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="onecard-bench-", dir=".") as folder:
        rig = opened_rig(Path(folder))
        with BEDS[name]() as bed:
            alone_us, bytes_per_tap = drive_alone(bed, rig, taps)
        with BEDS[name]() as bed:
            till_us = through_till(bed, rig, taps)
        rig.journal.close()
    found["driver"], found["till"] = summary(alone_us), summary(till_us)
    if bytes_per_tap:
        found["bytes_per_tap"] = bytes_per_tap
        found["wire_ms"] = {str(b): round(bytes_per_tap * 10_000 / b, 2) for b in BAUDS}
    till = found["till"]
    found["goal_met"] = till["p50_ms"] <= GOAL_P50_MS and till["p99_ms"] <= GOAL_P99_MS
    return found


def main(argv: list[str]) -> int:
    """Measure, print a table or one JSON object; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="run bench tap", description=__doc__)
    parser.add_argument("--taps", type=int, default=300, help="measured taps per reader")
    parser.add_argument("--reader", choices=[*BEDS, "all"], default="all")
    parser.add_argument("--json", action="store_true", help="one JSON object with raw figures")
    parser.add_argument("--keep", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    names = list(BEDS) if args.reader == "all" else [args.reader]
    report = {
        "bench": "tap",
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "taps": args.taps,
        "goal_ms": {"p50": GOAL_P50_MS, "p99": GOAL_P99_MS},
        "readers": {name: measure(name, args.taps) for name in names},
    }
    text = json.dumps(report)
    if args.keep is not None:
        args.keep.write_text(text + "\n", "utf-8")
    sys.stdout.write(text + "\n" if args.json else table(report))
    return 0 if all(found["goal_met"] for found in report["readers"].values()) else 1


def table(report: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [f"host time per tap beyond the wire, {report['taps']} taps, {report['machine']}"]
    for name, found in report["readers"].items():
        for part in ("till", "driver"):
            got = found[part]
            lines.append(
                f"  {name:6} {part:6}  p50 {got['p50_ms']:7.3f} ms   p99 {got['p99_ms']:7.3f} ms"
                f"   max {got['max_ms']:7.3f} ms"
            )
        for baud, wire_ms in found.get("wire_ms", {}).items():
            lines.append(f"  {name:6} wire    {wire_ms} ms at {baud} baud, not counted above")
    return "\n".join(lines) + "\n"
