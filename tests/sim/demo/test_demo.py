"""The demo as a user runs it, and its verdict when the books are wrong."""

import json
import subprocess
import sys

import pytest

from sim.campus.compare import Comparison, Seen
from sim.demo.command import closing_line
from sim.demo.lunch import Report, Tally


@pytest.mark.slow
def test_headless_json() -> None:
    """`demo --headless --json`: exit 0, one object, nothing lost or doubled, a doubt resolved."""
    command = [sys.executable, "-m", "sync", "demo", "--headless", "--json", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["lost"], found["duplicated"], found["unsynced"]) == (0, 0, 0)
    assert found["audit"] == "ok"
    assert found["resolved"] >= 1
    assert found["paid"] + found["refused"] + found["in_doubt"] >= found["taps"]


LOST = Comparison((Seen("T0001", bytes(10), 300),), (), ())
TWICE = Comparison((), (Seen("T0001", bytes(10), 300),), ())
OFF = Comparison((), (), ("card",))
CLEAN = Comparison((), (), ())


@pytest.mark.parametrize(
    ("comparison", "unsynced", "audit_ok"),
    [(LOST, 0, True), (TWICE, 0, True), (OFF, 0, True), (CLEAN, 1, True), (CLEAN, 0, False)],
)
def test_verdict_is_not_always_good(comparison: Comparison, unsynced: int, audit_ok: bool) -> None:
    """A lost or doubled sale, a wrong purse, a record not sent or a failed audit: not clean."""
    report = Report(Tally(), unsynced, comparison, audit_ok, [])
    assert not report.clean
    assert "NOT" in closing_line(report)
    assert Report(Tally(), 0, CLEAN, True, []).clean
