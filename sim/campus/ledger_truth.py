"""What people at the counters saw, against what the centre's books hold: every fen, once each.

A witness notes each tap. A screen that said 成功 with a new balance names its sale exactly: a chip's
balance falls with every debit, so (till, card, amount, balance after) occurs once. The verdict looks
that sale up among the archived CAPTURE records and the transfers, in the till's own order; whatever
else was booked must belong to a tap whose end nobody saw.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, func, select

from protocols.money import parse_yuan
from protocols.wire.record import Kind
from sim.campus.campus import Campus
from sim.campus.compare import asn_of, shadows
from sim.campus.till import End, Tapped
from sim.card import SimCard
from sync.central import archive, schema
from sync.central.engine import reading

SHOWN_MAX = 5
Key = tuple[int, int, int]  # terminal, epoch, seq


@dataclass(frozen=True, slots=True)
class Announced:
    """A sale that a screen called paid."""

    till: str
    asn: bytes
    fen: int
    after_fen: int

    def __str__(self) -> str:
        return f"{self.till} card {self.asn.hex()[-4:]} {self.fen} fen, {self.after_fen} left"


class Witness:
    """Notes of everybody at the tills; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taps = 0
        self.announced: list[Announced] = []
        self.unsure: Counter[tuple[str, bytes]] = Counter()
        self.refused: Counter[str] = Counter()

    def saw(self, till: str, card: SimCard, tapped: Tapped) -> End:
        """One tap and its end."""
        asn = asn_of(card)
        with self._lock:
            self.taps += 1
            if tapped.end is End.PAID:
                self.announced.append(_announced(till, asn, tapped))
            elif tapped.end is End.REFUSED:
                assert tapped.shown is not None, till
                self.refused[tapped.shown.customer[0]] += 1
            else:
                self.unsure[till, asn] += 1
        return tapped.end


def _announced(till: str, asn: bytes, tapped: Tapped) -> Announced:
    """From the customer's line `消费 3.00 余额 197.00`."""
    assert tapped.shown is not None, till
    words = tapped.shown.customer[1].split()
    assert words[0::2] == ["消费", "余额"], words
    return Announced(till, asn, parse_yuan(words[1]), parse_yuan(words[3]))


@dataclass(frozen=True, slots=True)
class Booked:
    """A CAPTURE in the archive and how many transfers took its fen from the card's purse."""

    what: Announced
    key: Key
    postings: int


