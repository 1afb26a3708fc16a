"""Postings as tables: one line per act, its transfers in the last column, then the balances.

T1 sale A 350 => purse:A>merchant:north 350      what the centre posts for the act
T1 late A tac => …                               resolves the terminal's last torn debit
quiet                                            everybody is heard, the workers run
= merchant:north 350                             the balance now
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.wire.record import Kind, own_of
from sync.central.audit import audit_books
from sync.central.engine import open_engine
from sync.central.tac import GivenKeys, TacDesk
from tests.sync.central.pens import Campus, Chip, Pen

TABLES = sorted(Path(__file__).parent.glob("*.table"))
MERCHANTS = {"T1": "north", "T2": "south"}
OPENING_FEN = 10_000


class Table:
    """Runs the lines of one file."""

    def __init__(self, campus: Campus) -> None:
        self.campus = campus
        self.chips: dict[str, Chip] = {}
        self.pens: dict[str, Pen] = {}
        for n, (name, merchant) in enumerate(MERCHANTS.items(), start=1):
            self.pens[name] = campus.terminal(f"T000{n}", merchant, 100 + n)
            self.pens[name].begin()
        self.torn: dict[str, Any] = {}
        self.sold: dict[str, int] = {}
        self.seen = 0
        campus.centre.publish_cards(campus.idem(), "office")
        self.posted()

    def run(self, line: str) -> str:
        """Do one act; the transfers it caused."""
        words = line.split()
        if words[0] == "quiet":
            self.campus.marks(*self.pens.values())
            self.campus.marks(*self.pens.values())
        elif words[0] == "office":
            self.office(*words[1:])
        else:
            acts: dict[str, Callable[..., None]] = {
                "sale": self.sale,
                "forged": self.forged,
                "torn": self.tear,
                "late": self.late,
                "abandon": self.abandon,
                "void": self.void,
                "reverse": self.reverse,
                "kind": self.kind,
            }
            acts[words[1]](words[0], *words[2:])
            pen = self.pens[words[0]]
            self.campus.give(pen.segment())
            self.campus.clock.step(2)
        return self.posted()

    def chip(self, name: str) -> Chip:
        if name not in self.chips:
            self.chips[name] = self.campus.card(OPENING_FEN, known=not name.startswith("x"))
            self.posted()
        return self.chips[name]

    def sale(self, term: str, card: str, fen: str) -> None:
        _, capture = self.pens[term].sale(self.chip(card), int(fen))
        self.sold[term] = capture.seq

    def forged(self, term: str, card: str, fen: str) -> None:
        pen, chip = self.pens[term], self.chip(card)
        self.sold[term] = pen.capture(chip, pen.intent(chip, int(fen)), b"evil").seq

    def tear(self, term: str, card: str, fen: str, outcome: str) -> None:
        pen, chip = self.pens[term], self.chip(card)
        intent = pen.intent(chip, int(fen))
        pen.doubt(intent)
        self.torn[term] = intent
        if outcome == "paid":
            chip.paid(int(fen))

    def late(self, term: str, card: str, proof: str) -> None:
        pen, chip, intent = self.pens[term], self.chip(card), self.torn[term]
        pen.late(chip, intent, chip.tac(intent) if proof == "tac" else None, "record")

    def abandon(self, term: str) -> None:
        self.pens[term].add(Kind.ABANDON, ref=self.torn[term].seq)

    def void(self, term: str) -> None:
        intent = self.torn[term]
        own = own_of(Kind.VOID, via="counter")
        self.pens[term].add(Kind.VOID, ref=intent.seq, inst=intent.inst, fen=intent.fen, own=own)

    def reverse(self, term: str, card: str, fen: str) -> None:
        self.pens[term].reverse(self.chip(card), self.sold[term], int(fen))

    def kind(self, term: str, kind: str, fen: str) -> None:
        self.pens[term].add(int(kind), fen=int(fen), own=("x",) * 5)

    def office(self, act: str, card: str) -> None:
        centre, asn = self.campus.centre, self.chip(card).asn
        {"loss": centre.report_loss, "lift": centre.lift_loss}[act](
            self.campus.idem(), "office", asn
        )
        self.campus.clock.step(2)

    def posted(self) -> str:
        """Transfers since the last call, as `debit>credit fen`."""
        rows = self.campus.rows(
            "SELECT d.code AS debit, c.code AS credit, t.fen FROM transfer t"
            " JOIN account d ON d.id = t.debit JOIN account c ON c.id = t.credit"
            " ORDER BY t.rowid"
        )
        fresh, self.seen = rows[self.seen :], len(rows)
        legs = [f"{self.named(r.debit)}>{self.named(r.credit)} {r.fen}" for r in fresh]
        return ", ".join(legs) or "-"

    def balance(self, name: str) -> int:
        chip = self.chips.get(name.partition(":")[2])
        if chip is not None:
            of_purse = name.startswith("purse")
            return self.campus.purse(chip) if of_purse else self.campus.wallet(chip)
        return self.campus.fen(name)

    def named(self, code: str) -> str:
        """Account codes with the table's own card names."""
        for name, chip in self.chips.items():
            if code == f"purse:{chip.asn.hex()}":
                return f"purse:{name}"
            sql = "SELECT a.code FROM card c JOIN account a ON a.id = c.wallet WHERE c.asn = :a"
            if any(row.code == code for row in self.campus.rows(sql, a=chip.asn)):
                return f"wallet:{name}"
        return code


def lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(path.read_text("utf-8").splitlines(), start=1):
        line = text.partition("#")[0].strip()
        if line:
            yield number, line


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_table(path: Path, tmp_path: Path) -> None:
    """Every line of the file gives its last column; the books are clean at the end."""
    engine = open_engine(f"sqlite:///{tmp_path / 'centre.db'}")
    table = Table(Campus(engine))
    checked = 0
    for number, line in lines(path):
        if line.startswith("="):
            _, account, fen = line.split()
            assert table.balance(account) == int(fen), f"{path.name}:{number} {account}"
        else:
            act, _, expected = line.partition("=>")
            found = table.run(act.strip())
            assert found == (expected.strip() or "-"), f"{path.name}:{number}"
        checked += 1
    keys = TacDesk(GivenKeys(table.campus.mtk))
    wrong = [c for c in audit_books(engine, True, keys, table.campus.clock.now_us) if not c.ok]
    assert wrong == []
    assert checked > 3
    engine.dispose()


def test_there_are_tables() -> None:
    """A lost folder does not pass silently."""
    assert {path.stem for path in TABLES} >= {"sales", "suspense", "doubts", "loss"}
