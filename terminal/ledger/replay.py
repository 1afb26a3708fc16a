"""What the records mean: the terminal's state, rebuilt at boot and kept by every append.

Live operation and boot use the same `apply`, so a power cut loses nothing that a record said.
Only facts stand here; whether a sale is allowed is for terminal.policy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.bizday import CUT_S, DAY_S, OFFSET_S, days_of, local_date_time
from protocols.wire.record import Kind, Record

MEANS_CARD = 0
VIA_RECORD = "record"
SALE_SERVED = "SALE_SERVED"  # ALARM [intent]: 已出餐? was answered yes, the sale is the merchant's
CARD_SUSPECT = "CARD_SUSPECT"  # ALARM [ASN]: a card whose proofs do not hold
STAMPS_MAX = 256  # then those of past seconds are dropped
_INTENT_OWN = 12  # own fields of INTENT up to exp_mac2, in wire order
SHIFT_OPEN, SHIFT_CLOSE = 0, 1
_MEAL_STARTS_S = (0, 7 * 3_600, 13 * 3_600)  # from the cut at 03:00: 03:00, 10:00, 16:00


@dataclass(slots=True)
class OpenIntent:
    """An INTENT without CAPTURE or VOID: what recovery and the day's end must know of it."""

    seq: int
    asn: bytes
    ctr: int
    fen: int
    type: int
    tid: bytes
    date: bytes
    time: bytes
    exp_mac2: bytes | None
    purse_before: int
    wall_us: int
    doubt: int | None = None  # seq of its DOUBT
    abandoned: bool = False
    handed_up: bool = False  # DOUBT_UP written: the centre decides
    served: bool = False


@dataclass(slots=True)
class Shift:
    """An open shift; totals of card sales since it opened, reversals apart."""

    seq: int
    operator: bytes
    sold_count: int = 0
    sold_fen: int = 0
    reversed_count: int = 0
    reversed_fen: int = 0


@dataclass(slots=True)
class LastSale:
    """The newest completed sale: the only one that 撤销 may reverse."""

    capture: int
    asn: bytes
    fen: int
    shift: int


