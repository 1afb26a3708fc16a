"""A broker that confirms records and then forgets them costs nothing; trusting it would.

The same day is lived through by the product and, at the till beside it, by a mutant that prunes on
PUBACK. The mutant must lose records, or the test proves nothing.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.base.rng import SystemRng
from protocols.wire import cbor
from sim.brokers import wait_listening
from sim.campus.burst import everywhere, kill_broker, serve
from sim.campus.campus import Campus, CampusPlan, journal_tip, wait_until
from sim.campus.compare import asn_of, shadows
from sim.campus.ledger_truth import Witness, judge
from sim.campus.till import TillPlan
from sim.card import SimCard
from terminal.inbox import InboxFile
from terminal.ledger.volume import volumes

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
HONEST, MUTANT = "T0001", "T0002"
ROLL, TAPS = 100, 48


@pytest.fixture
def campus(tmp_path: Path) -> Iterator[Campus]:
    plans = [
        TillPlan(HONEST, "000000000001", roll_records=ROLL, script=HERE / "eager.py"),
        TillPlan(MUTANT, "000000000002", roll_records=ROLL, script=HERE / "prune_on_puback.py"),
    ]
    made = Campus(tmp_path, CampusPlan(plans, cards=8, flush_ms=300), SystemRng())
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Rush:
    """Sales at one till while nothing is sent, and what becomes of the volume that holds them."""

    def __init__(self, campus: Campus, name: str, cards: list[SimCard]) -> None:
        self.till = campus.tills[name]
        self.cards = cards
        self.witness = Witness()
        self.volume = volumes(self.till.journal)[-1]
        self.last = 0

    def sell(self) -> None:
        """Until the volume is full; the daemon is halted meanwhile."""
        os.kill(self.till.daemon.pid, signal.SIGSTOP)
        self.volume = volumes(self.till.journal)[-1]
        for n in range(TAPS):
            serve(self.till, self.cards[n % len(self.cards)], self.witness)
        self.till.terminal.keys("CANCEL")  # the last message fades at once: the till rests
        wait_until(lambda: self._newer() is not None, 30, lambda: "never rolled")
        self.last = journal_tip(self.till.journal)[1]

    def confirm(self) -> None:
        """The daemon goes on, and the broker takes everything of the volume."""
        newer = self._newer()
        assert newer is not None
        os.kill(self.till.daemon.pid, signal.SIGCONT)
        wait_until(lambda: self._confirmed() >= newer - 1, 30, self.till.daemon.tail)

    @property
    def pruned(self) -> bool:
        """Whether the volume is gone."""
        return not self.volume.path.exists()

    def _newer(self) -> int | None:
        found = [v.first_seq for v in volumes(self.till.journal)]
        return next((first for first in found if first > self.volume.first_seq), None)

    def _confirmed(self) -> int:
        """The last record that the broker said it has."""
        inbox = InboxFile(self.till.folder / "sync.db")
        raw = inbox.kept("puback")
        inbox.close()
        return 0 if raw is None else int(cbor.loads(raw)[1])


def records(campus: Campus, name: str) -> int:
    """What the centre has of a till."""
    return next(line.records for line in campus.books().terminals if line.code == name)


def test_a_broker_that_forgets_costs_nothing(campus: Campus) -> None:
    """Centre down, broker confirms and dies with its store: the product sends everything again."""
    campus.wait_synced()
    honest = Rush(campus, HONEST, campus.cards[:4])
    mutant = Rush(campus, MUTANT, campus.cards[4:])
    everywhere([honest.sell, mutant.sell])
    campus.central.kill()
    everywhere([honest.confirm, mutant.confirm])
    wait_until(lambda: mutant.pruned, 30, lambda: "the mutant never pruned")
    assert not honest.pruned
    campus.cutter.cut()
    kill_broker(campus)
    wait_listening(campus.config.broker_port)
    campus.central.start()
    wait_listening(campus.config.enrol_port)
    campus.cutter.heal()
    wait_until(lambda: records(campus, HONEST) >= honest.last, 60, lambda: str(campus.unsynced()))

    truth = judge(campus, honest.witness, audit=False)
    assert (truth.lost, truth.duplicated, truth.out_of_order) == ([], [], [])
    shadow = shadows(campus.engine)
    for card in honest.cards:
        assert shadow[asn_of(card)] == card.balance_fen
    wait_until(lambda: honest.pruned, 30, lambda: "acknowledged, but never pruned")

    believed = judge(campus, mutant.witness, audit=False)
    assert len(believed.lost) >= TAPS // 2, believed.as_json()
    assert not believed.clean
