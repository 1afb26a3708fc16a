"""The command line of the simulator: what it prints, what it refuses, how it exits."""

from __future__ import annotations

import json

import pytest

from sim.world import command, faults
from sim.world.chance import Chance
from sim.world.plants import NAMES

REQUIRED = {
    "prune-on-puback",
    "sync-normal",
    "no-lane-check",
    "prove-9000",
    "serve-before-capture",
    "prev-not-carried",
    "record-believed",
    "policy-between",
}


def test_plant_list_is_one_name_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Name, tab, meaning: made for scripts."""
    assert command.main(["--plant", "list"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == list(NAMES)
    assert all(len(row) == 2 and row[1] for row in rows)
    assert set(NAMES) >= REQUIRED


@pytest.mark.parametrize(
    "argv",
    [
        ["--plant", "nothing"],
        ["--days", "0"],
        ["--terminals", "x"],
        ["--faults", "earthquake"],
        ["--faults", "all,tear"],
        ["--what"],
    ],
)
def test_bad_usage_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a word on standard error about what is allowed."""
    with pytest.raises(SystemExit) as end:
        command.main(argv)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_violation_is_exit_1_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Planted: the first violation ends the run, in words and in JSON."""
    plant = ["--terminals", "2", "--taps", "10", "--plant", "serve-before-capture"]
    assert command.main(plant) == 1
    assert "VIOLATION I2" in capsys.readouterr().out
    assert command.main([*plant, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["violations"][0]["invariant"] == "I2"


def test_all_forces_every_class_and_none_switches_them_off() -> None:
    """Swarm leaves about half of them out; a plant's own classes are always there."""
    rates, on = faults.draw(Chance(1), "all")
    assert on == list(faults.CLASSES)
    assert rates.tear_ppm >= 25_000
    assert faults.draw(Chance(1), "none")[0] == faults.Rates()
    sizes = {len(faults.draw(Chance(seed), "swarm")[1]) for seed in range(20)}
    assert min(sizes) < len(faults.CLASSES) // 2 < max(sizes)
    assert faults.draw(Chance(1), "tear", ("relay",))[1] == ["tear", "relay"]
