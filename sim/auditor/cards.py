"""Chips against books: every debit a chip made, and every debit the books believe in (I2, I4).

A debit is found by what only this sale has: terminal number and terminal serial of its INTENT. For
each one the books must show the purse lower by its amount exactly once, and the money where the
goods went: to the merchant who gave them, else to the holder's wallet, or in suspense with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cbor2

from sim.auditor.books import Books, Key, purse_moves
from sim.card_memory import Moved

if TYPE_CHECKING:
    from sim.world.station import Station
    from sim.world.truth import Given, Truth

INTENT, ABANDON, CAPTURE = 10, 16, 11
OPEN_DOUBT = 0
Items = list[Any]


@dataclass(slots=True)
class Sale:
    """One INTENT and what became of it in the world."""

    key: Key
    asn: bytes
    ctr: int
    fen: int
    moved: Moved | None = None
    given: Given | None = None
    abandoned: bool = False
    captured: bool = False
    lost: bool = False  # written in a branch that a restore left behind


@dataclass(slots=True)
class CardAudit:
    """One audit of all cards."""

    books: Books
    truth: Truth
    stations: Mapping[str, Station]
    sales: dict[Key, Sale] = field(default_factory=dict)
    _silent: dict[str, int] = field(default_factory=dict)  # sales of a till that died, by terminal

    def run(self) -> None:
        """Compare everything."""
        self._collect()
        self._goods()
        moves = purse_moves(self.books)
        for key, sale in sorted(self.sales.items()):
            self._sale(sale, dict(moves.pop(key, {})))
        for key, accounts in sorted(moves.items()):
            if any(accounts.values()):
                text = f"{key[0]} epoch {key[1]} seq {key[2]}: transfers about no INTENT"
                self.truth.broken("I4", text)

    # ---- what the world knows

    def _collect(self) -> None:
        by_serial: dict[tuple[bytes, int], Key] = {}
        for term, station in self.stations.items():
            for epoch, rows in station.shadow.rows.items():
                bodies = [(n, body) for n, (body, _) in enumerate(rows, start=1)]
                tail = [(n, body) for at, n, body in station.shadow.abandoned if at == epoch]
                kept = self._branch((term, epoch), bodies, {}, by_serial)
                common = {n: key for n, key in kept.items() if tail and n < tail[0][0]}
                self._branch((term, epoch), tail, common, by_serial)
        for asn, holder in self.truth.holders.items():
            for moved in holder.card.history:
                key = by_serial.get((moved.tid, moved.termseq or 0))
                if key is None:
                    text = f"card {asn.hex()} ctr {moved.ctr}: {moved.fen} fen debited, no INTENT"
                    self.truth.broken("I4", text)
                else:
                    self.sales[key].moved = moved

    def _goods(self) -> None:
        """What went over the counters, each to its sale; never two plates for one."""
        for given in self.truth.given:
            sale = self.sales.get((given.term, given.epoch, given.intent))
            if sale is None or (sale.asn, sale.fen) != (given.asn, given.fen):
                continue  # of a branch that a restore left behind
            if sale.given is not None:
                self.truth.broken("I2", f"{_where(sale)}: goods for {sale.fen} fen given twice")
            sale.given = given

    def _branch(
        self,
        lane: tuple[str, int],
        bodies: list[tuple[int, bytes]],
        keys: dict[int, Key],
        by_serial: dict[tuple[bytes, int], Key],
    ) -> dict[int, Key]:
        """Sales of one run of records; `keys` names the INTENTs before it. Returns all of them."""
        archived = self.books.archive.get(lane, [])
        for seq, body in bodies:
            items = cbor2.loads(body)
            known = self.sales.get(keys.get(items[6] or 0, ("", 0, 0)))
            if items[1] == INTENT:
                booked = len(archived) >= seq and archived[seq - 1] == body
                key = (*lane, seq) if booked else (f"{lane[0]}~", lane[1], len(self.sales))
                self.sales[key] = Sale(key, items[7], items[8], items[9], lost=not booked)
                keys[seq] = by_serial[items[15], items[16]] = key
            elif items[1] == ABANDON and known is not None:
                known.abandoned = True
            elif items[1] == CAPTURE and known is not None:
                known.captured = True
        return keys

    # ---- one sale

    def _sale(self, sale: Sale, accounts: dict[int, int]) -> None:
        purse = self.books.purses.get(sale.asn)
        merchant = self.books.merchants.get(sale.key[0].rstrip("~"))
        assert purse is not None, sale
        assert merchant is not None, sale
        out = -accounts.get(purse, 0)
        want = sale.moved.fen if sale.moved is not None else 0
        if out != want and not self._explained(sale, out, want):
            text = f"{_where(sale)}: the chip paid {want} fen, the purse account {out} fen"
            invariant = "I2" if sale.given is not None and out < want else "I4"
            self.truth.broken(invariant, text)
        if sale.lost:
            return
        self._receiver(sale, accounts, merchant)

    def _explained(self, sale: Sale, out: int, want: int) -> bool:
        """Open doubts, open suspense items and branches left behind by a restore are reasons."""
        if sale.lost:
            self.truth.count("lost_by_restore")
            return self._station_restored(sale) and out == 0
        if want and not out:
            state = self.books.doubts.get(sale.key)
            if state is not None and state[0] == OPEN_DOUBT:
                self.truth.count("doubts_open")
                return True
        return out > want and self._has_item(sale)

    def _station_restored(self, sale: Sale) -> bool:
        return self.stations[sale.key[0].rstrip("~")].restored == sale.key[1]

    def _has_item(self, sale: Sale) -> bool:
        """Whether an open item names this sale."""
        term, epoch, _ = sale.key
        for key, items in self.books.items.items():
            if key[:2] == (term, epoch) and items:
                record = self.books.record(key)
                if key == sale.key or (record is not None and record[6] == sale.key[2]):
                    self.truth.count("suspense_open")
                    return True
        return False

    def _receiver(self, sale: Sale, accounts: dict[int, int], merchant: int) -> None:
        """The merchant has money exactly for goods given."""
        got = accounts.get(merchant, 0)
        paid = sale.moved is not None
        wants = sale.given is not None and not sale.given.returned and paid
        if got and not paid:
            text = f"{_where(sale)}: {got} fen to the merchant for a debit no chip made"
            self.truth.broken("I4", text)
        elif wants and got != sale.fen and not self._waits(sale):
            text = f"{_where(sale)}: goods for {sale.fen} fen given, the merchant has {got}"
            self.truth.broken("I2", text)
        elif got and not wants and not self._unannounced(sale):
            text = f"{_where(sale)}: {got} fen to the merchant, no goods were given"
            self.truth.broken("I2", text)

    def _waits(self, sale: Sale) -> bool:
        """Money that waits for a proof, or a sale a cashier called served and then cancelled."""
        state = self.books.doubts.get(sale.key)
        if state is not None and state[0] == OPEN_DOUBT:
            return True
        if sale.abandoned and sale.given is not None and sale.given.how == "asked":
            return True
        return self._has_item(sale)

    def _unannounced(self, sale: Sale) -> bool:
        """CAPTURE was durable, or the sale still open, when the till died before it could say so."""
        term = sale.key[0]
        self._silent[term] = self._silent.get(term, 0) + 1
        self.truth.count("unannounced")
        return not sale.abandoned and self._silent[term] <= self.stations[term].deaths


def _where(sale: Sale) -> str:
    term, epoch, seq = sale.key
    return f"{term} epoch {epoch} seq {seq} card {sale.asn.hex()} ctr {sale.ctr}"
