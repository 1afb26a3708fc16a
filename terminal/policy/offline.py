"""When the whole till stops selling until it is cured: silence, exposure, a full outbox.

Hours without the centre are counted on the monotonic clock from what was known at boot, so that a
wall clock that jumps does not refuse money (faults.md §4).
"""

from __future__ import annotations

from dataclasses import dataclass

from terminal.ledger.replay import State
from terminal.policy.limits import HOUR_MS, Policy


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The terminal's own configuration beside the campus policy."""

    offline_max_h: int = 72
    unsynced_max: int = 5_000
    outbox_records: int = 60_000
    warn_pct: int = 70
    alarm_pct: int = 90


class Silence:
    """How long the centre has not been heard, in ms that a jumping wall clock cannot shift.

    `known_us` is a centre time that is surely past: the grant's. What lay in sync.db at boot is
    aged by the wall clock once; everything later counts from the moment it arrived.
    """

    def __init__(self, known_us: int, wall_us: int, mono_ms: int) -> None:
        self._contact_us = known_us
        self._base_ms = max(wall_us - known_us, 0) // 1_000
        self._from_ms = mono_ms

    def heard(self, contact_us: int, wall_us: int | None, mono_ms: int) -> None:
        """A verified message with a later centre time than any before; wall_us only at boot."""
        if contact_us <= self._contact_us:
            return
        self._contact_us = contact_us
        self._base_ms = 0 if wall_us is None else max(wall_us - contact_us, 0) // 1_000
        self._from_ms = mono_ms

    def quiet_ms(self, mono_ms: int) -> int:
        """Time since the centre was last heard."""
        return self._base_ms + mono_ms - self._from_ms


def outbox_pct(tip_seq: int, acked_seq: int, ceilings: Ceilings) -> int:
    """How full the outbox is: unacknowledged records against its capacity, in percent."""
    return (tip_seq - acked_seq) * 100 // ceilings.outbox_records


def stop_code(
    policy: Policy, state: State, ceilings: Ceilings, quiet_ms: int, pct: int
) -> str | None:
    """The code that closes the till until it is cured, or None."""
    if pct >= 100:
        return "SYNC_OUTBOX_FULL"
    if quiet_ms > min(ceilings.offline_max_h, policy.offline_h) * HOUR_MS:
        return "LIMIT_OFFLINE"
    if len(state.unsynced) >= ceilings.unsynced_max:
        return "LIMIT_OFFLINE"
    if state.unsynced_fen >= policy.offline_fen:
        return "LIMIT_OFFLINE"
    return None
