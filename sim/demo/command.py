"""The command line of the demo."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from sim.campus.campus import Campus, CampusPlan
from sim.campus.till import TillPlan
from sim.demo.lunch import FIXED, FIXED_FEN, KEYED, Lunch, Report
from sim.seeded import SeededRng

PLANS = (
    TillPlan(FIXED, "000000000001", mode="fixed", fixed_fen=FIXED_FEN),
    TillPlan(KEYED, "000000000002", mode="amount"),
)
CARDS = 9  # the last one is poor
POOR_FEN = 1_000


def main(argv: Sequence[str]) -> int:
    """Play the lunch; 0 when every fen is accounted for, 1 when not."""
    asked = _parser().parse_args(list(argv))
    quiet = asked.headless or asked.json
    signal.signal(signal.SIGTERM, _interrupted)
    folder = Path(tempfile.mkdtemp(prefix="onecard-demo-"))
    try:
        report = _play(folder, asked, quiet)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if asked.json:
        sys.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(closing_line(report) + "\n")
        if asked.keep:
            sys.stdout.write(f"files kept in {folder}\n")
    return 0 if report.clean else 1


def closing_line(report: Report) -> str:
    """One line: is every fen accounted for?"""
    t = report.tally
    counts = f"{t.taps} taps, {t.paid} paid, {t.in_doubt} in doubt, {t.resolved} resolved"
    if report.clean:
        return f"账平 Every fen is accounted for: {counts}, 0 lost, 0 duplicated, audit ok."
    c = report.comparison
    return (
        f"账不平 NOT every fen is accounted for: {counts}, {len(c.lost)} lost,"
        f" {len(c.duplicated)} duplicated, {len(c.purses_off)} purses off,"
        f" unsynced {report.unsynced}, audit {'ok' if report.audit_ok else 'VIOLATED'}."
    )


def _play(folder: Path, asked: argparse.Namespace, quiet: bool) -> Report:
    rng = SeededRng(asked.seed, "demo")
    campus = Campus(folder, CampusPlan(PLANS, cards=CARDS - 1), rng)
    campus.cards.append(campus.issue(CARDS, POOR_FEN))
    started, seconds = time.monotonic(), int(asked.seconds)

    def tell(line: str) -> None:
        if quiet and not asked.json:
            sys.stdout.write(line + "\n")

    lunch = Lunch(campus, rng, tell)
    try:
        campus.start()

        def more() -> bool:
            return time.monotonic() - started < seconds

        if quiet:
            return lunch.play(more)
        from rich.console import Console

        from sim.demo.view import View

        with View(campus, lunch.tally, Console()):
            return lunch.play(more)
    finally:
        campus.stop()


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run demo",
        description="Broker, centre and two canteen tills as real processes; a lunch with a cut"
        " network, torn cards and a killed till; then the audit.",
    )
    parser.add_argument("--headless", action="store_true", help="no live view")
    parser.add_argument("--json", action="store_true", help="one JSON object with counts")
    parser.add_argument("--seconds", type=int, default=0, help="go on selling at least so long")
    parser.add_argument("--seed", type=int, default=1, help="which cards and amounts")
    parser.add_argument("--keep", action="store_true", help="keep the files and say where")
    return parser
