"""Child processes of a campus: start by command line, follow their output, end by pid."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_S = 8.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One screen of a till, as its console printed it."""

    operator: tuple[str, ...]
    customer: tuple[str, ...]
    beep: str | None
    at_s: float


def onecard(*words: str, script: Path | None = None) -> list[str]:
    """The command line of an `onecard` command in this environment, or of a script like it."""
    start = ("-m", "sync") if script is None else (str(script),)
    return [sys.executable, *start, *words]


class Process:
    """One child: keys in, screens out, log in a file."""

    def __init__(
        self, name: str, command: list[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self._command = command
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self.screens: queue.Queue[Shown] = queue.Queue()
        self.latest: Shown | None = None
        self.starts = 0

    @property
    def pid(self) -> int:
        """The child's pid."""
        assert self._child is not None, self.name
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def log(self) -> Path:
        """Where its standard error goes."""
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it."""
        assert not self.alive, self.name
        self.starts += 1
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._env,
                cwd=self.folder,
            )
        threading.Thread(target=self._follow, args=(self._child,), daemon=True).start()

    def keys(self, words: str) -> None:
        """Press keys, named and separated by blanks."""
        assert self._child is not None, self.name
        assert self._child.stdin is not None, self.name
        self._child.stdin.write(words.encode() + b"\n")
        self._child.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, as a power cut would; its files stay."""
        assert self._child is not None, self.name
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(STOP_S)
        self._close()

    def stop(self) -> int | None:
        """SIGTERM, then SIGKILL; the exit code."""
        if self._child is None:
            return None
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(STOP_S)
        self._close()
        return self._child.returncode

    def tail(self, count: int = 12) -> str:
        """The last lines of its log, for an error message."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])

    def _close(self) -> None:
        assert self._child is not None
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # keys that nobody will read any more
                    continue

    def _follow(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                self._line(line)
        except ValueError:  # closed by `stop`
            return

    def _line(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            shown = Shown(
                tuple(found["operator"]), tuple(found["customer"]), found["beep"], time.monotonic()
            )
        except (ValueError, KeyError, TypeError):
            return
        self.latest = shown
        self.screens.put(shown)
