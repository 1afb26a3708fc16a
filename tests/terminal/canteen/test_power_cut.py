"""Power lost around every append: nothing acknowledged is lost, nothing is served twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocols.wire.record import Kind
from sim.card import Tear, TearAt
from sim.till_office import asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.ledger.audit import audit_journal

FEN, START_FEN = 1_250, 9_000


class PowerCutError(BaseException):
    """The mains are gone: no handler of the product may see it."""


def _cut(rig: TillRig, kind: Kind, *, durable: bool) -> None:
    """Lose power at the next append of this kind, before or after it is durable."""
    append: Callable[..., Any] = rig.journal.append

    def cutting(asked: Kind, **fields: Any) -> Any:
        if asked is not kind:
            return append(asked, **fields)
        if durable:
            append(asked, **fields)
        raise PowerCutError

    rig.journal.append = cutting  # type: ignore[method-assign]


def _lose_power(rig: TillRig, act: Callable[[], None]) -> None:
    with pytest.raises(PowerCutError):
        act()
    if rig.cards.card is not None:
        rig.cards.card.power_off()
    rig.reboot()


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("kind", [Kind.INTENT, Kind.CAPTURE])
def test_cut_in_a_purchase(tmp_path: Path, kind: Kind, durable: bool) -> None:
    """After the boot the cashier is asked; the same card ends the sale with one debit in all."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    _cut(rig, kind, durable=durable)
    _lose_power(rig, lambda: rig.sell(FEN, card))
    assert rig.display.beeps("paid") == 0
    open_sale = (kind, durable) in [(Kind.INTENT, True), (Kind.CAPTURE, False)]
    assert rig.state is (State.ASK_SERVED if open_sale else State.IDLE)
    if open_sale:
        assert rig.kinds()[-1] == "DOUBT"
        rig.tap(card)
        assert rig.state is State.APPROVED
        assert card.balance_fen == START_FEN - FEN
    booked = sum(r.fen for found, r in rig.records() if found == Kind.CAPTURE)
    assert START_FEN - card.balance_fen == booked
    assert all(check.ok for check in audit_journal(tmp_path / "journal"))


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("kind", [Kind.DOUBT, Kind.VOID, Kind.CAPTURE])
@pytest.mark.parametrize("place", [TearAt.BEFORE_COMMIT, TearAt.AFTER_COMMIT])
def test_cut_around_a_tear(tmp_path: Path, place: TearAt, kind: Kind, durable: bool) -> None:
    """A tear and a power cut together still leave card and journal equal after healing."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    card.plan(Tear(place, 3))
    if kind is Kind.DOUBT:
        _cut(rig, kind, durable=durable)
        _lose_power(rig, lambda: rig.sell(FEN, card))
    else:
        rig.sell(FEN, card)
        _cut(rig, kind, durable=durable)
        try:
            rig.tap(card)
        except PowerCutError:
            card.power_off()
            rig.reboot()
    for _ in range(3):
        if rig.state is State.IDLE:
            rig.sell(FEN, card)
        if rig.state in (State.ASK_SERVED, State.IN_DOUBT, State.ARMED):
            rig.tap(card)
    booked = sum(r.fen for found, r in rig.records() if found == Kind.CAPTURE)
    assert START_FEN - card.balance_fen == booked
    assert booked >= FEN
    assert not rig.journal.state.intents
    assert all(check.ok for check in audit_journal(tmp_path / "journal"))


@pytest.mark.parametrize("answer", ["ENTER", "CANCEL"])
def test_asked_after_the_boot(tmp_path: Path, answer: str) -> None:
    """已出餐? yes keeps the sale for the merchant, no abandons it; neither is asked again."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    _cut(rig, Kind.CAPTURE, durable=False)
    _lose_power(rig, lambda: rig.sell(FEN, card))
    rig.keys(answer)
    assert rig.kinds()[-1] == ("ALARM" if answer == "ENTER" else "ABANDON")
    rig.reboot()
    assert rig.state is State.IDLE
    rig.sell(300, card)
    assert rig.state is State.APPROVED
    late = [r for kind, r in rig.records() if kind == Kind.CAPTURE and r.get("late")]
    assert [r.fen for r in late] == [FEN]
    assert card.balance_fen == START_FEN - FEN - 300