@dataclass(slots=True)
class Truth:
    """The verdict; `clean` when every fen is accounted for."""

    taps: int
    paid: int
    in_doubt: int
    resolved: int
    unsynced: int
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    purses_off: list[str] = field(default_factory=list)
    money_off_fen: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every fen is accounted for."""
        return not any(
            (
                self.unsynced,
                self.lost,
                self.duplicated,
                self.out_of_order,
                self.unexplained,
                self.purses_off,
                self.money_off_fen,
                self.violations,
                self.in_doubt - self.resolved,
            )
        )

    def as_json(self) -> dict[str, object]:
        """Counts, and the first few of what is wrong."""
        counts: dict[str, object] = {
            "taps": self.taps,
            "paid": self.paid,
            "in_doubt": self.in_doubt,
            "resolved": self.resolved,
            "unsynced": self.unsynced,
        }
        for name in ("lost", "duplicated", "out_of_order", "unexplained", "purses_off"):
            counts[name] = len(getattr(self, name))
        counts["money_off_fen"] = self.money_off_fen
        counts["audit"] = "violated" if self.violations else "ok"
        return counts

    def why(self) -> str:
        """Everything that is wrong, for a message."""
        lists = (self.lost, self.duplicated, self.out_of_order, self.unexplained, self.purses_off)
        found = [line for part in lists for line in part[:SHOWN_MAX]] + self.violations
        return "\n".join([str(self.as_json()), *found])


def judge(campus: Campus, witness: Witness, *, audit: bool = True) -> Truth:
    """Compare; only after `heal`. Without `audit` the command `onecard audit` is not run."""
    engine = campus.engine
    with reading(engine) as connection:
        booked = list(_booked(connection))
        debits = _debits(connection)
        doubts = connection.execute(select(func.count()).select_from(schema.doubt)).scalar_one()
    books = campus.books()
    truth = Truth(
        taps=witness.taps,
        paid=len(witness.announced),
        in_doubt=doubts,
        resolved=books.resolved_doubts,
        unsynced=sum(campus.unsynced().values()),
        purses_off=_purses_off(engine, campus.cards),
        money_off_fen=_money_off(campus),
    )
    look_up(truth, witness, booked, debits)
    if audit:
        ok, checks = campus.audit()
        truth.violations = [f"{c['invariant']}: {c['detail']}" for c in checks if not c["ok"]]
        assert ok == (not truth.violations), checks
    return truth


def look_up(
    truth: Truth, witness: Witness, booked: Sequence[Booked], debits: Counter[tuple[str, bytes]]
) -> None:
    """Every announced sale once and in order; every other debit explained by an unseen end."""
    found: dict[Announced, list[Booked]] = defaultdict(list)
    for one in booked:
        found[one.what].append(one)
    last: dict[str, tuple[int, int]] = {}
    for sale in witness.announced:
        hits = found[sale]
        count = sum(hit.postings for hit in hits)
        if count != 1:
            (truth.duplicated if count else truth.lost).append(f"{count} times: {sale}")
            continue
        place = next(hit.key[1:] for hit in hits if hit.postings)
        if place <= last.get(sale.till, (0, 0)):
            truth.out_of_order.append(f"{place}: {sale}")
        last[sale.till] = place
    seen = Counter((sale.till, sale.asn) for sale in witness.announced)
    for (till, asn), count in (debits - seen - witness.unsure).items():
        truth.unexplained.append(f"{till} card {asn.hex()[-4:]}: {count} more than anybody saw")


def _booked(connection: Connection) -> Iterator[Booked]:
    """Every CAPTURE of every lane with its postings."""
    lane, terminal = schema.lane, schema.terminal
    postings = _postings(connection)
    lanes = connection.execute(
        select(lane.c.terminal, lane.c.epoch, terminal.c.code).join(
            terminal, terminal.c.id == lane.c.terminal
        )
    ).all()
    for row in lanes:
        for seq, record, _ in archive.walk(connection, (row.terminal, row.epoch)):
            if record is None or record.kind != Kind.CAPTURE or record.inst is None:
                continue
            what = Announced(row.code, record.inst, record.fen, record.get("purse_after"))
            key = (row.terminal, row.epoch, seq)
            yield Booked(what, key, postings[(*key, record.inst, record.fen)])


def _postings(connection: Connection) -> Counter[tuple[int, int, int, bytes, int]]:
    """How often a record took fen from a card's purse."""
    transfer, card = schema.transfer, schema.card
    query = select(
        transfer.c.terminal, transfer.c.epoch, transfer.c.seq, card.c.asn, transfer.c.fen
    ).join(card, card.c.purse == transfer.c.debit)
    return Counter(tuple(row) for row in connection.execute(query))


def _debits(connection: Connection) -> Counter[tuple[str, bytes]]:
    """Debits of purses by till and card, whoever got the money."""
    transfer, card, terminal = schema.transfer, schema.card, schema.terminal
    query = (
        select(terminal.c.code, card.c.asn)
        .select_from(transfer)
        .join(card, card.c.purse == transfer.c.debit)
        .join(terminal, terminal.c.id == transfer.c.terminal)
    )
    return Counter((row.code, row.asn) for row in connection.execute(query))


def _purses_off(engine: Engine, cards: Sequence[SimCard]) -> list[str]:
    """Cards whose chip and shadow differ."""
    shadow = shadows(engine)
    return [
        f"card {asn_of(card).hex()[-4:]}: chip {card.balance_fen}, books {shadow[asn_of(card)]}"
        for card in cards
        if shadow[asn_of(card)] != card.balance_fen
    ]


def _money_off(campus: Campus) -> int:
    """What left the chips less what arrived at merchants, in suspense and in wallets, fen."""
    books = campus.books()
    left = sum(campus.plan.opening_fen - card.balance_fen for card in campus.cards)
    lead = ("merchant", "suspense")
    arrived = sum(fen for code, fen in books.balances.items() if code.split(":")[0] in lead)
    return left - arrived - books.wallets_fen
