"""A broker that confirms records and then forgets them costs nothing; trusting it would.

The same day is lived through by the product and, at the till beside it, by a mutant that prunes on
PUBACK. The mutant must lose records, or the test proves nothing.
"""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from firmware.base.rng import SystemRng
from protocols.wire import cbor
from sim.brokers import wait_listening
from sim.campus.burst import everywhere, kill_broker, serve
from sim.campus.campus import Campus, CampusPlan, journal_tip, wait_until
from sim.campus.compare import asn_of, shadows
from sim.campus.ledger_truth import Witness, judge
from sim.campus.till import TillPlan, TillRig
from sim.card import SimCard
from terminal.inbox import InboxFile
from terminal.ledger.volume import volumes

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
HONEST, MUTANT = "T0001", "T0002"
ROLL, TAPS = 100, 24
FIRST_VOLUME = "E00001-0000000001.db"


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


def confirmed(till: TillRig) -> int:
    """The last record that the broker said it has."""
    inbox = InboxFile(till.folder / "sync.db")
    raw = inbox.kept("puback")
    inbox.close()
    return 0 if raw is None else int(cbor.loads(raw)[1])


def sell(till: TillRig, cards: list[SimCard], witness: Witness) -> None:
    """Sales until the first volume is full; nothing is sent meanwhile (the daemon is halted)."""
    os.kill(till.daemon.pid, signal.SIGSTOP)
    for n in range(TAPS):
        serve(till, cards[n % len(cards)], witness)
    till.terminal.keys("CANCEL")  # the last message fades at once: housekeeping begins
    wait_until(lambda: len(volumes(till.journal)) > 1, 30, lambda: "never rolled")


def confirm(till: TillRig) -> None:
    """The daemon goes on, and the broker takes everything of the first volume."""
    last = volumes(till.journal)[1].first_seq - 1
    os.kill(till.daemon.pid, signal.SIGCONT)
    wait_until(lambda: confirmed(till) >= last, 30, lambda: f"{confirmed(till)} of {last}")


def records(campus: Campus, name: str) -> int:
    """What the centre has of a till."""
    return next(line.records for line in campus.books().terminals if line.code == name)


def pruned(till: TillRig) -> bool:
    return not (till.journal / FIRST_VOLUME).exists()


def test_a_broker_that_forgets_costs_nothing(campus: Campus) -> None:
    """Centre down, broker confirms and dies with its store: the product sends everything again."""
    witnesses = {HONEST: Witness(), MUTANT: Witness()}
    cards = {HONEST: campus.cards[:4], MUTANT: campus.cards[4:]}
    campus.wait_synced()
    everywhere([partial(sell, campus.tills[n], cards[n], witnesses[n]) for n in witnesses])
    campus.central.kill()
    everywhere([partial(confirm, campus.tills[name]) for name in witnesses])
    wait_until(lambda: pruned(campus.tills[MUTANT]), 30, lambda: "the mutant never pruned")
    assert not pruned(campus.tills[HONEST])
    sold = journal_tip(campus.tills[HONEST].journal)[1]
    campus.cutter.cut()
    kill_broker(campus)
    wait_listening(campus.config.broker_port)
    campus.central.start()
    wait_listening(campus.config.enrol_port)
    campus.cutter.heal()
    wait_until(lambda: records(campus, HONEST) >= sold, 60, lambda: str(campus.unsynced()))

    honest = judge(campus, witnesses[HONEST], audit=False)
    assert (honest.lost, honest.duplicated, honest.out_of_order) == ([], [], [])
    shadow = shadows(campus.engine)
    for card in cards[HONEST]:
        assert shadow[asn_of(card)] == card.balance_fen
    wait_until(lambda: pruned(campus.tills[HONEST]), 30, lambda: "acknowledged, but never pruned")
    assert volumes(campus.tills[HONEST].journal)

    mutant = judge(campus, witnesses[MUTANT], audit=False)
    assert len(mutant.lost) >= TAPS // 2, mutant.as_json()
    assert not mutant.clean
