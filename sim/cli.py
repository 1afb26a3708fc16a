"""Entry points of `onecard demo` and `onecard sim`; each imports its package when it is called."""

from __future__ import annotations


def demo(argv: list[str]) -> int:
    """`./run demo`."""
    from sim.demo.command import main

    return main(argv)


def sim(argv: list[str]) -> int:
    """`./run sim`."""
    from sim.world.command import main

    return main(argv)
