"""The audit: I1 to I6 of faults.md §2, named with keys and amounts where they do not hold.

`quick` runs every virtual hour on plain SQL; `final` recomputes everything after the heal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sim.auditor import books as ledger
from sim.auditor.books import Books
from sim.auditor.cards import CardAudit

if TYPE_CHECKING:
    from sim.world.station import Station
    from sim.world.truth import Truth

FENCED, CLOSED = 1, 2
_UNEQUAL = """
    SELECT a.code, b.fen, coalesce(c.fen, 0) - coalesce(d.fen, 0) FROM balance b
    JOIN account a ON a.id = b.account
    LEFT JOIN (SELECT credit AS k, sum(fen) AS fen FROM transfer GROUP BY credit) c
        ON c.k = b.account
    LEFT JOIN (SELECT debit AS k, sum(fen) AS fen FROM transfer GROUP BY debit) d
        ON d.k = b.account
    WHERE b.fen <> coalesce(c.fen, 0) - coalesce(d.fen, 0) ORDER BY a.code
"""
_OWNERS = """
    SELECT c.asn, s.ctr, s.before_fen, s.after_fen FROM card_seen s JOIN card c ON c.id = s.card
    WHERE s.class = 0 ORDER BY s.rowid LIMIT -1 OFFSET ?
"""
_LANES = """
    SELECT t.code, l.epoch, l.next_seq, l.tip_h,
        (SELECT coalesce(sum(n), 0) FROM segment s
            WHERE s.terminal = l.terminal AND s.epoch = l.epoch)
    FROM lane l JOIN terminal t ON t.id = l.terminal ORDER BY t.code, l.epoch
