"""Bugs that can be planted, each a one-line change of the product at run time (faults.md §7)."""

from __future__ import annotations

from sim.world.parts import PRODUCT, Parts


def build(name: str | None) -> tuple[Parts, tuple[str, ...]]:
    """The parts of a world with this bug, and the fault classes it needs to show."""
    assert name is None, name
    return PRODUCT, ()
