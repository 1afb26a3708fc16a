"""`./run sim`: one seed, one campus, one verdict.

Exit codes: 0 every invariant held, 1 one did not (named with keys and amounts), 2 bad usage.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sim.world import faults, plants
from sim.world.world import Plan, Result, World

MEMORY = Path("/dev/shm")  # noqa: S108 - only where it exists; a fresh folder of our own in it
CLASSES_HELP = "all, none, or classes with commas between: " + " ".join(faults.CLASSES)


def main(argv: Sequence[str]) -> int:
    """Run one campus as the command line says."""
    asked = _parser().parse_args(list(argv))
    if asked.plant == "list":
        for plant in plants.PLANTS:
            sys.stdout.write(f"{plant.name}\t{plant.meaning}\n")
        return 0
    plan = Plan(
        seed=asked.seed,
        days=asked.days,
        terminals=asked.terminals,
        taps=asked.taps,
        cards=asked.cards,
        faults=asked.faults,
        plant=asked.plant,
    )
    result = play(plan)
    if asked.json:
        sys.stdout.write(json.dumps(result.as_json(), ensure_ascii=False) + "\n")
    else:
        for line in lines(result):
            sys.stdout.write(line + "\n")
    return 1 if result.violations else 0


def play(plan: Plan) -> Result:
    """One campus in a folder of its own, in memory where there is one, removed afterwards."""
    logging.getLogger("onecard").setLevel(logging.CRITICAL)
    place = str(MEMORY) if MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="onecard-sim-", dir=place))
    parts, needs = plants.build(plan.plant)
    try:
        with plants.planted(parts):
            world = World(plan, folder, parts, needs)
            try:
                return world.run()
            finally:
                world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lines(result: Result) -> list[str]:
    """The result for a person."""
    plan, told = result.plan, result.as_json()
    size = f"{plan.days} day(s), {plan.terminals} terminals, {told['taps']} taps"
    shown = [f"seed {plan.seed}: {size}, {told['paid']} paid, {told['declined']} declined"]
    shown.append(f"in doubt {result.in_doubt}, resolved {result.resolved}")
    injected = ", ".join(f"{name} {count}" for name, count in result.faults.items())
    shown.append(f"faults: {injected or 'none'}")
    for one in result.violations:
        shown.append(f"VIOLATION {one.invariant} at {one.at_us // 1_000_000} s: {one.text}")
    verdict = (
        f"{len(result.violations)} violation(s)" if result.violations else "all invariants held"
    )
    return [*shown, f"digest {result.digest}", verdict]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onecard sim",
        description="A campus in virtual time, made from one seed: real tills, journals, sync and"
        " books over simulated cards, clocks, disks and a broker that misbehaves. The same seed"
        " gives the same digest.",
    )
    parser.add_argument("--seed", type=_whole(0, 2**63), default=1, help="default 1")
    parser.add_argument("--days", type=_whole(1, 365), default=1, help="default 1")
    parser.add_argument("--terminals", type=_whole(1, 200), default=4, help="default 4")
    parser.add_argument("--taps", type=_whole(0, 2_000), default=300, help="a terminal and day")
    parser.add_argument("--cards", type=_whole(0, 20_000), default=0, help="0: 25 a terminal")
    help_text = f"{CLASSES_HELP}; by default each seed switches half of them off"
    parser.add_argument("--faults", type=_classes, default="swarm", help=help_text)
    parser.add_argument("--plant", type=_plant, help="plant a bug by name; list names them")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{low}..{high}")
        return value

    return number


def _classes(text: str) -> str:
    unknown = [name for name in text.split(",") if name not in (*faults.CLASSES, *faults.WORDS)]
    if unknown or (text.split(",")[0] in faults.WORDS and "," in text):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or text}: {CLASSES_HELP}")
    return text


def _plant(text: str) -> str:
    if text not in ("list", *plants.NAMES):
        raise argparse.ArgumentTypeError(f"{text}: one of {' '.join(plants.NAMES)}, or list")
    return text
