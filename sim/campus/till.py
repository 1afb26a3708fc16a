"""One till of a campus: its reader on a wire, its process, its daemon, and the person before it."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from sim.campus.processes import Process, Shown, onecard
from sim.field import FieldCard
from sim.pn532 import Pn532Sim

TAP_S = 8.0
READY_S = 25.0
SAME_CARD_S = 0.4  # the reader's presence check runs every 0.25 s

CONFIG = """\
role = "canteen"
terminal_id = "{name}"
data = "{folder}"

[log]
level = "info"

[reader]
{reader}

[sam]
driver = "soft_sam"
development = true
tid = "{tid}"
keys = "{keys}"
counter = "{folder}/sam.termseq"

[console]
format = "json"

[canteen]
mode = "{mode}"
fixed_fen = {fixed_fen}
cooldown_s = {cooldown_s}

[journal]
roll_records = {roll_records}
keep_days = 0
"""


class Wire(Protocol):
    """A reader's place for cards."""

    def insert(self, card: FieldCard) -> None:
        """Lay the card on."""

    def remove(self) -> None:
        """Take it away."""


class End(Enum):
    """How a tap looked to the person."""

    PAID = "paid"
    REFUSED = "refused"
    DOUBT = "doubt"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Tapped:
    """What the screen said at the end of a tap."""

    end: End
    shown: Shown | None


@dataclass(frozen=True, slots=True)
class TillPlan:
    """How a till is set up. `driver` is pn532, nfcpy or pcsc."""

    name: str
    tid: str
    mode: str = "fixed"
    fixed_fen: int = 300
    driver: str = "pn532"
    cooldown_s: int = 0
    roll_records: int = 50_000
    reader_name: str = ""
    script: Path | None = None  # started in place of `-m sync`: a changed product, for tests


class TillRig:
    """One terminal process with its daemon; the reader's wire outlives both."""

    def __init__(
        self,
        plan: TillPlan,
        folder: Path,
        keys: Path,
        wire: Wire | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.chip: Pn532Sim | None = None
        if wire is None:
            self.chip = Pn532Sim()
            self.chip.__enter__()
            wire = self.chip
        self.wire: Wire = wire
        self.config = folder / "terminal.toml"
        self._last_card: FieldCard | None = None
        self._lifted_s = 0.0
        self.in_doubt = False  # what the last tap showed
        self.config.write_text(
            CONFIG.format(
                name=plan.name,
                folder=folder,
                reader=self._reader(),
                tid=plan.tid,
                keys=keys,
                mode=plan.mode,
                fixed_fen=plan.fixed_fen,
                cooldown_s=plan.cooldown_s,
                roll_records=plan.roll_records,
            )
        )
        self.terminal = self._process("terminal", ("terminal", "canteen", "--demo"), env)
        self.daemon = self._process("sync", ("sync", "--spread-s", "0"), None)

    def _process(self, name: str, words: tuple[str, ...], env: dict[str, str] | None) -> Process:
        command = onecard(*words, "--config", str(self.config), script=self.plan.script)
        return Process(f"{self.plan.name}-{name}", command, self.folder, env)

    def _reader(self) -> str:
        if self.plan.driver == "pcsc":
            return f'driver = "pcsc"\nreader = "{self.plan.reader_name}"'
        assert self.chip is not None, self.plan
        baud = '\nbaud = "921600"' if self.plan.driver == "pn532" else ""
        return f'driver = "{self.plan.driver}"\nport = "{self.chip.port}"{baud}'

    @property
    def journal(self) -> Path:
        """The journal's folder."""
        return self.folder / "journal"

    def wait_for(self, text: str, limit_s: float = READY_S) -> Shown:
        """The first screen from now that contains the text. Raises TimeoutError with the log."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            try:
                shown = self.terminal.screens.get(timeout=0.1)
            except queue.Empty:
                if not self.terminal.alive:
                    break
                continue
            if any(text in line for line in (*shown.operator, *shown.customer)):
                return shown
        raise TimeoutError(f"{self.plan.name}: no {text!r} on screen\n{self.terminal.tail()}")

    def clear(self) -> None:
        """Forget the screens shown so far."""
        while not self.terminal.screens.empty():
            self.terminal.screens.get_nowait()

    def tap(self, card: FieldCard, limit_s: float = TAP_S, *, keep: bool = False) -> Tapped:
        """Lay a card on, wait for the beep that ends it, take it away."""
        self.clear()
        self.lay(card)
        try:
            return self.outcome(limit_s)
        finally:
            if not keep:
                self.lift()

    def lay(self, card: FieldCard) -> None:
        """Lay a card on; nobody puts the same card back faster than a reader looks."""
        if card is self._last_card:
            rest_s = SAME_CARD_S - (time.monotonic() - self._lifted_s)
            time.sleep(max(rest_s, 0))
        self._last_card = card
        self.wire.insert(card)

    def lift(self) -> None:
        """Take the card away."""
        self.wire.remove()
        self._lifted_s = time.monotonic()

    def outcome(self, limit_s: float = TAP_S) -> Tapped:
        """The next screen with a beep, by what it says."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            try:
                shown = self.terminal.screens.get(timeout=0.05)
            except queue.Empty:
                if not self.terminal.alive:
                    break
                continue
            if shown.beep == "paid":
                return Tapped(End.PAID, shown)
            if shown.beep == "refused":
                return Tapped(End.REFUSED, shown)
            if shown.beep == "attention":
                return Tapped(End.DOUBT, shown)
        return Tapped(End.SILENT, self.terminal.latest)

    def stop(self) -> None:
        """End both processes and the wire."""
        self.terminal.stop()
        self.daemon.stop()
        chip, self.chip = self.chip, None
        if chip is not None:
            chip.stop()
