"""Durable events through the journal's public API against one pwrite of 4 KiB and fdatasync.

The method of ledger.md §12: 2,500 warm-up appends, then alternating blocks of 200 appends and 200
floor writes on the same disk in the same minute, three runs; the median ratio counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from firmware.base.clock import SystemClock, Trust
from protocols.wire.record import Kind, own_of
from sim.till_office import TID, asn, grant
from terminal.ledger.recovery import open_journal
from terminal.ledger.store import Journal

WARM_UP = 2_500
BLOCK = 200
BLOCKS = 10
RUNS = 3
GOAL_P50 = 1.5
FLOOR_BYTES = 4_096


def main(argv: list[str]) -> int:
    """Measure and print; 1 when the median p50 ratio is above the goal."""
    parser = argparse.ArgumentParser(prog="./run bench journal")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--out", type=Path, default=Path("bench/out/journal.json"))
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=chosen.folder or Path.cwd()) as scratch:
        result = measure(Path(scratch))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result) + "\n")
    shown = {key: value for key, value in result.items() if key != "raw_us"}
    if chosen.json:
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        for name in ("append_p50_us", "floor_p50_us", "ratio_p50", "ratio_p99"):
            sys.stdout.write(f"{name:14} {result[name]:8.2f}\n")
    return 0 if result["met"] else 1


def measure(folder: Path) -> dict[str, object]:
    """Three runs; every single duration is kept under `raw_us`."""
    clock = SystemClock(Trust.HELD)
    granted = grant(hw0_us=clock.wall_us())
    journal = open_journal(folder / "journal", granted, clock, os.urandom(8))
    handle = os.open(folder / "floor", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(handle, bytes(FLOOR_BYTES))
    os.fsync(handle)
    page = os.urandom(FLOOR_BYTES)

    def floor() -> None:
        os.pwrite(handle, page, 0)
        os.fdatasync(handle)

    append = _sales(journal)
    for _ in range(WARM_UP):
        append()
    runs = [_run(append, floor) for _ in range(RUNS)]
    journal.close()
    os.close(handle)
    return _summary(runs)


def _sales(journal: Journal) -> Callable[[], None]:
    """INTENT and CAPTURE in turn, as a till writes them."""
    pending: list[int] = []
    intent = own_of(
        Kind.INTENT,
        means=0,
        sale=[1, "fixed", None, None, 1],
        uid=b"\1\2\3\4",
        purse_before=5_000,
        type=6,
        tid=TID,
        termseq=77,
        date=bytes.fromhex("20260302"),
        time=bytes.fromhex("110000"),
        keyver=1,
        mac1=b"1234",
        exp_mac2=b"5678",
        prev=bytes(23),
    )
    capture = own_of(Kind.CAPTURE, purse_after=4_700, tac=b"abcd")
    card = asn(1)

    def append() -> None:
        if pending:
            seq = pending.pop()
            journal.append(Kind.CAPTURE, ref=seq, inst=card, ctr=7, fen=300, own=capture)
        else:
            record = journal.append(Kind.INTENT, inst=card, ctr=7, fen=300, own=intent)
            pending.append(record.seq)

    return append


def _run(append: Callable[[], None], floor: Callable[[], None]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"append": [], "floor": []}
    for _ in range(BLOCKS):
        for name, act in (("append", append), ("floor", floor)):
            times[name] += [_timed_us(act) for _ in range(BLOCK)]
    return times


def _timed_us(act: Callable[[], None]) -> float:
    began = time.perf_counter_ns()
    act()
    return (time.perf_counter_ns() - began) / 1_000


def _summary(runs: list[dict[str, list[float]]]) -> dict[str, object]:
    def at(times: list[float], percent: int) -> float:
        return sorted(times)[len(times) * percent // 100]

    def ratio(percent: int) -> float:
        return statistics.median(at(r["append"], percent) / at(r["floor"], percent) for r in runs)

    return {
        "append_p50_us": statistics.median(at(r["append"], 50) for r in runs),
        "append_p99_us": statistics.median(at(r["append"], 99) for r in runs),
        "floor_p50_us": statistics.median(at(r["floor"], 50) for r in runs),
        "floor_p99_us": statistics.median(at(r["floor"], 99) for r in runs),
        "ratio_p50": ratio(50),
        "ratio_p99": ratio(99),
        "goal_p50": GOAL_P50,
        "met": ratio(50) <= GOAL_P50,
        "machine": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "raw_us": runs,
    }
