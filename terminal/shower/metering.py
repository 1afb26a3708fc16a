"""What water costs: pure integer arithmetic on session totals (terminals.md §5.1, T6-T8).

A tariff in fen/m³ equals mfen/l. Every division floors, and always divides a total of the session,
so that no rounding adds up and each one favours the holder (T7).
"""

from __future__ import annotations

from dataclasses import dataclass

MFEN = 1000
MS_PER_MIN = 60_000


@dataclass(frozen=True, slots=True)
class Tariff:
    """Frozen at the start of a session: by volume in fen/m³, or by time in mfen/s (not both)."""

    version: int
    fen_per_m3: int = 0
    mfen_per_s: int = 0
    pulses_per_litre: int = 450

    def __post_init__(self) -> None:
        assert self.pulses_per_litre > 0, self
        assert min(self.fen_per_m3, self.mfen_per_s) == 0 < self.fen_per_m3 + self.mfen_per_s, self

    def used_mfen(self, pulses: int, open_ms: int) -> int:
        """mfen used by the session's total pulses, or its total time confirmed open in RUN."""
        assert pulses >= 0 <= open_ms, (pulses, open_ms)
        if self.fen_per_m3:
            return pulses * self.fen_per_m3 // self.pulses_per_litre
        return open_ms * self.mfen_per_s // MFEN

    def use_in_mfen(self, span_ms: int, pulses: int, over_ms: int) -> int:
        """mfen expected in `span_ms` if water runs on as `pulses` did in `over_ms`."""
        if not self.fen_per_m3:
            return span_ms * self.mfen_per_s // MFEN
        if over_ms <= 0:
            return 0
        return pulses * span_ms * self.fen_per_m3 // (over_ms * self.pulses_per_litre)


def consumed_fen(used_mfen: int) -> int:
    """Whole fen used; the begun fen is the holder's."""
    return used_mfen // MFEN


def residual_fen(paid_fen: int, used_mfen: int) -> int:
    """What was paid and not used; never below 0: water beyond what was paid is the school's."""
    return paid_fen - min(paid_fen, consumed_fen(used_mfen))


def debit_due(paid_fen: int, used_mfen: int, quantum_fen: int, soon_mfen: int) -> bool:
    """Whether the next quantum is asked: less is left than a third of one, or than runs soon."""
    left = paid_fen * MFEN - used_mfen
    return 3 * left < quantum_fen * MFEN or left < soon_mfen


def flow_impossible(pulses: int, over_ms: int, pulses_per_litre: int, max_flow_l_min: int) -> bool:
    """Whether so many pulses in so short a time are more than any tap gives (T8)."""
    return pulses * MS_PER_MIN > max_flow_l_min * pulses_per_litre * over_ms
