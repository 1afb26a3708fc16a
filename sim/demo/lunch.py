"""The lunch: who taps what, when the cable is pulled, which card leaves too early.

Every sale that a till announces is noted as a person would remember it; after the cable is back and
everything has been sent, the books must say exactly the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.money import format_yuan
from sim.campus.campus import Campus, wait_until
from sim.campus.compare import Comparison, Seen, asn_of, compare
from sim.campus.till import End, Tapped, TillRig
from sim.card import SimCard, Tear, TearAt
from sim.seeded import SeededRng

FIXED, KEYED = "T0001", "T0002"
FIXED_FEN = 300
DEBIT_INS = 0x54
SLOW_DEBIT_MS = 900
EVENTS_SHOWN = 12


@dataclass(slots=True)
class Tally:
    """What the people at the counter saw."""

    taps: int = 0
    paid: int = 0
    refused: int = 0
    in_doubt: int = 0
    resolved: int = 0
    seen: list[Seen] = field(default_factory=list)
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))


@dataclass(frozen=True, slots=True)
class Report:
    """The end: counts, comparison, audit."""

    tally: Tally
    unsynced: int
    comparison: Comparison
    audit_ok: bool
    checks: list[dict[str, object]]

    @property
    def clean(self) -> bool:
        """Whether every fen is accounted for."""
        return self.audit_ok and self.comparison.clean and self.unsynced == 0

    def as_json(self) -> dict[str, object]:
        """The object of `--json`."""
        return {
            "taps": self.tally.taps,
            "paid": self.tally.paid,
            "refused": self.tally.refused,
            "in_doubt": self.tally.in_doubt,
            "resolved": self.tally.resolved,
            "unsynced": self.unsynced,
            "lost": len(self.comparison.lost),
            "duplicated": len(self.comparison.duplicated),
            "purses_off": len(self.comparison.purses_off),
            "audit": "ok" if self.audit_ok else "violated",
            "violations": [str(c["invariant"]) for c in self.checks if not c["ok"]],
        }


class Lunch:
    """Plays the acts in order on a started campus; `tell` gets one line per happening."""

    def __init__(self, campus: Campus, rng: SeededRng, tell: Callable[[str], None]) -> None:
        self.campus = campus
        self.tally = Tally()
        self._rng = rng
        self._tell = tell
        self._tear_apdu = 3

    def play(self, extra_s: Callable[[], bool]) -> Report:
        """The whole lunch; `extra_s` says whether a random sale more is wanted."""
        self.online()
        self.offline()
        self.pulled()
        self.killed()
        while extra_s():
            self.random_sale()
        return self.close()

    # --- acts ---------------------------------------------------------------------------------

    def online(self) -> None:
        """Fixed price and keyed amounts with the network up."""
        self._say("联网消费 / paid online")
        for n in range(4):
            self.fixed(self._card(n))
        for n, fen in enumerate((450, 1_230, 85)):
            self.keyed(self._card(4 + n), fen)

    def offline(self) -> None:
        """The cable is pulled: nothing changes for the person in the queue."""
        self._say("网线拔掉 / the cable is pulled")
        self.campus.cutter.cut()
        for n in range(3):
            self.fixed(self._card(n))
            self.keyed(self._card(3 + n), 200 + 35 * n)
        poor = self.campus.cards[-1]
        self.keyed(poor, 4_900)

    def pulled(self) -> None:
        """Cards that leave in the middle of the debit: before and after the chip committed."""
        till = self.campus.tills[FIXED]
        for at in (TearAt.AFTER_COMMIT, TearAt.BEFORE_COMMIT):
            card = self._card(1 if at is TearAt.AFTER_COMMIT else 2)
            card.plan(Tear(at, self._debit_apdu(till)))
            self._say(f"扣款中拔卡 ({at.value}) / card pulled mid-debit")
            self.fixed(card)
            self._say("重新放卡 / the same card again")
            self.fixed(card)

    def killed(self) -> None:
        """kill -9 of the terminal while the card works on the debit; then a restart."""
        till = self.campus.tills[FIXED]
        card = self._card(3)
        card.delays_ms = {DEBIT_INS: SLOW_DEBIT_MS}
        self._say("扣款中断电 / terminal killed -9 mid-debit")
        self.tally.taps += 1
        till.clear()
        sent = card.sent_count
        till.lay(card)
        wait_until(lambda: card.sent_count > sent + self._debit_apdu(till), 10)
        till.terminal.kill()
        self.tally.in_doubt += 1
        till.lift()
        card.delays_ms = {}
        till.terminal.start()
        till.wait_for("已出餐")
        self._say("重启后重新放卡 / restarted, the card again")
        self._tap(till, card, FIXED_FEN, doubt_open=True)

    def random_sale(self) -> None:
        """One more of the queue."""
        card = self._card(self._rng.below(len(self.campus.cards) - 1))
        if self._rng.below(2):
            self.fixed(card)
        else:
            self.keyed(card, 50 + self._rng.below(900))

    def close(self) -> Report:
        """The cable is back; everything is sent, compared and audited."""
        self._say("网线接回 / the cable is back")
        self.campus.cutter.heal()
        self.campus.wait_synced(120)
        wait_until(self._settled, 60, lambda: str(self.campus.books()))
        unsynced = sum(self.campus.unsynced().values())
        comparison = compare(self.campus.engine, self.tally.seen, self.campus.cards)
        ok, checks = self.campus.audit()
        return Report(self.tally, unsynced, comparison, ok, checks)

    def _settled(self) -> bool:
        books = self.campus.books()
        return books.open_doubts == 0 and books.open_items == 0

    # --- one sale -----------------------------------------------------------------------------

    def fixed(self, card: SimCard) -> Tapped:
        """A sale at the fixed-price till."""
        return self._tap(self.campus.tills[FIXED], card, FIXED_FEN)

    def keyed(self, card: SimCard, fen: int) -> Tapped:
        """A sale at the till where the cashier keys the amount."""
        till = self.campus.tills[KEYED]
        till.clear()
        till.terminal.keys(" ".join(format_yuan(fen)) + " ENTER")
        till.wait_for("请刷卡")
        return self._tap(till, card, fen)

    def _tap(self, till: TillRig, card: SimCard, fen: int, *, doubt_open: bool = False) -> Tapped:
        doubtful = doubt_open or till.in_doubt
        tapped = till.tap(card)
        self.tally.taps += 0 if doubt_open else 1
        till.in_doubt = tapped.end is End.DOUBT
        self._count(tapped, doubtful)
        name, number = till.plan.name, asn_of(card).hex()[-4:]
        if tapped.end is End.PAID:
            self.tally.seen.append(Seen(name, asn_of(card), fen))
        said = tapped.shown.customer if tapped.shown is not None else ("?",)
        self._say(f"{name} 卡…{number} {format_yuan(fen)} 元: {' '.join(said[:2])}")
        return tapped

    def _count(self, tapped: Tapped, doubtful: bool) -> None:
        if tapped.end is End.PAID:
            self.tally.paid += 1
            self.tally.resolved += doubtful
        elif tapped.end is End.REFUSED:
            self.tally.refused += 1
        elif tapped.end is End.DOUBT:
            self.tally.in_doubt += 1

    def _debit_apdu(self, till: TillRig) -> int:
        """Which exchange of a tap is the DEBIT: SELECT, newest record, INITIALIZE, DEBIT."""
        return self._tear_apdu

    def _card(self, n: int) -> SimCard:
        return self.campus.cards[n % (len(self.campus.cards) - 1)]

    def _say(self, line: str) -> None:
        self.tally.events.append(line)
        self._tell(line)
