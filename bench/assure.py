"""`./run assure [WHAT]`: the long checks over real processes; the tests run a slice of each.

`kill`: for each of terminal, daemon, broker (its store deleted too) and centre a fresh campus, a
burst of taps over two tills in fixed-price mode, SIGKILL in its middle, and then every tap that a
screen called paid must be in the books exactly once. `tear`: at every reader a card torn at every
boundary of a tap, everything its owner may do next, and torn again while the till finds out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from firmware.base.rng import SystemRng
from sim.campus.burst import KINDS, Burst, Killer, heal
from sim.campus.campus import Campus, CampusPlan
from sim.campus.ledger_truth import Truth, Witness, judge
from sim.campus.tears import Scenario, Share, Stage, whole
from sim.campus.till import TillPlan, Wire
from sim.pcsc import PcscStage

Result = dict[str, object]
KILLS = {"terminal": 20, "daemon": 5, "broker": 3, "centre": 5}
OPENING_FEN = 100_000
NEIGHBOUR = "T0003"
PCSC_READERS = 2  # two slots each: pcscd looks at them only every 0.4 s


def main(argv: list[str]) -> int:
    """Run what was asked; 0 when nothing was violated, 1 otherwise, 2 for bad usage."""
    asked = _parser().parse_args(argv)
    parts = _parts(asked)
    until = time.monotonic() + asked.minutes * 60
    results: list[Result] = []
    left_out = []
    for name, act in parts:
        if time.monotonic() > until:
            left_out.append(name)
            continue
        results.append(result := {"check": name, **act()})
        sys.stderr.write(f"{json.dumps(result)}\n")
    ok = all(result["ok"] for result in results) and bool(results)
    if asked.json:
        report = {"ok": ok, "results": results, "left_out": left_out}
        sys.stdout.write(f"{json.dumps(report)}\n")
    else:
        sys.stdout.write(_table(results, left_out))
    return 0 if ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "./run assure", description="Long checks over real processes: kill -9, torn cards."
    )
    parser.add_argument("what", nargs="?", default="all", choices=("kill", "tear", "all"))
    parser.add_argument("--minutes", type=float, default=60, help="start nothing later than this")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--taps", type=int, default=1_000, help="sales of each burst (kill)")
    parser.add_argument("--cards", type=int, default=200, help="cards that go round (kill)")
    parser.add_argument("--tills", type=int, default=2, help="tills of a burst, 1-8 (kill)")
    parser.add_argument("--kills", type=int, help="SIGKILLs in each burst (kill)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this process (kill)")
    return parser


def _parts(asked: argparse.Namespace) -> list[tuple[str, Callable[[], Result]]]:
    """Named checks in the order they run."""
    parts: list[tuple[str, Callable[[], Result]]] = []
    if asked.what in ("kill", "all"):
        parts += [(f"kill {kind}", partial(kill, kind, asked)) for kind in asked.kind or KINDS]
    if asked.what in ("tear", "all"):
        parts.append(("tear", tear))
    return parts


def kill(kind: str, asked: argparse.Namespace) -> Result:
    """One burst with one kind of process killed in its middle, on a campus of its own."""
    assert 1 <= asked.tills <= 8, asked.tills
    names = [f"T{n:04d}" for n in range(1, asked.tills + 1)]
    plans = [TillPlan(name, f"{n:012d}") for n, name in enumerate(names, 1)]
    plan = CampusPlan(plans, cards=asked.cards + len(names), opening_fen=OPENING_FEN)
    kills = asked.kills or KILLS[kind]
    with _running(plan, {}) as campus:
        witness = Witness()
        killer = Killer(campus, kind, names[0], kills, SystemRng())
        burst = Burst(campus, names, campus.cards[: asked.cards], witness)
        seconds = burst.run(asked.taps, killer.within(asked.taps))
        truth, heal_s = _verdict(campus, names, asked.cards, witness)
    return {"kills": kills, **_told(truth, witness, seconds, heal_s)}


def tear() -> Result:
    """Every scenario at every reader."""
    scenarios = whole()
    with tempfile.TemporaryDirectory() as folder, PcscStage(PCSC_READERS, Path(folder)) as stage:
        slots = [stage.slot(n // 2, n % 2) for n in range(2 * PCSC_READERS)]
        contact = {f"T{n:04d}": slot for n, slot in enumerate(slots, 4)}
        plans = [
            TillPlan("T0001", "000000000001"),
            TillPlan("T0002", "000000000002", driver="nfcpy"),
            TillPlan(NEIGHBOUR, "000000000003"),
        ]
        plans += [
            TillPlan(name, f"{int(name[1:]):012d}", driver="pcsc", reader_name=slot.name)
            for name, slot in contact.items()
        ]
        parts = {"T0001": scenarios, "T0002": scenarios}
        for n, name in enumerate(contact):
            parts[name] = scenarios[n :: len(contact)]
        plan = CampusPlan(plans, cards=64, opening_fen=OPENING_FEN, env=stage.env)
        with _running(plan, dict(contact)) as campus:
            return _tear(campus, parts, len(scenarios))


def _tear(campus: Campus, parts: Mapping[str, Sequence[Scenario]], count: int) -> Result:
    witness = Witness()
    shares = [
        Share(name, campus.cards[9 * n : 9 * n + 8], campus.cards[9 * n + 8], part)
        for n, (name, part) in enumerate(parts.items())
    ]
    stage = Stage(campus, NEIGHBOUR, witness)
    start_s = time.monotonic()
    stage.play(shares)
    seconds = time.monotonic() - start_s
    truth, heal_s = _verdict(campus, list(campus.tills), 54, witness)
    return {
        "scenarios": 3 * count,
        "torn": stage.torn,
        **_told(truth, witness, seconds, heal_s),
    }


@contextmanager
def _running(plan: CampusPlan, wires: dict[str, Wire]) -> Iterator[Campus]:
    """A started campus in a temporary folder; its processes end with the block."""
    with tempfile.TemporaryDirectory(prefix="onecard-assure-") as folder:
        campus = Campus(Path(folder), plan, SystemRng(), wires)
        try:
            campus.start()
            yield campus
        finally:
            campus.stop()


def _verdict(
    campus: Campus, names: Sequence[str], first_marker: int, witness: Witness
) -> tuple[Truth, float]:
    start_s = time.monotonic()
    heal(campus, list(zip(names, campus.cards[first_marker:], strict=False)), witness)
    healed_s = time.monotonic() - start_s
    return judge(campus, witness), healed_s


def _told(truth: Truth, witness: Witness, seconds: float, heal_s: float) -> Result:
    """The counts of a verdict, and in words whatever is wrong."""
    told: Result = {
        **truth.as_json(),
        "refused": dict(witness.refused),
        "seconds": round(seconds, 1),
        "heal_seconds": round(heal_s, 1),
        "ok": truth.clean,
    }
    return told if truth.clean else {**told, "why": truth.why()}


def _table(results: Sequence[Result], left_out: Sequence[str]) -> str:
    """One line for each check."""
    lines = []
    for result in results:
        facts = ", ".join(f"{k} {v}" for k, v in result.items() if k not in ("check", "ok", "why"))
        lines.append(f"{'ok      ' if result['ok'] else 'VIOLATED'} {result['check']}: {facts}")
        lines += [f"  {line}" for line in str(result.get("why", "")).splitlines()]
    lines += [f"left out {name}: no time" for name in left_out]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
