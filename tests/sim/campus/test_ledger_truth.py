"""The comparison of what people saw with the books finds each kind of lie."""

from collections import Counter
from dataclasses import replace

import pytest

from protocols.bcd import encode_bcd
from sim.campus.ledger_truth import Announced, Booked, Truth, Witness, look_up
from sim.campus.till import End, Shown, Tapped
from sim.card import SimCard
from sim.card_memory import Masters
from sim.seeded import SeededRng

ASN = encode_bcd("1".zfill(20))
FIRST = Announced("T0001", ASN, 300, 1_700)
SECOND = Announced("T0001", ASN, 300, 1_400)
BOOKED = [Booked(FIRST, (1, 1, 5), 1), Booked(SECOND, (1, 1, 7), 1)]


def verdict(seen: list[Announced], booked: list[Booked], unsure: int = 0) -> Truth:
    witness = Witness()
    witness.announced = seen
    witness.unsure["T0001", ASN] = unsure
    truth = Truth(len(seen), len(seen), in_doubt=0, resolved=0, unsynced=0)
    debits = Counter({("T0001", ASN): sum(one.postings for one in booked)})
    look_up(truth, witness, booked, debits)
    return truth


def test_equal_books_are_clean() -> None:
    """Every sale once, in order, nothing else."""
    assert verdict([FIRST, SECOND], BOOKED).clean


@pytest.mark.parametrize(
    ("seen", "booked", "what"),
    [
        ([FIRST, SECOND], BOOKED[:1], "lost"),
        ([FIRST], [replace(BOOKED[0], postings=0)], "lost"),
        ([FIRST], [Booked(replace(FIRST, till="T0002"), (2, 1, 5), 1)], "lost"),
        ([FIRST], [replace(BOOKED[0], postings=2)], "duplicated"),
        ([FIRST], [BOOKED[0], replace(BOOKED[0], key=(1, 1, 9))], "duplicated"),
        ([SECOND, FIRST], BOOKED, "out_of_order"),
        ([FIRST], BOOKED, "unexplained"),
    ],
)
def test_every_lie_is_named(seen: list[Announced], booked: list[Booked], what: str) -> None:
    """Missing, unposted, elsewhere, twice by posting or by record, swapped, never announced."""
    truth = verdict(seen, booked)
    assert getattr(truth, what)
    assert not truth.clean
    assert what in truth.why()


def test_a_tap_whose_end_nobody_saw_may_be_booked() -> None:
    """A till killed between CAPTURE and its screen: one debit more is explained, two are not."""
    assert verdict([FIRST], BOOKED, unsure=1).clean
    assert not verdict([], BOOKED, unsure=1).clean


@pytest.mark.parametrize("field", ["unsynced", "money_off_fen", "in_doubt"])
def test_counts_that_must_be_zero(field: str) -> None:
    """Unsent records, money that went nowhere and open doubts spoil a verdict."""
    truth = verdict([FIRST], BOOKED[:1])
    assert truth.clean
    setattr(truth, field, 1)
    assert not truth.clean


def test_the_screen_names_the_sale() -> None:
    """Amount and balance come from the customer's line; other ends are counted apart."""
    masters = Masters(*(bytes([n]) * 16 for n in range(4)))
    card = SimCard.issue(ASN, masters, SeededRng(1), balance_fen=2_000)
    witness = Witness()
    shown = Shown((), ("成功", "消费 3.00 余额 17.00", "Paid"), "paid", 0.0)
    assert witness.saw("T0001", card, Tapped(End.PAID, shown)) is End.PAID
    refused = Shown((), ("余额不足",), "refused", 0.0)
    witness.saw("T0001", card, Tapped(End.REFUSED, refused))
    witness.saw("T0001", card, Tapped(End.SILENT, None))
    assert witness.announced == [FIRST]
    assert witness.refused == {"余额不足": 1}
    assert witness.unsure == {("T0001", ASN): 1}
    assert witness.taps == 3
