"""Child programs kept running: start, watch, restart with backoff, stop by their own pid.

A child is started from a list (no shell) in its own session, and dies with the thread that
started it (Linux parent-death signal), so that a supervisor killed with -9 leaves no orphan
holding a port. Start children from the process's main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware.base.clock import Clock
from firmware.base.errors import ChildDownError

PR_SET_PDEATHSIG = 1
STEADY_US = 60_000_000  # a child that ran this long begins again with the shortest backoff


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run; output goes to `log_path` (appended) or to our standard error."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    log_path: Path | None = None


class Child:
    """One child program and its restart clock."""

    def __init__(
        self,
        spec: ChildSpec,
        clock: Clock,
        *,
        backoff_low_ms: int = 500,
        backoff_high_ms: int = 30_000,
    ) -> None:
        self.spec = spec
        self.starts = 0
        self.last_exit: int | None = None
        self._clock = clock
        self._low_ms, self._high_ms = backoff_low_ms, backoff_high_ms
        self._backoff_ms = backoff_low_ms
        self._due_us: int | None = None
        self._started_us = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the child runs."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start now. Raises CHILD_DOWN if the program cannot be executed."""
        assert self._child is None, ("already started", self.spec.name)
        log = None if self.spec.log_path is None else self.spec.log_path.open("ab")
        try:
            self._child = subprocess.Popen(
                list(self.spec.argv),
                env=None if self.spec.env is None else dict(self.spec.env),
                cwd=self.spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log or 2,
                stderr=log or 2,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except OSError as fault:
            raise ChildDownError(name=self.spec.name, reason=fault.strerror) from fault
        finally:
            if log is not None:
                log.close()
        self.starts += 1
        self._started_us = self._clock.mono_us()
        self._due_us = None

    def turn(self) -> bool:
        """Restart the child if it died and its backoff is over; True if it was (re)started."""
        now_us = self._clock.mono_us()
        if self._child is not None:
            self.last_exit = self._child.poll()
            if self.last_exit is None:
                return False
            self._child = None
            if now_us - self._started_us >= STEADY_US:
                self._backoff_ms = self._low_ms
            self._due_us = now_us + self._backoff_ms * 1000
            self._backoff_ms = min(self._backoff_ms * 2, self._high_ms)
        if self._due_us is None or now_us < self._due_us:
            return False
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to a running child (SIGHUP: read your configuration again)."""
        if self._child is not None:
            self._child.send_signal(number)

    def stop(self, grace_ms: int = 5000) -> int | None:
        """Ask to end, wait, kill; only our own child by its pid. Returns its exit status."""
        child, self._child, self._due_us = self._child, None, None
        if child is None:
            return self.last_exit
        child.terminate()
        try:
            self.last_exit = child.wait(grace_ms / 1000)
        except subprocess.TimeoutExpired:
            child.kill()
            self.last_exit = child.wait()
        return self.last_exit


def watch(children: Sequence[Child], stopping: threading.Event, period_ms: int = 200) -> None:
    """Keep the children running until `stopping` is set, then stop them in reverse order."""
    try:
        while not stopping.wait(period_ms / 1000):
            for child in children:
                child.turn()
    finally:
        for child in reversed(children):
            child.stop()


def _die_with_parent() -> Callable[[], None]:
    """A function for the forked child: SIGKILL me when my parent dies (also if it just did)."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)

    return ask
