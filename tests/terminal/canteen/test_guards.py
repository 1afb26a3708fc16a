"""Guards of the till that nothing else would miss: each test fails when its guard is removed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from firmware.ports import Reply
from protocols.card.purse import PurchaseInit
from protocols.money import Fen
from protocols.wire import cbor
from protocols.wire.record import Kind
from sim.card import SimCard
from sim.till_office import OPERATOR, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State

FEN, START_FEN = 1_250, 9_000
INIT, DEBIT, PROVE = 0x50, 0x54, 0x5A


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """An open till."""
    found = TillRig(tmp_path)
    found.open_shift()
    return found


class Claiming(SimCard):
    """A card whose INITIALIZE answer is what a test says."""

    claim: bytes = b""

    def exchange(self, apdu: bytes) -> bytes:
        """As any card, but for INITIALIZE."""
        answer = super().exchange(apdu)
        return self.claim + b"\x90\x00" if apdu[1] == INIT else answer


@pytest.mark.parametrize(
    ("offseq", "overdraft", "alg", "code"),
    [
        (65_535, 0, 1, "CARD_COUNTER_FULL"),
        (0, 1, 1, "CARD_PROFILE"),
        (0, 0, 99, "CARD_PROFILE"),
    ],
)
def test_what_initialize_forbids(
    rig: TillRig, offseq: int, overdraft: int, alg: int, code: str
) -> None:
    """A used-up counter, an overdraft, an algorithm of nobody: no INTENT (card.md §5.1 row 4)."""
    card = rig.issue(asn(1), START_FEN)
    card.__class__ = Claiming
    assert isinstance(card, Claiming)
    card.claim = PurchaseInit(Fen(START_FEN), offseq, overdraft, 1, alg, bytes(4)).encode()
    rig.sell(FEN, card)
    assert f"[{code}]" in rig.display.shown[-1].operator[1]
    assert "INTENT" not in rig.kinds()


def test_card_swapped_while_the_field_is_off(rig: TillRig) -> None:
    """Recovery starts the card cold: another card that lies there then proves nothing."""
    card, other = rig.issue(asn(1), START_FEN), rig.issue(asn(2), START_FEN)
    rig.cards.trouble[DEBIT] = "CARD_MUTE"
    rig.sell(FEN, card)
    rig.cards.trouble.clear()
    records = rig.kinds()
    reset: Callable[[int], None] = rig.cards.reset

    def swapping(token: int) -> None:
        rig.cards.card = other
        reset(token)

    rig.cards.reset = swapping  # type: ignore[method-assign]
    rig.cards.sent.clear()
    rig.put(card)
    assert PROVE not in [apdu[1] for apdu in rig.cards.sent]
    assert rig.kinds() == records
    assert rig.state is State.IN_DOUBT


def test_answer_to_an_older_question(rig: TillRig) -> None:
    """A late answer is nothing: a refusal that belongs to another APDU does not void a debit."""
    card = rig.issue(asn(1), START_FEN)
    transmit = rig.cards.transmit

    def late(token: int, apdu: bytes, deadline_ms: int) -> None:
        if apdu[1] == DEBIT:
            rig.cards.post(Reply(token - 1, b"\x93\x02"))
        transmit(token, apdu, deadline_ms)

    rig.cards.transmit = late  # type: ignore[method-assign]
    rig.sell(FEN, card)
    assert rig.kinds()[-2:] == ["INTENT", "CAPTURE"]
    assert rig.state is State.APPROVED


@pytest.mark.parametrize("right", ["shift", "void"])
def test_one_right_is_not_the_other(rig: TillRig, right: str) -> None:
    """Who may open a shift may not void, and the other way round."""
    clerk = asn(77)
    rows = [[OPERATOR, "王", None, ["shift", "void"]], [clerk, "李", None, [right]]]
    rig.office.publish("operators", 2, cbor.dumps(rows), 2)
    rig.poll()
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    for key, needed in (("VOID", "void"), ("SHIFT", "shift")):
        rig.keys(f"CANCEL {key}")
        rig.tap(rig.issue(clerk, 0))
        refused = "[OPERATOR_UNKNOWN]" in rig.display.shown[-1].operator[1]
        assert refused is (needed != right), key
    closed = [r for kind, r in rig.records() if kind == Kind.SHIFT and r.get("action") == 1]
    assert len(closed) == (right == "shift")


def test_the_centres_word_about_another_epoch(rig: TillRig) -> None:
    """A halt of an epoch that is over stops nothing; the grant in force restarts nothing."""
    rig.office.halt(2)
    rig.office.say("grant", rig.grant)
    rig.poll()
    assert rig.state is State.IDLE
    assert not rig.till.restart_wanted
    rig.office.halt(1)
    rig.poll()
    assert rig.state is State.PAUSED
