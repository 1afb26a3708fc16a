"""How bad a seed's world is: rates drawn from the ranges of faults.md §6, whole classes switched off.

With probability one half a class does not exist in a seed, so that rare combinations are not
drowned; `all` forces every class on, in the upper half of its range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.world.chance import Chance, Stream
from sim.world.transport import Weather

PPM = 1_000_000
WORDS = ("swarm", "all", "none")

CLASSES: dict[str, str] = {
    "tear": "cards pulled at any APDU, before or after its effect",
    "foreign": "a torn card is used elsewhere before it heals",
    "power": "power cuts between any two actions of a terminal",
    "kill": "till and daemon processes die",
    "partition": "terminals cut off for minutes to days",
    "loss": "messages lost",
    "duplicate": "messages delivered twice",
    "reorder": "waiting messages in another order after a reconnect",
    "amnesia": "the broker forgets messages it acknowledged, sessions, retained heads",
    "clock": "battery clocks jump or forget the year",
    "disk": "I/O errors of the journal",
    "restore": "an old copy of a terminal's disk is put back",
    "lost": "cards are reported lost, used by the finder, lifted again",
    "relay": "attackers with a relay in front of a real card",
    "centre": "the centre dies between its commit and its answers",
    "forger": "a hostile daemon writes acknowledgements that nobody signed",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Per million of what the name says, or counts per terminal and day (in thousandths)."""

    tear_ppm: int = 0
    foreign_ppm: int = 0
    power_milli: int = 0
    kill_milli: int = 0
    partition_ppm: int = 0  # of terminals a day
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    reorder: int = 0
    amnesia_milli: int = 0
    forget_ppm: int = 0
    clock_ppm: int = 0  # of boots
    disk_ppm: int = 0  # of commits
    restores: int = 0
    lost_milli: int = 0  # reports per day
    relay_milli: int = 0  # attacks per day
    centre_milli: int = 0  # crashes per day
    forger_milli: int = 0

    def weather(self) -> Weather:
        """What the broker does to messages."""
        forget = self.forget_ppm
        return Weather(self.loss_ppm, self.duplicate_ppm, forget, bool(self.reorder))


# class -> (field, low, high)
_RANGES: dict[str, tuple[tuple[str, int, int], ...]] = {
    "tear": (("tear_ppm", 1_000, 50_000),),
    "foreign": (("foreign_ppm", 10_000, 500_000),),
    "power": (("power_milli", 100, 4_000),),
    "kill": (("kill_milli", 100, 3_000),),
    "partition": (("partition_ppm", 10_000, 200_000),),
    "loss": (("loss_ppm", 1_000, 300_000),),
    "duplicate": (("duplicate_ppm", 1_000, 300_000),),
    "reorder": (("reorder", 1, 1),),
    "amnesia": (("amnesia_milli", 100, 2_000), ("forget_ppm", 1_000, 50_000)),
    "clock": (("clock_ppm", 1_000, 50_000),),
    "disk": (("disk_ppm", 50, 1_000),),
    "restore": (("restores", 1, 2),),
    "lost": (("lost_milli", 3_000, 8_000),),
    "relay": (("relay_milli", 4_000, 12_000),),
    "centre": (("centre_milli", 1_000, 12_000),),
    "forger": (("forger_milli", 500, 4_000),),
}


def draw(chance: Chance, wanted: str, needed: Iterable[str] = ()) -> tuple[Rates, list[str]]:
    """The rates of a seed and the classes that are on. `wanted`: swarm, all, none, or names."""
    on = _classes(chance.stream("faults", "classes"), wanted, set(needed))
    values: dict[str, int] = {}
    for name in CLASSES:
        stream = chance.stream("faults", name)
        for field, low, high in _RANGES[name]:
            forced = wanted == "all" or name in needed
            drawn = stream.between((low + high) // 2 if forced else low, high)
            if name in on:
                values[field] = drawn
    return Rates(**values), [name for name in CLASSES if name in on]


def _classes(stream: Stream, wanted: str, needed: set[str]) -> set[str]:
    coins = {name for name in CLASSES if stream.likely(PPM // 2)}
    if wanted == "all":
        return set(CLASSES)
    if wanted == "none":
        return set()
    if wanted == "swarm":
        return coins | needed
    return set(wanted.split(",")) | needed
