"""One campus of real processes for the tests that can share it: broker, centre, six tills.

It is started by the first test that wants it, replaced after a test that failed, and stopped when
the last test of this folder is over. Every process is ended by its own pid, whatever happens.
"""

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware.base.rng import SystemRng
from sim.campus.burst import heal
from sim.campus.campus import Campus, CampusPlan
from sim.campus.ledger_truth import Truth, Witness, judge
from sim.campus.till import TillPlan
from sim.card import SimCard
from sim.pcsc import PcscStage

DRIVERS = {
    "T0001": "pn532",
    "T0002": "nfcpy",
    "T0003": "pcsc",
    "T0004": "pn532",
    "T0005": "pn532",
    "T0006": "pcsc",
}
HERE = Path(__file__).parent


@dataclass
class Line:
    """The running campus, what people saw so far, and cards by purpose."""

    campus: Campus
    witness: Witness

    @property
    def markers(self) -> list[tuple[str, SimCard]]:
        """One card of its own for each till."""
        return list(zip(DRIVERS, self.campus.cards, strict=False))

    def cards(self, first: int, count: int) -> list[SimCard]:
        """Cards that are no marker."""
        found = self.campus.cards[len(DRIVERS) :][first : first + count]
        for card in found:
            card.delays_ms = {}
        return found

    def verdict(self) -> Truth:
        """Heal, compare, audit."""
        heal(self.campus, self.markers, self.witness)
        return judge(self.campus, self.witness)


class Shared:
    """Keeps the campus between tests."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._line: Line | None = None

    def get(self, folder: Path) -> Line:
        """The running campus, started if need be."""
        if self._line is None:
            self._line = self._start(folder)
        return self._line

    def _start(self, folder: Path) -> Line:
        stage = self._stack.enter_context(PcscStage(1, folder / "pcscd"))
        wires = {"T0003": stage.slot(0, 0), "T0006": stage.slot(0, 1)}
        plans = [
            TillPlan(
                name,
                f"00000000000{name[-1]}",
                fixed_fen=300 + n,
                driver=driver,
                reader_name=wires[name].name if name in wires else "",
            )
            for n, (name, driver) in enumerate(DRIVERS.items())
        ]
        plan = CampusPlan(plans, cards=70, env=stage.env, flush_ms=300)
        campus = Campus(folder, plan, SystemRng(), dict(wires))
        self._stack.callback(campus.stop)
        campus.start()
        return Line(campus, Witness())

    def close(self) -> None:
        """Stop everything."""
        self._line = None
        self._stack.close()


SHARED = Shared()


@pytest.fixture
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """The shared campus."""
    return SHARED.get(tmp_path_factory.mktemp("line"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A campus in which a test failed is not used again."""
    report = yield
    if report.failed and HERE in item.path.parents:
        SHARED.close()
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Nothing of this folder runs while others are tested."""
    if nextitem is None or HERE not in nextitem.path.parents:
        SHARED.close()
