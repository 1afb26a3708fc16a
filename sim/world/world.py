"""A campus of one seed: built, run through its days, healed, audited, digested.

The order of everything is the heap's; what is drawn comes from named streams; nothing reads the
machine's clock or random source.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import OnecardError
from sim.auditor.audit import Auditor
from sim.card import SimCard
from sim.card_memory import Masters
from sim.world import digest, faults
from sim.world.chance import Chance
from sim.world.heap import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Heap
from sim.world.office import SITE, Office
from sim.world.parts import PRODUCT, Parts
from sim.world.people import Counter, Errand, tear_of
from sim.world.station import Station
from sim.world.transport import SimTransport
from sim.world.trouble import Crimes, Trouble
from sim.world.truth import Holder, Truth, Violation
from sim.world.uplink import Enrolment

MEALS_US = (  # from the world's midnight, 04:00 on campus
    (2 * HOUR_US + 30 * MINUTE_US, 5 * HOUR_US),
    (7 * HOUR_US, 9 * HOUR_US + 30 * MINUTE_US),
    (13 * HOUR_US, 15 * HOUR_US + 30 * MINUTE_US),
)
HEAL_US = 48 * HOUR_US
AUDIT_EVERY_US = HOUR_US
POLICY = {
    "per_sale_fen": 20_000,
    "per_day_fen": 200_000,
    "offline_fen": 20_000_000,
    "offline_h": 200,
}
VOID_PPM = 8_000
SPEND_FEN = 30_000  # of a purse, over the whole run


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    seed: int = 1
    days: int = 1
    terminals: int = 4
    taps: int = 300  # per terminal and day
    cards: int = 0  # 0: 25 per terminal
    faults: str = "swarm"
    plant: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came out."""

    plan: Plan
    classes: tuple[str, ...]
    counts: dict[str, int]
    faults: dict[str, int]
    in_doubt: int
    resolved: int
    violations: tuple[Violation, ...]
    digest: str
    virtual_ms: int

    def as_json(self) -> dict[str, object]:
        """The object of `--json`."""
        return {
            "seed": self.plan.seed,
            "days": self.plan.days,
            "terminals": self.plan.terminals,
            "plant": self.plan.plant,
            "taps": self.counts.get("taps", 0),
            "paid": self.counts.get("paid", 0),
            "declined": self.counts.get("declined", 0),
            "in_doubt": self.in_doubt,
            "resolved": self.resolved,
            "faults": self.faults,
            "violations": [
                {"invariant": one.invariant, "at_ms": one.at_us // 1_000, "text": one.text}
                for one in self.violations
            ],
            "digest": self.digest,
            "ms_virtual": self.virtual_ms,
        }


class World:
    """One campus; `run` once."""

    def __init__(
        self, plan: Plan, folder: Path, parts: Parts = PRODUCT, needed: Sequence[str] = ()
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.digest = digest.Digest()
        self.heap = Heap(self.digest.event)
        self.chance = Chance(plan.seed)
        self.rates, self.classes = faults.draw(self.chance, plan.faults, needed)
        self.truth = Truth(lambda: self.heap.now_us)
        self.transport = SimTransport(self.heap, self.chance, self.rates.weather())
        keys = self.chance.stream("issuer", "masters")
        masters = Masters(*(keys.token(16) for _ in range(4)))
        self.office = Office(
            folder, self.heap, self.chance, self.transport, self.truth, parts, masters
        )
        self.holders = self._issue(masters)
        self.counters = self._build(masters, parts)
        stations = {name: counter.station for name, counter in self.counters.items()}
        self.auditor = Auditor(self.office.path, self.truth, stations)
        self.low_fen = 100
        span = (self.rates, self.heap, self.chance)
        self.trouble = Trouble(*span, stations, self.office, self.transport, self.truth, self._come)
        names = list(stations)
        self.crimes = Crimes(
            *span, names, self.holders, self.office, self.truth, self._come, self.low_fen
        )
        for station in stations.values():
            station.booting = self.trouble.boot_clock
            station.pruned = self.auditor.forgotten
            station.looked = self.auditor.believes
            station.diverged = self.auditor.diverged
        self.office.crashed = self.auditor.quick

    # ---- building

    def _issue(self, masters: Masters) -> list[Holder]:
        count = self.plan.cards or 25 * self.plan.terminals
        stream = self.chance.stream("issuer", "cards")
        found = []
        for n in range(count):
            asn = bytes.fromhex(f"{2026_0000_0000_0000_0000 + n:020d}")
            opening_fen = stream.between(20_000, 50_000)
            rng = self.chance.stream(f"card{n}", "rnd")
            card = SimCard.issue(asn, masters, rng, balance_fen=opening_fen)
            self.office.centre.issue_card(self.office.idem(), "sim", asn, opening_fen)
            holder = Holder(asn, card, opening_fen)
            self.truth.holders[asn] = holder
            found.append(holder)
        return found

    def _build(self, masters: Masters, parts: Parts) -> dict[str, Counter]:
        found: dict[str, Counter] = {}
        operators = []
        for n in range(self.plan.terminals):
            term = f"T{n + 1:03d}"
            signer = self.chance.signer(term)
            grant = self.office.enrol(term, signer)
            part = int(str(self.office.read(_PART, (term,))[0][0]))
            tid = bytes.fromhex(f"{n + 1:012d}")
            enrolled = Enrolment(
                SITE, term, part, signer, self.office.ring, grant, tid, masters.mpk
            )
            station = Station(
                enrolled,
                self.folder / term,
                self.heap,
                self.chance,
                self.transport,
                self.truth,
                parts,
            )
            asn = bytes.fromhex(f"{2026_9000_0000_0000_0000 + n:020d}")
            rng = self.chance.stream(term, "operator")
            operator = SimCard.issue(asn, masters, rng, balance_fen=0)
            operators.append((asn, term))
            people = self.chance.stream(term, "people")
            found[term] = Counter(station, self.heap, people, self.truth, operator)
        self.office.publish_first(operators, POLICY)
        return found

    # ---- running

    def run(self) -> Result:
        """All days, the heal, the audit."""
        self.office.start()
        for name, counter in self.counters.items():
            boot = counter.station.boot
            self.heap.after(MINUTE_US, name, b"power", boot)
        for day in range(self.plan.days):
            self._plan_day(day)
        self._every(AUDIT_EVERY_US, b"audit", self.auditor.quick)
        self._every(30 * MINUTE_US, b"office", self._office_hours)
        try:
            self._live(self.plan.days * DAY_US)
        except (AssertionError, OnecardError) as fault:
            place = traceback.extract_tb(fault.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            self.truth.broken("crash", f"{type(fault).__name__} {fault} at {where}")
        return self._result()

    def _live(self, end_us: int) -> None:
        self.heap.run(end_us, self._stopped)
        if not self._stopped():
            self._heal(end_us)
        if not self._stopped():
            self.auditor.final()

    def _stopped(self) -> bool:
        return bool(self.truth.violations) and self.plan.plant is not None

    def _every(self, span_us: int, what: bytes, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self.heap.after(span_us, "world", what, again)

        self.heap.after(span_us, "world", what, again)

    def _office_hours(self) -> None:
        if self.office.up:
            self.office.resolve_forks()

    def _plan_day(self, day: int) -> None:
        self.trouble.plan_day(day, self.plan.days)
        self.crimes.plan_day(day)
        total = self.plan.days * self.plan.taps * self.plan.terminals
        mean_fen = min(max(SPEND_FEN * len(self.holders) // max(total, 1), 20), 1_500)
        for name in self.counters:
            stream = self.chance.stream(name, "customers")
            for n in range(self.plan.taps):
                begin, end = MEALS_US[n % len(MEALS_US)]
                at_us = day * DAY_US + stream.between(begin, end)
                fen = stream.between(max(mean_fen // 4, 1), mean_fen * 7 // 4)
                self.heap.at(at_us, name, b"customer", self._customer(name, fen))

    def _customer(self, name: str, fen: int) -> Callable[[], None]:
        def arrives() -> None:
            stream = self.chance.stream(name, "who")
            holder = stream.pick(self.holders)
            for _ in range(20):
                if not holder.busy and holder.lost_version is None:
                    break
                holder = stream.pick(self.holders)
            self._come(name, self._errand(name, holder, fen))

        return arrives

    def _errand(self, name: str, holder: Holder, fen: int) -> Errand:
        stream = self.chance.stream(name, "luck")
        errand = Errand(holder, fen, void=stream.likely(VOID_PPM))
        if not self.trouble.over and stream.likely(self.rates.tear_ppm):
            self.truth.count("fault_tear")
            errand.leaves = stream.likely(self.rates.foreign_ppm)
            errand.tear = tear_of(stream, unpaid=errand.leaves)
            if errand.leaves:
                errand.then = lambda how: self._walks(name, holder, fen, how)
        return errand

    def _walks(self, name: str, holder: Holder, fen: int, how: str) -> None:
        """In doubt and gone: eats elsewhere, and perhaps comes back here."""
        if how != "walked":
            return
        self.truth.count("fault_foreign")
        stream = self.chance.stream(name, "walk")
        other = stream.pick(list(self.counters))
        away_us = stream.between(8 * SECOND_US, 40 * SECOND_US)
        longest_us = stream.pick((30 * SECOND_US, 2 * MINUTE_US, 20 * MINUTE_US))
        back_us = away_us + stream.between(10 * SECOND_US, longest_us)
        same = fen if stream.likely(500_000) else max(fen // 2, 1)
        self.heap.after(away_us, "town", b"away", lambda: self._come(other, Errand(holder, same)))
        if stream.likely(700_000):
            self.heap.after(back_us, "town", b"back", lambda: self._come(name, Errand(holder, fen)))

    def _come(self, name: str, errand: Errand) -> None:
        self.counters[name].come(errand)

    # ---- healing

    def _heal(self, end_us: int) -> None:
        """Faults stop, cables are back, every card visits a terminal, everything drains."""
        self.trouble.stop()
        self.crimes.over = True
        self.transport.weather = faults.Rates().weather()
        names = list(self.counters)
        stream = self.chance.stream("heal", "visits")
        for n, holder in enumerate(self.holders):
            at_us = end_us + 3 * HOUR_US + n * 40 * SECOND_US
            name = stream.pick(names)
            errand = Errand(holder, 1)
            self.heap.at(at_us, name, b"last", self._last(name, errand))
        deadline_us = end_us + HEAL_US
        visited_us = end_us + 4 * HOUR_US + len(self.holders) * 40 * SECOND_US
        self.heap.run(min(visited_us, deadline_us), self._stopped)
        while self.heap.now_us < deadline_us and not self._stopped():
            self.office.settle()
            if self.auditor.drained():
                break
            self.heap.run(self.heap.now_us + HOUR_US, self._stopped)
        self.office.settle()

    def _last(self, name: str, errand: Errand) -> Callable[[], None]:
        return lambda: self._come(name, errand)

    def _result(self) -> Result:
        self.digest.state(self.office.path, self.counters, self.holders)
        counts = self.truth.counts
        asked, settled = self.truth.doubts()
        injected = {
            name.removeprefix("fault_"): n
            for name, n in counts.items()
            if name.startswith("fault_")
        }
        injected.update(self.transport.counts)
        return Result(
            self.plan,
            tuple(self.classes),
            dict(sorted(counts.items())),
            dict(sorted(injected.items())),
            asked,
            settled,
            tuple(self.truth.violations),
            self.digest.hex(),
            self.heap.now_us // 1_000,
        )

    def close(self) -> None:
        """Release every file."""
        for counter in self.counters.values():
            counter.station.close()
        self.office.close()


_PART = "SELECT part FROM terminal WHERE code = ?"
