"""A canteen terminal process: start to READY, resident memory, idle load (terminals.md §10).

The process is the shipped command with the PN532 driver on a pty; the median of five lives counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from firmware.base.clock import SystemClock, Trust
from sim.pn532 import Pn532Sim
from sim.till_folder import fill, make

LIVES = 5
RECORDS = 50_000
IDLE_S = 5.0
READY_LIMIT_S = 30.0
GOALS = {"start_empty_s": 1.0, "start_full_s": 2.0, "rss_mib": 50.0, "idle_pct": 2.0}
COMMAND = "from terminal.roles import main; import sys; sys.exit(main(sys.argv[1:]))"


def main(argv: list[str]) -> int:
    """Measure and print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="./run bench terminal")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--lives", type=int, default=LIVES)
    parser.add_argument("--out", type=Path, default=Path("bench/out/terminal.json"))
    chosen = parser.parse_args(argv)
    result = measure(chosen.lives)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, goal in GOALS.items():
            sys.stdout.write(f"{name:14} {result[name]:8.2f}   goal <= {goal}\n")
    return 0 if result["met"] else 1


def measure(lives: int) -> dict[str, object]:
    """Medians over `lives` starts with an empty and with a full volume."""
    empty, full = [], []
    clock = SystemClock(Trust.HELD)
    with tempfile.TemporaryDirectory() as scratch, Pn532Sim() as reader:
        for n in range(lives):
            folder = Path(scratch) / f"empty{n}"
            empty.append(_life(make(folder, reader.port, clock)))
        stored = Path(scratch) / "full"
        config = make(stored, reader.port, clock)
        fill(stored / "data", clock, RECORDS)
        for n in range(lives):
            copy = Path(scratch) / f"full{n}"
            shutil.copytree(stored, copy)
            full.append(_life(copy / config.name))
    found = {
        "start_empty_s": _median(empty, "start_s"),
        "start_full_s": _median(full, "start_s"),
        "rss_mib": max(_median(empty, "rss_mib"), _median(full, "rss_mib")),
        "idle_pct": max(_median(empty, "idle_pct"), _median(full, "idle_pct")),
    }
    met = all(found[name] <= goal for name, goal in GOALS.items())
    return {
        **found,
        "met": met,
        "goals": GOALS,
        "records": RECORDS,
        "raw": {"empty": empty, "full": full},
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
    }


def _median(lives: list[dict[str, float]], name: str) -> float:
    return statistics.median(life[name] for life in lives)


def _life(config: Path) -> dict[str, float]:
    """Start, wait for READY, idle, stop."""
    began = time.monotonic()
    command = [sys.executable, "-c", COMMAND, "canteen", "--config", str(config), "--demo"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert child.stderr is not None, "piped"
        for line in child.stderr:
            if b" READY " in line:
                break
            if time.monotonic() - began > READY_LIMIT_S:
                break
        start_s = time.monotonic() - began
        time.sleep(0.5)
        before, at = _cpu_s(child.pid), time.monotonic()
        time.sleep(IDLE_S)
        used_s, span_s = _cpu_s(child.pid) - before, time.monotonic() - at
        rss_mib = _rss_kib(child.pid) / 1024
    finally:
        child.terminate()
        child.wait(10)
        for pipe in (child.stdin, child.stderr):
            if pipe is not None:
                pipe.close()
    return {"start_s": start_s, "rss_mib": rss_mib, "idle_pct": 100 * used_s / span_s}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
