"""The configuration of a canteen terminal: every option declared in one place, ranges included.

Nothing is built before the whole file was read and found clean; every fault is named in one run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware.base.config import Section
from firmware.base.log import TRAFFIC
from firmware.ports import CardReader, SamPort
from firmware.registry import CONSOLES, READERS, SAMS
from protocols.card.card_profile import CardProfile
from terminal.canteen.moves import Mode
from terminal.canteen.till import TillConfig
from terminal.policy.offline import Ceilings

ROLES = ("canteen",)
LEVELS = {
    "traffic": TRAFFIC,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything the configuration says, drivers made but not opened."""

    terminal_id: str
    folder: Path
    till: TillConfig
    profile_path: Path | None
    reader: CardReader
    sam: SamPort
    console: Any
    log_level: int
    log_json: bool
    poll_ms: int
    centre_url: str
    centre_fingerprint: str

    def profile(self) -> CardProfile:
        """The card profile; the built-in one without a file. PROFILE_*, CONFIG for no file."""
        if self.profile_path is None:
            return CardProfile()
        return CardProfile.parse(self.profile_path.read_text("utf-8"))


def declare(root: Section) -> Setup:
    """Read every option. The caller closes the section and only then uses the result."""
    root.choice("role", "canteen", ROLES, "what this terminal is")
    terminal_id = root.text("terminal_id", "", "must equal the enrolled name; empty: any")
    folder = root.path("data", "data", "folder of identity, journal and sync.db")
    centre = root.section("centre")
    log = root.section("log")
    card = root.section("card")
    profile = card.text("profile", "", "card profile (TOML); empty: the built-in one")
    record_only = card.integer(
        "record_only_fen_max", 3_000, 0, 20_000, "served once on a card record alone, fen"
    )
    return Setup(
        terminal_id=terminal_id,
        folder=folder,
        till=_till(root, record_only),
        profile_path=Path(root.file).parent / profile if profile else None,
        reader=_driver(root.section("reader"), READERS, "pn532"),
        sam=_driver(root.section("sam"), SAMS, "psam_slot"),
        console=_driver(root.section("console"), CONSOLES, "console"),
        log_level=LEVELS[log.choice("level", "info", LEVELS, "least level that is logged")],
        log_json=log.choice("format", "text", ("text", "json"), "form of a log line") == "json",
        poll_ms=root.integer("poll_ms", 100, 20, 1_000, "how often sync.db is looked at, ms"),
        centre_url=centre.text("url", "", "where to enrol, https://host:port"),
        centre_fingerprint=centre.text("ca_sha256", "", "fingerprint of the centre's CA, hex"),
    )


def _till(root: Section, record_only_fen: int) -> TillConfig:
    canteen = root.section("canteen")
    mode = canteen.choice("mode", "amount", [m.value for m in Mode], "how an amount comes about")
    most = canteen.integer("max_sale_fen", 20_000, 1, 100_000, "largest amount to be keyed, fen")
    price = canteen.integer("fixed_fen", 0, 0, 100_000, "the price in fixed mode, fen")
    if mode == Mode.FIXED.value and not 1 <= price <= most:
        canteen.refuse("fixed_fen", f"1..{most} in fixed mode", price)
    outbox = root.section("outbox")
    journal = root.section("journal")
    ceilings = Ceilings(
        offline_max_h=canteen.integer("offline_max_h", 72, 1, 336, "sells so long unheard, hours"),
        unsynced_max=canteen.integer(
            "unsynced_max", 5_000, 100, 50_000, "sales the centre may not know yet"
        ),
        outbox_records=outbox.integer(
            "records", 60_000, 1_000, 10_000_000, "records kept until acknowledged"
        ),
        warn_pct=outbox.integer("warn_pct", 70, 10, 99, "outbox level of the warning, percent"),
        alarm_pct=outbox.integer("alarm_pct", 90, 10, 99, "outbox level of the alarm, percent"),
    )
    return TillConfig(
        mode=Mode(mode),
        fixed_fen=price,
        max_sale_fen=most,
        cooldown_s=canteen.integer("cooldown_s", 5, 0, 60, "a card that paid waits so long, s"),
        record_only_fen_max=record_only_fen,
        ceilings=ceilings,
        roll_records=journal.integer("roll_records", 50_000, 100, 1_000_000, "volume size"),
        keep_days=journal.integer("keep_days", 30, 0, 365, "acknowledged volumes stay, days"),
    )


def _driver(section: Section, table: Mapping[str, Callable[[Section], Any]], default: str) -> Any:
    name = section.choice("driver", default, table, "which driver")
    return table[name](section)
