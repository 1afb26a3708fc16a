"""kill -9 in the middle of a burst: afterwards every acknowledged tap is in the books once.

A slice of a hundred taps for each kind of process; `./run assure kill` does a thousand.
"""

from typing import TYPE_CHECKING

import pytest

from firmware.base.rng import SystemRng
from sim.campus.burst import KINDS, Burst, Killer

if TYPE_CHECKING:
    from conftest import Line

pytestmark = pytest.mark.slow
TILLS = ("T0001", "T0002", "T0004", "T0005")
TAPS = 100
KILLS = {"terminal": 3, "daemon": 1, "broker": 1, "centre": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_the_middle_of_a_burst(line: "Line", kind: str) -> None:
    """Nothing that a screen called paid is lost or booked twice; nothing else is booked."""
    starts = line.campus.tills["T0001"].terminal.starts
    paid = len(line.witness.announced)
    burst = Burst(line.campus, TILLS, line.cards(16, 40), line.witness)
    burst.run(TAPS, Killer(line.campus, kind, "T0001", KILLS[kind], SystemRng()).within(TAPS))
    assert len(line.witness.announced) - paid >= TAPS
    killed = KILLS[kind] if kind == "terminal" else 0
    assert line.campus.tills["T0001"].terminal.starts - starts == killed
    truth = line.verdict()
    assert truth.clean, truth.why()
