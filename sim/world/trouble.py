"""Makes the faults of a seed happen: each one an event of the heap, counted by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.wire.cose import sign1
from protocols.wire.messages import Ack
from sim.world.chance import Chance, Stream
from sim.world.disk import Image
from sim.world.faults import PPM, Rates
from sim.world.heap import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Heap
from sim.world.office import Office
from sim.world.people import Errand
from sim.world.station import Station
from sim.world.transport import SimTransport
from sim.world.truth import Holder, Truth

YEAR_US = 365 * DAY_US
PARTITION_US = (MINUTE_US, 7 * DAY_US)
LONG_DOWN_US = (MINUTE_US, 8 * HOUR_US)
ATTACKS = ("swallow", "swallow", "garbage", "hold")
OPEN_US, CLOSED_US = 2 * HOUR_US + 30 * MINUTE_US, 15 * HOUR_US + 30 * MINUTE_US  # of a day

Come = Callable[[str, Errand], None]


class Trouble:
    """The fault script of one seed."""

    def __init__(
        self,
        rates: Rates,
        heap: Heap,
        chance: Chance,
        stations: dict[str, Station],
        office: Office,
        transport: SimTransport,
        truth: Truth,
        come: Come,
    ) -> None:
        self.over = False
        self._rates = rates
        self._heap = heap
        self._chance = chance
        self._stations = stations
        self._names = list(stations)
        self._office = office
        self._transport = transport
        self._truth = truth
        self._come = come
        self._images: dict[str, tuple[Image, bytes | None, dict[int, int]]] = {}

    def plan_day(self, day: int, days: int) -> None:
        """Arrange everything that will go wrong on one day."""
        begin = day * DAY_US
        for name, station in self._stations.items():
            self._each(name, "power", self._rates.power_milli, begin, self._cut(station))
            self._each(name, "kill", self._rates.kill_milli, begin, self._kill(station))
            self._each(name, "forger", self._rates.forger_milli, begin, self._forge(station))
            self._partition(name, begin)
            disk_errors = self._rates.disk_ppm * 800 // 1_000  # about 800 commits a day
            self._each(name, "disk", disk_errors, begin, self._spoil(station))
        self._each("broker", "amnesia", self._rates.amnesia_milli, begin, self._transport.amnesia)
        self._each("centre", "centre", self._rates.centre_milli, begin, self._crash_centre)
        for n in range(self._rates.restores if day == 0 else 0):
            self._restore(n, days)

    def boot_clock(self, station: Station) -> None:
        """At a boot the battery clock may be wrong; someone notices within a day."""
        stream = self._chance.stream(station.term, "clock")
        if self.over or not stream.likely(self._rates.clock_ppm):
            return
        self._truth.count("fault_clock")
        shift = stream.pick((-10 * YEAR_US, 10 * YEAR_US, -56 * YEAR_US, -3 * HOUR_US, HOUR_US))
        station.clock.jump(shift)
        delay_us = stream.between(HOUR_US, DAY_US)
        self._heap.after(delay_us, station.term, b"clock-set", station.clock.corrected)

    def stop(self) -> None:
        """The active phase is over: cables back, no new faults."""
        self.over = True
        for name in self._names:
            self._transport.heal(name)
            self._stations[name].clock.corrected()
            self._stations[name].disk.breaker.left = None

    # ---- one kind each

    def _each(
        self, node: str, name: str, milli: int, begin_us: int, act: Callable[[], None]
    ) -> None:
        """`milli` thousandths of an event a day, at any time of it but mostly at meals."""
        stream = self._chance.stream(node, name)
        count = milli // 1_000 + (1 if stream.below(1_000) < milli % 1_000 else 0)
        for _ in range(count):
            open_now = stream.likely(800_000)
            span = (OPEN_US, CLOSED_US) if open_now else (0, DAY_US - 1)
            at_us = begin_us + stream.between(*span)
            self._heap.at(at_us, node, name.encode(), self._unless_over(name, act))

    def _unless_over(self, name: str, act: Callable[[], None]) -> Callable[[], None]:
        def once() -> None:
            if not self.over:
                self._truth.count(f"fault_{name}")
                act()

        return once

    def _cut(self, station: Station) -> Callable[[], None]:
        def act() -> None:
            stream = self._chance.stream(station.term, "cut")
            if stream.likely(300_000) and station.powered:
                station.power_failed()
            else:
                station.disk.breaker.arm(stream.between(1, 30))

        return act

    def _kill(self, station: Station) -> Callable[[], None]:
        def act() -> None:
            stream = self._chance.stream(station.term, "kill-which")
            if stream.likely(300_000) and station.uplink.running:
                station.kill_daemon()
            else:
                station.disk.breaker.arm(stream.between(1, 30), process_only=True)

        return act

    def _spoil(self, station: Station) -> Callable[[], None]:
        def act() -> None:
            stream = self._chance.stream(station.term, "spoil")
            station.disk.fail_next(written=stream.likely(PPM // 2))

        return act

    def _partition(self, name: str, begin_us: int) -> None:
        stream = self._chance.stream(name, "partition")
        if not stream.likely(self._rates.partition_ppm):
            return
        at_us = begin_us + stream.between(0, DAY_US - 1)
        longest = stream.pick((20 * MINUTE_US, 8 * HOUR_US, 2 * DAY_US, PARTITION_US[1]))
        span_us = stream.between(PARTITION_US[0], longest)

        def cut() -> None:
            self._transport.partition(name)

        self._heap.at(at_us, name, b"partition", self._unless_over("partition", cut))
        heal_us = at_us + span_us
        self._heap.at(heal_us, name, b"heal", lambda: self._transport.heal(name))

    def _crash_centre(self) -> None:
        stream = self._chance.stream("centre", "how")
        if stream.likely(700_000):
            self._office.crash_next = True
        elif self._office.up:
            self._office.crash(LONG_DOWN_US)

    def _forge(self, station: Station) -> Callable[[], None]:
        liar = self._chance.signer("liar")

        def words() -> dict[str, bytes]:
            epoch, seq, digest = station.shadow.tip()
            ack = Ack(station.term, epoch, seq, digest, station.clock.wall_us(), 4)
            return {"ack": sign1(ack.encode(), liar)}

        return lambda: station.forge_at_sale(words)

    def _restore(self, n: int, days: int) -> None:
        """An old copy of a disk comes back, hours after it was taken."""
        stream = self._chance.stream("restore", str(n))
        name = self._names[stream.below(len(self._names))]
        span_us = max(days * DAY_US - 12 * HOUR_US, 6 * HOUR_US)
        taken_us = stream.between(3 * HOUR_US, span_us * 2 // 3)
        back_us = taken_us + stream.between(HOUR_US, max(span_us // 3, 2 * HOUR_US))
        station = self._stations[name]

        def take() -> None:
            if station.powered and station.restored == 0:
                self._images[name] = station.backup()

        def put_back() -> None:
            if self.over or name not in self._images or station.restored:
                return
            self._truth.count("fault_restore")
            station.restore(*self._images.pop(name))

        self._heap.at(taken_us, name, b"backup", take)
        self._heap.at(back_us, name, b"restore", put_back)


class Crimes:
    """Lost cards in other hands, and relays."""

    def __init__(
        self,
        rates: Rates,
        heap: Heap,
        chance: Chance,
        names: Sequence[str],
        holders: Sequence[Holder],
        office: Office,
        truth: Truth,
        come: Come,
        low_fen: int,
    ) -> None:
        self.over = False
        self._rates = rates
        self._heap = heap
        self._stream: Stream = chance.stream("crimes", "all")
        self._names = names
        self._holders = holders
        self._office = office
        self._truth = truth
        self._come = come
        self._low_fen = low_fen

    def plan_day(self, day: int) -> None:
        """Arrange the day's reports and attacks."""
        for name, milli, act in (
            ("lost", self._rates.lost_milli, self._report),
            ("relay", self._rates.relay_milli, self._attack),
        ):
            count = milli // 1_000 + (1 if self._stream.below(1_000) < milli % 1_000 else 0)
            for _ in range(count):
                at_us = day * DAY_US + self._stream.between(OPEN_US, CLOSED_US)
                self._heap.at(at_us, "town", name.encode(), act)

    def _report(self) -> None:
        """A card is reported; whoever found it goes shopping within the minute."""
        holder = self._stream.pick(self._holders)
        if self.over or not self._office.up or holder.lost_version is not None or holder.relayed:
            return
        self._truth.count("fault_lost")
        office = self._office
        holder.lost_version = office.centre.report_loss(office.idem(), "desk", holder.asn)
        holder.lifted_version = None
        office.tick_soon()
        for _ in range(16):
            delay_us = self._stream.between(SECOND_US, 90 * SECOND_US)
            self._shop(holder, delay_us)
        for _ in range(4):
            self._shop(holder, self._stream.between(2 * MINUTE_US, 10 * HOUR_US))
        if self._stream.likely(400_000):
            delay_us = self._stream.between(HOUR_US, DAY_US)
            self._heap.after(delay_us, "town", b"found", lambda: self._found(holder))

    def _shop(self, holder: Holder, delay_us: int) -> None:
        name = self._stream.pick(self._names)
        errand = Errand(holder, self._low_fen)
        self._heap.after(delay_us, "town", b"shop", lambda: self._come(name, errand))

    def _found(self, holder: Holder) -> None:
        if self._office.up and holder.lost_version is not None:
            office = self._office
            version = office.centre.lift_loss(office.idem(), "desk", holder.asn)
            holder.lifted_version = version
            office.tick_soon()

    def _attack(self) -> None:
        """An attacker visits a few counters with one trick."""
        holder = self._stream.pick(self._holders)
        if self.over or holder.lost_version is not None or holder.busy:
            return
        self._truth.count("fault_relay")
        holder.relayed = True
        attack = self._stream.pick(ATTACKS)
        name = self._stream.pick(self._names)
        for n in range(3):
            errand = Errand(holder, self._low_fen, attack=attack)
            delay_us = (1 + n * 4) * MINUTE_US + self._stream.between(0, MINUTE_US)
            where = name if n < 2 else self._stream.pick(self._names)
            self._heap.after(delay_us, "town", b"attack", self._goes(where, errand))

    def _goes(self, name: str, errand: Errand) -> Callable[[], None]:
        return lambda: None if self.over else self._come(name, errand)