"""


class Auditor:
    """Compares the books with the truth."""

    def __init__(self, path: Path, truth: Truth, stations: Mapping[str, Station]) -> None:
        self._path = path
        self._truth = truth
        self._stations = stations
        self._owners = 0  # proved debits compared so far

    def quick(self) -> None:
        """Sums, and every lane against what its terminal was told is durable."""
        with ledger.opened(self._path) as connection:
            total = connection.execute("SELECT coalesce(sum(fen), 0) FROM balance").fetchone()[0]
            if total:
                self._truth.broken("I1", f"the balances add up to {total} fen, not to 0")
            for code, fen, moved in connection.execute(_UNEQUAL):
                text = f"account {code}: balance {fen} fen, its transfers {moved} fen"
                self._truth.broken("I1", text)
            for row in connection.execute(_LANES):
                self._lane(*row)
            for asn, ctr, before, after in connection.execute(_OWNERS, (self._owners,)).fetchall():
                self._owner(bytes(asn), ctr, before, after)
                self._owners += 1

    def _owner(self, asn: bytes, ctr: int, before: int, after: int) -> None:
        """A debit the centre takes for proved must be one that the chip made."""
        card = self._truth.holders[asn].card
        found = [moved for moved in card.history if moved.ctr == ctr]
        if not found:
            text = f"card {asn.hex()} ctr {ctr}: {before - after} fen proved in the books"
            self._truth.broken("I4", f"{text}, the chip made no such debit")
        elif (before, after) != (found[0].balance + found[0].fen, found[0].balance):
            text = f"card {asn.hex()} ctr {ctr}: {before} to {after} fen in the books"
            self._truth.broken("I4", f"{text}, the chip ended at {found[0].balance}")

    def _lane(self, term: str, epoch: int, next_seq: int, tip: bytes, archived: int) -> None:
        where = f"{term} epoch {epoch}"
        station = self._stations[term]
        if archived != next_seq - 1:
            self._truth.broken("I2", f"{where}: {archived} records archived, cursor {next_seq}")
        rows = station.shadow.known(epoch)
        self._acked(station, epoch, next_seq)
        if station.restored == epoch or next_seq == 1:
            return
        if next_seq - 1 > len(rows):
            text = f"{where}: the books hold seq {next_seq - 1}, the terminal wrote {len(rows)}"
            self._truth.broken("I2", text)
        elif rows[next_seq - 2][1] != tip:
            self._truth.broken("I2", f"{where}: head at seq {next_seq - 1} is not the terminal's")

    def forgotten(self, station: Station, epoch: int, seq: int) -> None:
        """A terminal deleted its records up to `seq`: the books must hold them."""
        with ledger.opened(self._path) as connection:
            found = connection.execute(
                "SELECT l.next_seq FROM lane l JOIN terminal t ON t.id = l.terminal"
                " WHERE t.code = ? AND l.epoch = ?",
                (station.term, epoch),
            ).fetchone()
        if found is None or found[0] <= seq:
            held = 0 if found is None else found[0] - 1
            text = f"{station.term} epoch {epoch}: records up to {seq} deleted, the books"
            self._truth.broken("I2", f"{text} hold {held}")

    def believes(self, station: Station) -> None:
        """What a terminal takes for acknowledged must be in the books."""
        with ledger.opened(self._path) as connection:
            for term, epoch, next_seq, _, _ in connection.execute(_LANES):
                if term == station.term:
                    self._acked(station, epoch, next_seq)

    def _acked(self, station: Station, epoch: int, next_seq: int) -> None:
        acked = station.acked
        if acked is not None and acked.epoch == epoch and acked.seq > next_seq - 1:
            text = f"{station.term} epoch {epoch}: seq {acked.seq} counts as acknowledged,"
            self._truth.broken("I2", f"{text} the books end at {next_seq - 1}")

    def diverged(self, station: Station) -> bool:
        """Whether the books hold records that an old copy of the disk does not.

        One whose books end at or before it lost only what nobody else ever saw: that cannot show.
        """
        with ledger.opened(self._path) as connection:
            for term, epoch, next_seq, tip, _ in connection.execute(_LANES):
                if (term, epoch) == (station.term, station.restored) and next_seq > 1:
                    rows = station.shadow.known(epoch)
                    return bool(next_seq - 1 > len(rows) or rows[next_seq - 2][1] != tip)
        return False

    def drained(self) -> bool:
        """Whether every terminal's newest epoch has arrived completely."""
        with ledger.opened(self._path) as connection:
            cursors = {(row[0], row[1]): row[2] for row in connection.execute(_LANES)}
        return all(
            station.powered and cursors.get((term, station.epoch), 1) == station.shadow.tip()[1] + 1
            for term, station in self._stations.items()
        )

    # ---- after the heal

    def final(self) -> None:
        """Everything."""
        self.quick()
        books = ledger.read(self._path)
        for fault in books.faults:
            self._truth.broken("I2", fault)
        self._complete(books)
        self._floors(books)
        self._suspense(books)
        self._restored(books)
        CardAudit(books, self._truth, self._stations).run()

    def _complete(self, books: Books) -> None:
        """Every terminal's records are in the archive, byte for byte; of a fenced branch, a part."""
        stopped = {(lane.term, lane.epoch) for lane in books.lanes if lane.state}
        for term, station in self._stations.items():
            for epoch, rows in sorted(station.shadow.rows.items()):
                bodies = books.archive.get((term, epoch), [])
                if station.restored == epoch and (term, epoch) in stopped:
                    continue
                if len(bodies) != len(rows):
                    text = f"{term} epoch {epoch}: {len(rows)} written, {len(bodies)} in the books"
                    self._truth.broken("I2", text)
                for n, (have, want) in enumerate(zip(bodies, rows, strict=False), start=1):
                    if have != want[0]:
                        self._truth.broken("I2", f"{term} epoch {epoch} seq {n}: other bytes")
                        break

    def _floors(self, books: Books) -> None:
        for account, floor in books.floors.items():
            if books.balances[account] < floor:
                text = f"account {books.codes[account]}: {books.balances[account]} fen"
                self._truth.broken("I5", f"{text} below its floor {floor}")

    def _suspense(self, books: Books) -> None:
        """Every fen in suspense has an open item that says why."""
        sums: dict[int, int] = {}
        for items in books.items.values():
            for account, fen, _ in items:
                sums[account] = sums.get(account, 0) + fen
        for account, code in sorted(books.codes.items()):
            have, want = books.balances[account], sums.get(account, 0)
            if code.startswith("suspense:") and have != want:
                text = f"account {code}: {have} fen, open items {want} fen"
                self._truth.broken("I4", text)

    def _restored(self, books: Books) -> None:
        """An old copy that the books contradict is fenced, and lives on in a new epoch."""
        states = {(lane.term, lane.epoch): lane.state for lane in books.lanes}
        for term, station in self._stations.items():
            if not station.restored or not self.diverged(station):
                continue
            key = (term, station.restored)
            if key not in books.forks or states.get(key) not in (FENCED, CLOSED):
                self._truth.broken("I6", f"{term} epoch {key[1]}: an old copy was not fenced")
            if station.epoch <= station.restored:
                self._truth.broken("I6", f"{term}: no new epoch after an old copy was put back")
