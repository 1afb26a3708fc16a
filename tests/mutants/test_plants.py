"""Every planted bug is caught on a small campus, and its violation is the one it must cause.

The product without a plant passes the same worlds (tests/sim/world); a plant that survives here
means that a checker of the simulator is blind (faults.md §1 rule 1).
"""

from __future__ import annotations

import pytest

from sim.world import plants
from sim.world.command import play
from sim.world.world import Plan

# name: invariant, (terminals, taps a day), seed
EXPECTED = {
    "prune-on-puback": ("I2", (6, 60), 1),
    "sync-normal": ("I3", (4, 60), 1),
    "no-lane-check": ("I", (3, 30), 1),
    "prove-9000": ("I4", (6, 150), 1),
    "serve-before-capture": ("I2", (2, 10), 1),
    "prev-not-carried": ("I4", (2, 60), 1),
    "record-believed": ("I4", (3, 20), 1),
    "policy-between": ("I5", (4, 60), 1),
    "ack-before-commit": ("I3", (4, 60), 1),
    "intent-after-debit": ("I4", (2, 10), 1),
    "ack-before-centre-commit": ("I2", (4, 60), 1),
    "gap-skipped": ("I2", (3, 30), 1),
    "wrong-tac-pays": ("I4", (3, 20), 1),
    "unsigned-ack": ("I2", (3, 30), 1),
}


@pytest.mark.parametrize("name", plants.NAMES)
def test_plant_is_caught(name: str) -> None:
    """The run stops at the first violation and names the invariant with a place."""
    invariant, (terminals, taps), seed = EXPECTED[name]
    wanted = ",".join(plants.build(name)[1]) or "none"
    result = play(Plan(seed, 1, terminals, taps, 0, wanted, name))
    assert result.violations, name
    assert result.violations[0].invariant.startswith(invariant)
    assert result.violations[0].text


def test_patches_are_taken_back() -> None:
    """A planted run leaves the product as it was."""
    parts, _ = plants.build("no-lane-check")
    before = [getattr(owner, attribute) for owner, attribute, _ in parts.patches]
    with plants.planted(parts):
        pass
    assert before == [getattr(owner, attribute) for owner, attribute, _ in parts.patches]
