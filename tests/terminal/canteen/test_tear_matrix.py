"""A card torn at every APDU and every place: chip and journal agree, and nobody pays twice."""

from pathlib import Path

import pytest

from protocols.wire.record import Kind
from sim.card import SimCard, Tear, TearAt
from sim.till_office import asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State

PLACES = [
    Tear(TearAt.BEFORE_DELIVERY),
    Tear(TearAt.BEFORE_COMMIT),
    Tear(TearAt.AFTER_COMMIT),
    Tear(TearAt.MID_REPLY, reply_count=1),
    Tear(TearAt.MID_REPLY, reply_count=2),
    Tear(TearAt.MID_REPLY, reply_count=5),
    Tear(TearAt.MID_REPLY, reply_count=9),
]
PURCHASE_APDUS = 4  # SELECT, READ RECORD, INITIALIZE, DEBIT
RECOVERY_APDUS = 18  # plus reset, SELECT, PROVE, records, INITIALIZE, DEBIT
FEN = 1_250
START_FEN = 9_000


def _torn(tear: Tear, apdu: int) -> Tear:
    return Tear(tear.at, apdu, tear.reply_count)


def _booked(rig: TillRig) -> int:
    return sum(r.fen for kind, r in rig.records() if kind == Kind.CAPTURE)


def _check(rig: TillRig, card: SimCard) -> None:
    """Chip decrease = captures + open doubts that committed; each outcome at most once."""
    taken = START_FEN - card.balance_fen
    doubts = sum(intent.fen for intent in rig.journal.state.doubts())
    assert _booked(rig) <= taken <= _booked(rig) + doubts
    served = rig.display.beeps("paid")
    shown = sum(kind == Kind.CAPTURE for kind, _ in rig.records())
    assert served <= shown


@pytest.mark.parametrize("apdu", range(PURCHASE_APDUS))
@pytest.mark.parametrize("tear", PLACES, ids=str)
def test_purchase_torn_then_healed(tmp_path: Path, tear: Tear, apdu: int) -> None:
    """One tear anywhere in a purchase, the same card again: exactly one debit, one service."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    card.plan(_torn(tear, apdu))
    rig.sell(FEN, card)
    _check(rig, card)
    if rig.state not in (State.APPROVED, State.IDLE):
        assert rig.state in (State.IN_DOUBT, State.ARMED, State.DECLINED), rig.state
        rig.tap(card)
    assert rig.state is State.APPROVED
    assert card.balance_fen == START_FEN - FEN
    assert _booked(rig) == FEN
    assert rig.display.beeps("paid") == 1
    assert not rig.journal.state.intents


@pytest.mark.parametrize("first", [TearAt.BEFORE_COMMIT, TearAt.AFTER_COMMIT])
@pytest.mark.parametrize("apdu", range(RECOVERY_APDUS))
@pytest.mark.parametrize("tear", PLACES, ids=str)
def test_recovery_torn_then_healed(tmp_path: Path, tear: Tear, apdu: int, first: TearAt) -> None:
    """A second tear anywhere inside the recovery changes nothing: it starts again."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    card.plan(Tear(first, 3))
    rig.sell(FEN, card)
    assert rig.state is State.IN_DOUBT
    card.plan(_torn(tear, apdu))
    for _ in range(3):
        if rig.state is State.APPROVED:
            break
        rig.tap(card)
        _check(rig, card)
    assert rig.state is State.APPROVED
    assert card.balance_fen == START_FEN - FEN
    assert _booked(rig) == FEN
    assert rig.display.beeps("paid") == 1


@pytest.mark.parametrize("committed", [False, True])
def test_other_card_after_a_tear(tmp_path: Path, committed: bool) -> None:
    """Another card is refused for 5 s, then served; the torn sale is abandoned, its owner healed."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    torn, next_card = rig.issue(asn(1), START_FEN), rig.issue(asn(2), START_FEN)
    torn.plan(Tear(TearAt.AFTER_COMMIT if committed else TearAt.BEFORE_COMMIT, 3))
    rig.sell(FEN, torn)
    rig.tap(next_card)
    assert rig.state is State.IN_DOUBT
    assert "请让上一位重新放卡" in rig.display.text
    rig.wait(5_000)
    rig.tap(next_card)
    assert rig.state is State.APPROVED
    assert next_card.balance_fen == START_FEN - FEN
    assert rig.kinds().count("ABANDON") == 1
    rig.wait(3_000)
    rig.sell(300, torn)  # its next visit settles the old doubt, then sells
    assert rig.state is State.APPROVED
    assert torn.balance_fen == START_FEN - FEN * committed - 300
    assert _booked(rig) == FEN + 300 + FEN * committed
    assert not rig.journal.state.intents
