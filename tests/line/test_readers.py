"""A tap pays through every reader: own PN532 driver, nfcpy, and the real pcscd with vpcd."""

from functools import partial
from typing import TYPE_CHECKING

import pytest

from sim.campus.burst import everywhere, serve
from sim.campus.till import TillRig
from sim.card import SimCard

if TYPE_CHECKING:
    from conftest import Line

pytestmark = pytest.mark.slow
READERS = ("T0001", "T0002", "T0003")
TAPS = 3


def test_every_reader_pays(line: "Line") -> None:
    """Three sales at each till, each till by its own driver; books and chips equal, audit clean."""
    before = len(line.witness.announced)
    tills = [line.campus.tills[name] for name in READERS]
    assert [till.plan.driver for till in tills] == ["pn532", "nfcpy", "pcsc"]

    def customers(till: TillRig, card: SimCard) -> None:
        for _ in range(TAPS):
            serve(till, card, line.witness)

    cards = line.cards(0, len(READERS))
    everywhere([partial(customers, till, card) for till, card in zip(tills, cards, strict=True)])
    seen = line.witness.announced[before:]
    assert sorted(sale.till for sale in seen) == sorted(READERS * TAPS)
    truth = line.verdict()
    assert truth.clean, truth.why()
