"""Children are restarted with backoff, stopped by their own pid, and die with their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware.base.clock import SystemClock, Trust
from firmware.base.errors import ChildDownError
from firmware.base.supervisor import Child, ChildSpec, watch


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_us = 0

    def mono_us(self) -> int:
        return self.now_us

    def wall_us(self) -> int:
        return self.now_us

    def trust(self) -> Trust:
        return Trust.SYNCED


def until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    ends = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends, "not in time"
        threading.Event().wait(0.01)


def script(text: str) -> ChildSpec:
    return ChildSpec("child", [sys.executable, "-c", text])


def alive(pid: int) -> bool:
    """Running, that is: not gone and not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_restart_with_growing_backoff() -> None:
    """A child that dies comes back after 500 ms, then 1 s, then 2 s, not earlier."""
    clock = HandClock()
    child = Child(script("raise SystemExit(3)"), clock)
    child.start()
    for wait_ms in (500, 1000, 2000):
        until(lambda: not child.turn() and child.pid is None)
        clock.now_us += wait_ms * 1000 - 1
        assert not child.turn()
        clock.now_us += 1
        assert child.turn()
    until(lambda: not child.turn() and child.pid is None)
    assert (child.starts, child.last_exit) == (4, 3)


def test_steady_child_starts_over_with_short_backoff() -> None:
    """After a minute of life the backoff begins at its shortest again."""
    clock = HandClock()
    child = Child(script("raise SystemExit(0)"), clock)
    child.start()
    clock.now_us += 60_000_000
    until(lambda: not child.turn() and child.pid is None)
    clock.now_us += 500_000
    assert child.turn()
    child.stop()


def test_stop_asks_then_kills(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace; only it."""
    text = (
        "import signal,time;signal.signal(15,signal.SIG_IGN);print('up',flush=True);time.sleep(60)"
    )
    path = tmp_path / "child.log"
    spec = ChildSpec("child", [sys.executable, "-c", text], log_path=path)
    child = Child(spec, SystemClock())
    child.start()
    pid = child.pid
    assert pid is not None
    until(lambda: "up" in path.read_text())
    assert child.stop(grace_ms=50) == -signal.SIGKILL
    assert not alive(pid)
    assert not child.turn(), "a stopped child stays stopped"


def test_missing_program() -> None:
    """A program that cannot be executed is CHILD_DOWN."""
    with pytest.raises(ChildDownError):
        Child(ChildSpec("x", ["/nonexistent/program"]), SystemClock()).start()


def test_signal_reaches_the_child(tmp_path: Path) -> None:
    """SIGHUP goes to the child by its pid; its output goes to the log."""
    text = "import signal,time;signal.signal(1,lambda *a:print('again',flush=True));print('up',flush=True);[time.sleep(.05) for _ in range(1000)]"
    path = tmp_path / "child.log"
    spec = ChildSpec("child", [sys.executable, "-c", text], log_path=path)
    child = Child(spec, SystemClock())
    child.start()
    until(lambda: "up" in path.read_text())
    child.signal(signal.SIGHUP)
    until(lambda: "again" in path.read_text())
    child.stop()


def test_watch_ends_its_children() -> None:
    """watch keeps children running and stops them when told to."""
    stopping = threading.Event()
    child = Child(script("import time;time.sleep(60)"), SystemClock())
    child.start()
    pid = child.pid
    assert pid is not None
    thread = threading.Thread(target=watch, args=([child], stopping, 10))
    thread.start()
    stopping.set()
    thread.join(10)
    assert not alive(pid)


def test_killed_parent_leaves_no_orphan() -> None:
    """SIGKILL of the supervising process takes its child with it."""
    text = (
        "from firmware.base.supervisor import Child,ChildSpec\n"
        "from firmware.base.clock import SystemClock\n"
        "import sys,time\n"
        "c=Child(ChildSpec('c',[sys.executable,'-c','import time;time.sleep(60)']),SystemClock())\n"
        "c.start();print(c.pid,flush=True);time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, cwd=root, env={**os.environ}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
    until(lambda: not alive(pid))
