"""Up to when every terminal has told everything: the precondition of conclusions from absence.

A record without a MAC, or a counter that nobody claims, proves nothing while some terminal may
still hold the record that says otherwise (card.md §6.3).
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from sync.central.ingest_core import LaneState
from sync.central.schema import lane

SKEW_US = 5_000_000  # how far terminal clocks may differ after correction
_QUIET = select(func.min(lane.c.mark_us + lane.c.clock_offset_us)).where(
    lane.c.state != int(LaneState.CLOSED)
)


def quiet_until_us(connection: Connection) -> int:
    """Every record of an event before this instant (centre's time, µs) has arrived."""
    found = connection.execute(_QUIET).scalar()
    return 0 if found is None else int(found) - SKEW_US