@dataclass(slots=True)
class State:
    """Everything a terminal knows from its journal. Times µs UTC, amounts integer fen."""

    boot_no: int = 0
    hw_us: int = 0
    intents: dict[int, OpenIntent] = field(default_factory=dict)
    hold: int | None = None  # the INTENT whose sale the cashier has not settled yet
    shift: Shift | None = None
    last_sale: LastSale | None = None
    day: int = 0  # business day as a count of days
    day_fen: dict[bytes, int] = field(default_factory=dict)
    meal: int = 0
    meal_count: dict[bytes, int] = field(default_factory=dict)
    stamps: dict[bytes, bytes] = field(default_factory=dict)  # ASN -> date, time of its last INTENT
    unconfirmed: set[bytes] = field(default_factory=set)  # served on a record alone
    suspects: set[bytes] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)
    commands: dict[int, bytes] = field(default_factory=dict)  # CMD without CMD_DONE
    seen_commands: dict[bytes, str] = field(default_factory=dict)
    unsynced: deque[tuple[int, bytes, int]] = field(default_factory=deque)  # seq, ASN, fen
    unsynced_fen: int = 0  # captured value that the centre has not acknowledged

    def apply(self, record: Record) -> None:
        """Take one record into account; unknown kinds change only the time."""
        self.note_time(record)
        act = _ACTS.get(record.kind)
        if act is not None:
            act(self, record)

    def note_time(self, record: Record) -> None:
        """The high-water mark of the wall clock and the number of this boot."""
        if record.wall_us > self.hw_us:
            self.hw_us = record.wall_us
        self.boot_no = record.boot_no

    def forget_until(self, seq: int) -> None:
        """Everything up to `seq` is at the centre: no longer exposed."""
        while self.unsynced and self.unsynced[0][0] <= seq:
            self.unsynced_fen -= self.unsynced.popleft()[2]

    # ---- questions

    def open_doubt(self, asn: bytes) -> OpenIntent | None:
        """The intent of this card that this terminal must still judge; at most one."""
        for intent in self.intents.values():
            if intent.asn == asn and not intent.handed_up:
                return intent
        return None

    def unsynced_fen_of(self, asn: bytes) -> int:
        """`unsynced_fen` of one card."""
        return sum(fen for _, whose, fen in self.unsynced if whose == asn)

    def spent_today(self, asn: bytes, at_us: int) -> int:
        """Net sales to this card on the business day of `at_us`, in fen."""
        return self.day_fen.get(asn, 0) if business_day_index(at_us) == self.day else 0

    def meals_now(self, asn: bytes, at_us: int) -> int:
        """Sales to this card in the meal period of `at_us`."""
        return self.meal_count.get(asn, 0) if meal_index(at_us) == self.meal else 0

    def next_second(self, asn: bytes, at_us: int) -> int:
        """A second, not before now, that no earlier INTENT of this card carries (card.md §6.2)."""
        last = self.stamps.get(asn)
        now = at_us // 1_000_000
        return now if last is None else max(now, second_of(last[:4], last[4:]) + 1)

    def doubts(self) -> list[OpenIntent]:
        """Intents whose outcome is unknown, oldest first."""
        return [intent for intent in self.intents.values() if intent.doubt is not None]

    # ---- records

    def _intent(self, record: Record) -> None:
        if record.inst is None or len(record.own) < _INTENT_OWN or record.own[0] != MEANS_CARD:
            return
        _, _, _, before, kind, tid, _, date, time, _, _, exp_mac2 = record.own[:_INTENT_OWN]
        self.intents[record.seq] = OpenIntent(
            record.seq,
            record.inst,
            record.ctr or 0,
            record.fen,
            kind,
            tid,
            date,
            time,
            exp_mac2,
            before or 0,
            record.wall_us,
        )
        self.hold = record.seq
        self.stamps[record.inst] = date + time
        if len(self.stamps) > STAMPS_MAX:
            self.stamps = self.recent_stamps()

    def recent_stamps(self) -> dict[bytes, bytes]:
        """Stamps that a sale made now could still meet; BCD sorts like the time it names."""
        now = b"".join(local_date_time(self.hw_us))
        return {asn: at for asn, at in self.stamps.items() if at >= now}

    def _capture(self, record: Record) -> None:
        current = self.hold == record.ref
        intent = self._settled(record.ref)
        asn = record.inst
        if asn is None:
            return
        abandoned = intent is not None and intent.abandoned
        self.unsynced.append((record.seq, asn, record.fen))
        self.unsynced_fen += record.fen
        self._count(asn, record.fen, record.wall_us)
        if record.get("via") == VIA_RECORD and not abandoned:
            self.unconfirmed.add(asn)
        if self.shift is None or abandoned:
            return
        self.shift.sold_count += 1
        self.shift.sold_fen += record.fen
        if current:
            self.last_sale = LastSale(record.seq, asn, record.fen, self.shift.seq)

    def _void(self, record: Record) -> None:
        self._settled(record.ref)

    def _settled(self, seq: int | None) -> OpenIntent | None:
        if seq is None:
            return None
        if self.hold == seq:
            self.hold = None
        return self.intents.pop(seq, None)

    def _doubt(self, record: Record) -> None:
        intent = self.intents.get(record.ref or 0)
        if intent is not None:
            intent.doubt = record.seq

    def _doubt_up(self, record: Record) -> None:
        intent = self.intents.get(record.ref or 0)
        if intent is not None:
            intent.handed_up = True
            if record.get("forged"):
                self.suspects.add(intent.asn)

    def _abandon(self, record: Record) -> None:
        intent = self.intents.get(record.ref or 0)
        if intent is not None:
            intent.abandoned = True
        if self.hold == record.ref:
            self.hold = None

    def _alarm(self, record: Record) -> None:
        code, arguments = record.get("code"), record.get("arguments")
        if code == SALE_SERVED:
            if self.hold == arguments[0]:
                self.hold = None
            if arguments[0] in self.intents:
                self.intents[arguments[0]].served = True
        elif code == CARD_SUSPECT:
            self.suspects.add(arguments[0])

    def _reversal(self, record: Record) -> None:
        asn = record.inst
        if asn is None:
            return
        self.last_sale = None
        self._roll_day(record.wall_us)
        self.day_fen[asn] = max(self.day_fen.get(asn, 0) - record.fen, 0)
        self.meal_count[asn] = max(self.meal_count.get(asn, 0) - 1, 0)
        if self.shift is not None:
            self.shift.reversed_count += 1
            self.shift.reversed_fen += record.fen

    def _shift(self, record: Record) -> None:
        self.last_sale = None
        opened = record.get("action") == SHIFT_OPEN
        self.shift = Shift(record.seq, record.get("operator")) if opened else None

    def _policy(self, record: Record) -> None:
        self.versions[record.get("list")] = record.get("version")

    def _cmd(self, record: Record) -> None:
        self.commands[record.seq] = record.get("command_id")

    def _cmd_done(self, record: Record) -> None:
        name = self.commands.pop(record.ref or 0, None)
        if name is not None:
            self.seen_commands[name] = record.get("result")
            if len(self.seen_commands) > 1_000:
                self.seen_commands.pop(next(iter(self.seen_commands)))

    def _count(self, asn: bytes, fen: int, at_us: int) -> None:
        self._roll_day(at_us)
        self.day_fen[asn] = self.day_fen.get(asn, 0) + fen
        self.meal_count[asn] = self.meal_count.get(asn, 0) + 1

    def _roll_day(self, at_us: int) -> None:
        day, meal = business_day_index(at_us), meal_index(at_us)
        if day != self.day:
            self.day = day
            self.day_fen.clear()
        if meal != self.meal:
            self.meal = meal
            self.meal_count.clear()


