"""Water behind a normally shut valve: flow, feedback, faults of pipe and valve; exact integers.

No clock of its own: `advance(now_ms)` integrates up to that moment. Shared by the simulated boards.
"""

from __future__ import annotations

from typing import Literal

ML_MS_PER_ML = 60_000  # flow is ml a minute, time is ms
Stuck = Literal["open", "shut"] | None


class WaterPipe:
    """Valve and meter wheel. Knobs are attributes: water, flow, leak, stuck, travel, sensor."""

    def __init__(
        self,
        *,
        flow_ml_min: int = 8_000,
        pulses_per_litre: int = 450,
        travel_ms: int = 60,
        now_ms: int = 0,
    ) -> None:
        self.flow_ml_min = flow_ml_min
        self.pulses_per_litre = pulses_per_litre
        self.travel_ms = travel_ms
        self.water = True
        self.leak_ml_min = 0
        self.stuck: Stuck = None
        self.sensor = True  # unplugged: water runs, no pulses
        self.position: Literal["open", "shut"] = "shut"
        self.shut_at_ms = now_ms  # when the valve was last seen to become shut
        self.opened_count = 0
        self._now_ms = now_ms
        self._wanted: Literal["open", "shut"] = "shut"
        self._arrives_ms = now_ms
        self._run_ml_ms = 0  # all water
        self._seen_ml_ms = 0  # what the sensor saw

    @property
    def water_ml(self) -> int:
        """All water that ran, measured or not."""
        return self._run_ml_ms // ML_MS_PER_ML

    @property
    def pulses(self) -> int:
        """What the wheel counted."""
        return self._seen_ml_ms * self.pulses_per_litre // (ML_MS_PER_ML * 1000)

    @property
    def moving(self) -> bool:
        """Between the two ends."""
        return self._target() != self.position

    @property
    def rate_ml_min(self) -> int:
        """Flow at this moment."""
        if not self.water:
            return 0
        return self.flow_ml_min if self.position == "open" else self.leak_ml_min

    def drive(self, wanted: Literal["open", "shut"], now_ms: int) -> None:
        """The relay's word; the valve arrives `travel_ms` later."""
        self.advance(now_ms)
        if wanted != self._wanted:
            self._wanted = wanted
            self._arrives_ms = now_ms + self.travel_ms

    def next_due(self) -> int | None:
        """When the valve arrives."""
        return self._arrives_ms if self.moving else None

    def advance(self, now_ms: int) -> None:
        """Let the water run until `now_ms`."""
        assert now_ms >= self._now_ms, (now_ms, self._now_ms)
        if self.moving and self._arrives_ms <= now_ms:
            self._flow_until(max(self._arrives_ms, self._now_ms))
            self.position = self._target()
            if self.position == "shut":
                self.shut_at_ms = self._now_ms
            else:
                self.opened_count += 1
        self._flow_until(now_ms)

    def _target(self) -> Literal["open", "shut"]:
        return self._wanted if self.stuck is None else self.stuck

    def _flow_until(self, now_ms: int) -> None:
        ran = self.rate_ml_min * (now_ms - self._now_ms)
        self._run_ml_ms += ran
        self._seen_ml_ms += ran if self.sensor else 0
        self._now_ms = now_ms
