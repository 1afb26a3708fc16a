"""A terminal that was copied, or restored from a backup, is fenced; a new epoch sells again.

Both branches are kept: one is in the centre's archive, the other in its quarantine.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Table, select

from firmware.base.rng import SystemRng
from protocols.wire.cose import open1
from protocols.wire.record import Kind, Record
from protocols.wire.segment import Segment
from sim.campus.burst import heal, serve
from sim.campus.campus import Campus, CampusPlan, journal_tip, wait_until
from sim.campus.ledger_truth import Witness, judge
from sim.campus.processes import onecard
from sim.campus.till import End, TillPlan, TillRig
from sync.central import archive, schema
from sync.central.engine import reading
from sync.central.settings import FILE

pytestmark = pytest.mark.slow
NAME = "T0001"
PLAN = TillPlan(NAME, "000000000001")
PAUSED = "暂停服务"


class Scene:
    """A campus with one till; a copy of it may sell beside it."""

    def __init__(self, folder: Path) -> None:
        self.campus = Campus(folder, CampusPlan([PLAN], cards=6, flush_ms=300), SystemRng())
        self.witness = Witness()
        self.others: list[TillRig] = []

    @property
    def till(self) -> TillRig:
        return self.campus.tills[NAME]

    def sell(self, till: TillRig, *numbers: int) -> None:
        for n in numbers:
            assert serve(till, self.campus.cards[n], self.witness) is End.PAID

    def halt(self) -> None:
        """Both processes of the till end, as at night."""
        self.till.terminal.stop()
        self.till.daemon.stop()

    def copy(self, folder: Path) -> TillRig:
        """The till's folder copied, with a reader of its own."""
        shutil.copytree(self.till.folder, folder)
        made = TillRig(PLAN, folder, self.till.folder / "sam.json")
        self.others.append(made)
        return made

    def rows(self, table: Table) -> list[dict[str, object]]:
        with reading(self.campus.engine) as connection:
            return [dict(row._mapping) for row in connection.execute(select(table))]

    def fenced(self, till: TillRig) -> None:
        """The screen says 暂停服务 and a card buys nothing."""
        wait_until(lambda: _shows(till, PAUSED), 20, till.terminal.tail)
        card = self.campus.cards[0]
        before = card.balance_fen
        assert till.tap(card, 1.0).end is not End.PAID
        assert card.balance_fen == before

    def resolve(self) -> int:
        """`onecard central fork resolve` by two persons; the new epoch."""
        one = self.office("fork", "resolve", NAME, "--by", "Li", "Li")
        assert one.returncode == 2, one.stdout
        done = self.office("fork", "resolve", NAME, "--by", "Li", "Wang")
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["epoch"])

    def office(self, *words: str) -> subprocess.CompletedProcess[str]:
        config = str(self.campus.folder / "centre" / FILE)
        command = onecard("central", *words, "--config", config)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def quarantined(self) -> list[tuple[bytes | None, int]]:
        """Card and balance after of every CAPTURE in quarantine, in order."""
        found = []
        for row in self.rows(schema.quarantine):
            raw = row["raw"]
            assert isinstance(raw, bytes)
            for body in Segment.decode(open1(raw).payload).bodies:
                record = Record.decode(body)
                if record.kind == Kind.CAPTURE:
                    found.append((record.inst, record.get("purse_after")))
        return found

    def archived(self) -> list[bytes]:
        """Hashes of everything posted in epoch 1."""
        with reading(self.campus.engine) as connection:
            return [digest for _, _, digest in archive.walk(connection, (1, 1))]


def _shows(till: TillRig, text: str) -> bool:
    latest = till.terminal.latest
    return latest is not None and any(text in line for line in latest.customer)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        made.campus.start()
        yield made
    finally:
        for other in made.others:
            other.stop()
        made.campus.stop()


def test_a_copied_terminal_is_fenced(scene: Scene, tmp_path: Path) -> None:
    """Two journals of one lane: the second branch posts nothing, is kept, and both tills stop."""
    scene.sell(scene.till, 0, 1)
    scene.campus.wait_synced()
    scene.halt()
    copy = scene.copy(tmp_path / "copy")
    for till in (scene.till, copy):
        till.terminal.start()
        till.wait_for("请刷卡")
    scene.sell(scene.till, 0, 2)
    mine, scene.witness = scene.witness, Witness()
    scene.sell(copy, 3, 4)
    scene.till.daemon.start()
    scene.campus.wait_synced()
    posted = scene.archived()
    copy.daemon.start()
    wait_until(lambda: len(scene.quarantined()) == 2, 30, copy.daemon.tail)
    assert [row["code"] for row in scene.rows(schema.fork)] == ["JOURNAL_FORK"]
    assert scene.quarantined() == [(s.asn, s.after_fen) for s in scene.witness.announced]
    scene.fenced(copy)
    scene.fenced(scene.till)
    assert scene.archived() == posted
    copy.stop()

    scene.witness = mine
    assert scene.resolve() == 2
    scene.campus.open_shift(scene.till)
    scene.sell(scene.till, 0, 3, 4, 5)
    scene.campus.wait_synced()
    truth = judge(scene.campus, mine)
    booked = (truth.lost, truth.duplicated, truth.out_of_order, truth.unexplained)
    assert booked == ([], [], [], []), truth.why()
    assert truth.violations == []  # the audit names what only the copy's branch explains
    assert truth.money_off_fen == 2 * PLAN.fixed_fen
    purses = next(c for c in scene.campus.audit()[1] if c["invariant"] == "C6 purses")
    assert str(purses["detail"]).count(f" {PLAN.fixed_fen} fen") == 2, purses


def test_a_terminal_restored_from_a_backup_is_fenced(scene: Scene, tmp_path: Path) -> None:
    """Yesterday's folder comes back: it is behind the books, and sells only in a new epoch."""
    scene.sell(scene.till, 0, 1)
    scene.campus.wait_synced()
    scene.halt()
    backup = shutil.copytree(scene.till.folder, tmp_path / "backup")
    scene.till.terminal.start()
    scene.till.daemon.start()
    scene.till.wait_for("请刷卡")
    scene.sell(scene.till, 1, 2, 3)
    scene.campus.wait_synced()
    posted = scene.archived()
    scene.halt()
    shutil.rmtree(scene.till.folder)
    shutil.copytree(backup, scene.till.folder)
    scene.till.terminal.start()
    scene.till.daemon.start()
    wait_until(lambda: bool(scene.rows(schema.fork)), 30, scene.till.daemon.tail)
    codes = {row["code"] for row in scene.rows(schema.fork)}
    assert codes <= {"JOURNAL_ROLLBACK", "JOURNAL_FORK"}, codes
    scene.fenced(scene.till)
    assert scene.archived() == posted
    assert journal_tip(scene.till.journal)[1] < len(posted)

    assert scene.resolve() == 2
    scene.campus.open_shift(scene.till)
    scene.sell(scene.till, 0, 2, 4)
    heal(scene.campus, [(NAME, scene.campus.cards[5])], scene.witness)
    truth = judge(scene.campus, scene.witness)
    assert truth.clean, truth.why()
