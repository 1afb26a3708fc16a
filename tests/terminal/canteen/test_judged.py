"""What a returning card proves at the till: relays, rollbacks, and what only the centre can decide."""

from dataclasses import replace
from pathlib import Path

import pytest

from protocols.card import purse
from protocols.wire.record import Kind
from sim.card import Tear, TearAt
from sim.relay import Relay, Tricks
from sim.till_office import asn
from sim.till_rig import TillRig
from terminal.canteen.asks import CardTrouble, Transmit
from terminal.canteen.gather import exchange
from terminal.canteen.moves import State
from terminal.errors import TapCutError


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """An open till."""
    found = TillRig(tmp_path)
    found.open_shift()
    return found


def test_a_card_that_goes_ends_the_tap() -> None:
    """A reader's trouble before the DEBIT is TAP_CUT inside the pipeline, with the reader's code."""
    going = exchange(purse.get_balance())
    assert isinstance(next(going), Transmit)
    with pytest.raises(TapCutError) as caught:
        going.send(CardTrouble("CARD_GONE", sent=True))
    assert caught.value.reason == "CARD_GONE"


def _relayed(rig: TillRig, relay: Relay, fen: int) -> None:
    """Swallow the DEBIT, come back with a made-up record and a lifted counter."""
    relay.tricks = Tricks(swallow_debit=True)
    rig.sell(fen, relay)
    assert rig.state is State.IN_DOUBT
    relay.tricks = Tricks(invent_record=True, counter_lift=1)
    rig.tap(relay)


def test_relay_with_made_up_records(rig: TillRig) -> None:
    """A relay eats once for at most record_only_fen_max, then its records buy nothing."""
    card = rig.issue(asn(1), 9_000)
    relay = Relay(card, Tricks())
    _relayed(rig, relay, 3_001)
    assert rig.display.beeps("paid") == 0
    assert rig.kinds()[-2:] == ["ABANDON", "CAPTURE"]
    assert "请到卡务中心" in rig.display.text
    rig.wait(3_000)
    _relayed(rig, relay, 3_000)
    assert rig.display.beeps("paid") == 1
    rig.wait(3_000)
    _relayed(rig, relay, 100)
    assert rig.display.beeps("paid") == 1
    assert rig.records()[-1][1].get("via") == "record"
    rig.reboot()
    assert asn(1) in rig.journal.state.unconfirmed
    assert card.balance_fen == 9_000


def test_relay_against_its_own_proof(rig: TillRig) -> None:
    """A record that says yes while PROVE says no is forged: DOUBT_UP, suspect, refused for good."""
    relay = Relay(rig.issue(asn(1), 9_000), Tricks(swallow_debit=True))
    rig.sell(500, relay)
    proof = bytes(8) + b"\x90\x00"
    relay.tricks = Tricks(invent_record=True, counter_lift=1, replay_prove=proof)
    rig.tap(relay)
    assert rig.kinds()[-2:] == ["ABANDON", "DOUBT_UP"]
    assert rig.records()[-1][1].get("forged") == 1
    assert rig.display.beeps("paid") == 0
    rig.wait(3_000)
    relay.tricks = Tricks()
    rig.sell(500, relay)
    assert "请到卡务中心" in rig.display.text
    assert rig.display.beeps("paid") == 0


def test_card_that_counts_backwards(rig: TillRig) -> None:
    """CARD_ROLLBACK: alarm, the card is refused, its doubt stays."""
    card = rig.issue(asn(1), 9_000)
    card.age(offline=7)
    card.plan(Tear(TearAt.BEFORE_COMMIT, 3))
    rig.sell(500, card)
    card.age(offline=3)
    rig.tap(card)
    assert "CARD_ROLLBACK" in str(rig.display.shown[-1].operator)
    assert rig.kinds()[-2:] == ["ABANDON", "ALARM"]
    assert len(rig.journal.state.doubts()) == 1


def test_undecided_goes_to_the_centre_once(rig: TillRig) -> None:
    """Used elsewhere and records unreadable: DOUBT_UP with all evidence, the card is served."""
    rig.profile = replace(rig.profile, record_pin_free=False)
    rig.reboot()
    card = rig.issue(asn(1), 9_000)
    card.plan(Tear(TearAt.BEFORE_COMMIT, 2))
    rig.sell(500, card)
    assert rig.state is State.IN_DOUBT
    card.age(offline=5)
    rig.tap(card)
    assert rig.state is State.APPROVED
    assert rig.kinds().count("DOUBT_UP") == 1
    evidence = next(r for kind, r in rig.records() if kind == Kind.DOUBT_UP).get("evidence")
    assert evidence[4] == 5
    rig.keys("CANCEL")
    rig.sell(100, card)
    assert rig.kinds().count("DOUBT_UP") == 1
    assert card.balance_fen == 9_000 - 600