_ACTS: dict[int, Callable[[State, Record], None]] = {
    Kind.POLICY: State._policy,
    Kind.CMD: State._cmd,
    Kind.CMD_DONE: State._cmd_done,
    Kind.ALARM: State._alarm,
    Kind.SHIFT: State._shift,
    Kind.INTENT: State._intent,
    Kind.CAPTURE: State._capture,
    Kind.VOID: State._void,
    Kind.DOUBT: State._doubt,
    Kind.DOUBT_UP: State._doubt_up,
    Kind.DOUBT_DONE: State._void,
    Kind.ABANDON: State._abandon,
    Kind.REVERSAL: State._reversal,
}


def business_day_index(at_us: int) -> int:
    """The business day (cut 03:00 local) as a count of days."""
    return (at_us // 1_000_000 + OFFSET_S - CUT_S) // DAY_S


def meal_index(at_us: int) -> int:
    """The meal period: three a business day, from 03:00, 10:00 and 16:00 local."""
    day, second = divmod(at_us // 1_000_000 + OFFSET_S - CUT_S, DAY_S)
    return day * 3 + sum(second >= start for start in _MEAL_STARTS_S) - 1


def second_of(date: bytes, time: bytes) -> int:
    """The instant, in seconds UTC, of a BCD local date and time of an INTENT."""
    days = days_of(*_numbers(date.hex(), (4, 2, 2)))
    hour, minute, second = _numbers(time.hex(), (2, 2, 2))
    return days * DAY_S + hour * 3_600 + minute * 60 + second - OFFSET_S


def _numbers(digits: str, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    a, b, _ = sizes
    return int(digits[:a]), int(digits[a : a + b]), int(digits[a + b :])
