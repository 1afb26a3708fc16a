"""What a world is built from: the product's own parts, each of which a planted bug may replace."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware.base.sqlite import connect
from protocols.wire.cose import KeyRing
from sync.core import SyncCore
from sync.device.journal_view import JournalReader
from terminal.canteen.rules import PRODUCTION, TapRules

Commit = Callable[[sqlite3.Connection, str, Sequence[Any]], sqlite3.Cursor]
Patch = tuple[object, str, object]  # module or class, attribute, what stands there instead


class StationReader(JournalReader):
    """Lists the folder at every look: its time stamp is the machine's, not the world's."""

    def refresh(self) -> bool:
        """Look again; True when the tip moved. Raises JOURNAL_FAIL."""
        self._folder_mtime_ns = 0
        return super().refresh()


def plain_commit(connection: sqlite3.Connection, sql: str, row: Sequence[Any]) -> sqlite3.Cursor:
    """Durable when it returns."""
    return connection.execute(sql, row)


@dataclass(frozen=True, slots=True)
class Parts:
    """Defaults are the product."""

    rules: TapRules = PRODUCTION
    core_type: type[SyncCore] = SyncCore
    open_file: Callable[[Path], sqlite3.Connection] = connect
    new_commit: Callable[[], Commit] = lambda: plain_commit
    trust: Callable[[KeyRing], KeyRing] = lambda ring: ring
    lists_between: bool = False  # lists are taken into use inside a tap, not by the loop
    puback_counts: bool = False  # the till takes the broker's PUBACK for an acknowledgement
    ack_first: bool = False  # the centre's answers leave before its transaction is durable
    patches: tuple[Patch, ...] = field(default=())


PRODUCT = Parts()
