"""One canteen terminal: till process and sync daemon over one disk, one clock, one reader.

Both are the product's own objects; a cut drops them, a boot builds them again from the files, as
the supervisor would. Nothing is polled: `Poll` and `turn` are called when something changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from firmware.drivers.soft_sam import SoftSam
from firmware.ports import Beep, Key, Screen
from protocols.card.card_profile import CardProfile
from protocols.card.suite import Pboc3Des
from protocols.money import parse_yuan
from protocols.wire.chain import Position
from protocols.wire.messages import Grant
from sim.world.chance import Chance
from sim.world.clock import NodeClock
from sim.world.disk import Disk, Image, PowerLostError, Row, Shadow
from sim.world.heap import SECOND_US, Heap
from sim.world.parts import Parts
from sim.world.reader import Plastic, Reader
from sim.world.timer import SessionTimer
from sim.world.transport import SimTransport
from sim.world.truth import CAPTURE, Truth
from sim.world.uplink import POLL_US, Enrolment, Uplink
from terminal.acks import CentreWord
from terminal.boot import STOPPERS, newest_grant
from terminal.canteen.moves import State
from terminal.canteen.news import News
from terminal.canteen.screen import OWN_TEXTS
from terminal.canteen.till import Poll, Ports, Till, TillConfig, TillEvent
from terminal.inbox import InboxFile
from terminal.ledger.recovery import open_journal
from terminal.lists import ListDesk

RESTART_US = (1 * SECOND_US, 5 * SECOND_US)
REPAIR_US = (30 * SECOND_US, 600 * SECOND_US)
VOLUME_RECORDS = 100
DETECTED_US = 60 * SECOND_US  # an old copy sells no longer after it has spoken with the centre
PAID_TEXT = OWN_TEXTS["PAID"][0]


class Station:
    """The device with everything that runs on it."""

    def __init__(
        self,
        enrolled: Enrolment,
        folder: Path,
        heap: Heap,
        chance: Chance,
        transport: SimTransport,
        truth: Truth,
        parts: Parts,
    ) -> None:
        self.term = enrolled.term
        self.folder = folder
        self.powered = False
        self.till: Till | None = None
        self.refused: str | None = None  # why the till process would not open its journal
        self.deaths = 0  # of the till process
        self.rejoined_us: int | None = None  # the centre was heard since then
        self.restored = 0  # epoch of an old copy that was put back, 0 for none
        self.seen: Callable[[], None] = lambda: None  # somebody looks at the screen
        self.pruned: Callable[[Station, int, int], None] = lambda *_: None
        self.looked: Callable[[Station], None] = lambda _: None  # what does it believe?
        self.diverged: Callable[[Station], bool] = lambda _: False  # from what the books hold
        self.booting: Callable[[Station], None] = lambda _: None  # the battery clock is read
        self._enrolled = enrolled
        self._heap = heap
        self._chance = chance
        self._truth = truth
        self._parts = parts
        drift = chance.stream(self.term, "drift").between(-200, 200)
        self.clock = NodeClock(heap, drift)
        (folder / "journal").mkdir(parents=True)
        self.shadow = Shadow(self._recorded, self._lost)
        self.disk = Disk(folder / "journal", self.shadow)
        self.disk.open_file, self.disk.commit = parts.open_file, parts.new_commit()
        self.reader = Reader(
            heap,
            self.term,
            chance.stream(self.term, "reader"),
            self.disk.breaker,
            lambda event: self.give(event),
            self._debited,
        )
        suite = Pboc3Des()
        self.sam = SoftSam(enrolled.mpk, enrolled.tid, 1, suite, development=True)
        self._profile = CardProfile()
        self._life = 0
        self._timer = SessionTimer(heap, self.term, self.give)
        self._poll_us: int | None = None
        self._inbox: InboxFile | None = None
        self._volumes: list[int] = []
        self._repairing = False
        self._granted: bytes | None = None
        self._forgery: Callable[[], dict[str, bytes]] | None = None
        self._uplinked = self.shadow.tip()  # the daemon was told of everything up to here
        self.uplink = Uplink(
            enrolled,
            folder,
            heap,
            chance,
            transport,
            self.clock,
            parts,
            self._heard,
            self._pubacked,
        )

    # ---- life

    def boot(self) -> None:
        """Power is there: both processes start."""
        self.powered = True
        self.clock.booted()
        self.booting(self)
        self._truth.count("boots")
        self._start_till()
        self.uplink.start()

    def cut_power(self, *, restore: Image | None = None) -> None:
        """Everything is dropped; the disk keeps what was synced, or an old copy of itself."""
        image = self.disk.image(powered=False) if restore is None else restore
        self._drop_till()
        self.uplink.drop()
        self.disk.put(image)
        self.powered = False

    def kill_till(self) -> None:
        """The till process dies; the disk keeps everything, the supervisor starts it again."""
        self._drop_till()
        self._later(RESTART_US, b"restart", self._start_till)

    def kill_daemon(self) -> None:
        """The same for the daemon."""
        self.uplink.drop()
        self._later(RESTART_US, b"restart", self._start_uplink)

    def backup(self) -> tuple[Image, bytes | None, dict[int, int]]:
        """A copy of this disk as it is: journal, sync.db, how long each epoch was."""
        return self.disk.image(powered=True), self.uplink.backup(), self.shadow.lengths()

    def restore(self, image: Image, sync: bytes | None, lengths: dict[int, int]) -> None:
        """An old copy of the disk is put back and started."""
        self.cut_power(restore=image)
        self.uplink.put_back(sync)
        gone = self.shadow.roll_back(lengths)
        self._truth.count("abandoned", gone)
        self.restored = self.epoch
        self._truth.restored(self.term, lengths)
        self.boot()

    def forge_at_sale(self, words: Callable[[], dict[str, bytes]]) -> None:
        """At the next sale a hostile daemon puts words into the centre's mouth."""
        self._forgery = words

    def _forge(self) -> None:
        words, self._forgery = self._forgery, None
        if words is not None:
            self.uplink.keep(words())
            self._heap.after(3 * POLL_US, self.term, b"believed?", lambda: self.looked(self))

    def close(self) -> None:
        """The world ends."""
        self._drop_till()
        self.uplink.drop()

    def give(self, event: TillEvent) -> None:
        """An event for the till; a cut may fall into the middle of it."""
        till = self.till
        if till is None:
            return
        try:
            till.on_event(event)
        except PowerLostError:
            self._cut()
            return
        self._after_till(till)

    def keys(self, names: tuple[str, ...]) -> None:
        """The cashier presses keys."""
        for name in names:
            self.give(Key(name))

    def put(self, card: Plastic) -> None:
        """Somebody puts a card on the reader."""
        self._heap.after(0, self.term, b"card" + card.uid, lambda: self._put(card))

    @property
    def state(self) -> State | None:
        """What the screen says; None for a dark one."""
        return None if self.till is None else self.till.session.state

    @property
    def acked(self) -> Position | None:
        """What the till process believes the centre has; None while it is down."""
        return None if self.till is None else self._journal.acked

    @property
    def epoch(self) -> int:
        """The epoch this terminal writes in."""
        return self.shadow.tip()[0]

    # ---- the till

    def _start_till(self) -> None:
        if not self.powered or self.till is not None:
            return
        self._inbox = InboxFile(self.folder / "sync.db")
        word = CentreWord(self.term, self._parts.trust(self._enrolled.ring))
        took = word.take(self._inbox)
        grant = newest_grant(self._enrolled.grant, took.grant)
        token = self._chance.stream(self.term, "boot").token(8)
        try:
            journal = open_journal(
                self.folder / "journal",
                grant,
                self.clock,
                token,
                acked=took.acked,
                open_file=self.disk.open,
            )
        except STOPPERS as fault:
            self._refuse(fault.code, grant)
            return
        except PowerLostError:
            self._cut()
            return
        self.refused = None
        desk = ListDesk(self._enrolled.ring)
        news = News(self._inbox, word, desk, journal, self.clock, grant.hw0_us)
        ports = Ports(
            journal, self.reader, self.sam, news, self, self.clock, self._timer, self._profile
        )
        config = TillConfig(roll_records=VOLUME_RECORDS, keep_days=0)
        self.till = Till(ports, config, self._parts.rules)
        self._volumes = self.disk.first_seqs(self.epoch)
        self._journal = journal
        try:
            self.till.start()
        except PowerLostError:
            self._cut()
            return
        self._after_till(self.till)

    def _refuse(self, code: str, grant: Grant) -> None:
        self._drop_till()
        self.refused = code
        self._truth.count("refused_boots")
        if code == "JOURNAL_FAIL":
            self._later(REPAIR_US, b"repair", self._start_till)
        elif self.restored != grant.epoch:
            self._truth.broken("I3", f"{self.term} epoch {grant.epoch}: boot refused with {code}")

    def _drop_till(self) -> None:
        self._life += 1
        self._timer.disarm()
        self._poll_us = None
        self.reader.dead()
        self.disk.breaker.left = None
        if self.till is not None:
            self.deaths += 1
            self._journal.close()
        if self._inbox is not None:
            self._inbox.close()
        self.till = self._inbox = None

    def _after_till(self, till: Till) -> None:
        if self.shadow.tip() != self._uplinked:
            self._uplinked = self.shadow.tip()
            self.uplink.turn_soon()
        if till.session.state is State.FAULT and not self._repairing:
            self._repairing = True
            self._later(REPAIR_US, b"repair", self._repair)
        elif till.restart_wanted:
            self.kill_till()

    def _repair(self) -> None:
        """A person acts: restart."""
        self._repairing = False
        if self.state is State.FAULT:
            self._drop_till()
            self._start_till()

    def poll_soon(self, delay_us: int = POLL_US) -> None:
        """The till should look at sync.db and use its idle time."""
        at_us = self._heap.now_us + delay_us
        if self.till is None or (self._poll_us is not None and self._poll_us <= at_us):
            return
        self._poll_us = at_us
        life = self._life
        self._heap.at(at_us, self.term, b"poll", lambda: self._poll(life, at_us))

    def _poll(self, life: int, at_us: int) -> None:
        if life != self._life or self._poll_us != at_us:
            return
        self._poll_us = None
        if self._parts.lists_between and self.state not in (State.PAUSED, State.CLOSED_SHIFT):
            return
        self.give(Poll())
        self._look_for_pruned()

    def _look_for_pruned(self) -> None:
        there = self.disk.first_seqs(self.epoch)
        if there != self._volumes:
            epoch, kept = self.epoch, there[0] if there else 1
            gone = [first for first in self._volumes if first < kept]
            self._volumes = there
            if gone:
                self._truth.count("pruned")
                self.pruned(self, epoch, kept - 1)

    # ---- ports of the till

    def show(self, screen: Screen) -> None:
        """Display and buzzer."""
        self.disk.breaker.point()
        if screen.beep is Beep.PAID and screen.customer[0] == PAID_TEXT:
            assert self.till is not None, self.term
            last = self._truth.lane(self.term, self.epoch).last
            fen = parse_yuan(screen.customer[1].split()[1])
            asn = last[7] if last is not None and last[7] is not None else b""
            self._truth.beeped(self.term, self.epoch, self.paying or asn, fen)
        self.seen()

    paying: bytes = b""  # whose card lies on the reader, for the truth

    def _put(self, card: Plastic) -> None:
        try:
            self.reader.put(card)
        except PowerLostError:
            self._cut()

    def _debited(self, card: Plastic) -> None:
        self._truth.debited(self.term, self.epoch, self.paying)

    # ---- from the daemon

    def _heard(self) -> None:
        """Something from the centre may lie in sync.db."""
        self.poll_soon()
        grant = self.uplink.kept("grant")
        if self.till is None and self.refused is not None and grant != self._granted:
            self._granted = grant  # a till that refused its journal starts again with a new epoch
            self._later(RESTART_US, b"granted", self._start_till)
        if self.restored == self.epoch and self.rejoined_us is None and self.uplink.answered:
            self.rejoined_us = self._heap.now_us

    def _pubacked(self, last: int) -> None:
        if self._parts.puback_counts and self.till is not None and last <= self._journal.tip.seq:
            digest = self._journal.hash_at(last)
            self._journal.note_ack(Position(self.epoch, last, digest or b""))

    # ---- inside

    def _cut(self) -> None:
        if self.disk.breaker.process_only:
            self._truth.count("kills")
            self.kill_till()
            return
        self.power_failed()

    def power_failed(self) -> None:
        """The current is away for a while."""
        self._truth.count("cuts")
        self.cut_power()
        span = (20 * SECOND_US, 600 * SECOND_US)
        self._later(span, b"power", self._power_back)

    def _start_uplink(self) -> None:
        if self.powered:
            self.uplink.start()

    def _power_back(self) -> None:
        if not self.powered:
            self.boot()

    def _later(self, span_us: tuple[int, int], what: bytes, act: Callable[[], None]) -> None:
        delay_us = self._chance.stream(self.term, "life").between(*span_us)
        self._heap.after(delay_us, self.term, what, act)

    def _recorded(self, epoch: int, row: Row, now: bool) -> None:
        self._truth.recorded(self.term, epoch, row, now)
        if row[1] == CAPTURE and self._forgery is not None:
            self._heap.after(POLL_US, self.term, b"forge", self._forge)
        since_us = self.rejoined_us
        if row[1] == CAPTURE and self.restored == epoch and since_us is not None:
            late_us = self._heap.now_us - since_us
            if late_us > DETECTED_US and self.diverged(self):
                text = f"{self.term} seq {row[0]}: an old copy still sells {late_us} us after"
                self._truth.broken("I6", f"{text} it spoke with the centre")

    def _lost(self, text: str) -> None:
        self._truth.broken("I3", f"{self.term} {text}")
