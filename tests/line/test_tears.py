"""A card torn away at every APDU boundary, at every reader: card and books are equal after healing."""

from typing import TYPE_CHECKING

import pytest

from sim.campus.tears import Share, Stage, short

if TYPE_CHECKING:
    from conftest import Line

pytestmark = pytest.mark.slow


def test_a_tear_at_every_boundary_of_every_reader(line: "Line") -> None:
    """Before delivery, before and after the commit, inside the answer; then whatever people do."""
    plan = short()
    half = len(plan) // 2  # pcscd looks at its slots every 0.4 s: two slots share the plan
    parts = {"T0001": plan, "T0002": plan, "T0003": plan[:half], "T0006": plan[half:]}
    shares = [
        Share(name, line.cards(4 * n, 3), line.cards(4 * n + 3, 1)[0], part)
        for n, (name, part) in enumerate(parts.items())
    ]
    stage = Stage(line.campus, "T0004", line.witness)
    stage.play(shares)
    assert stage.torn == 3 * len(plan)
    truth = line.verdict()
    assert truth.in_doubt >= 9, truth.as_json()
    assert truth.clean, truth.why()
