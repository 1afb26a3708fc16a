"""A sale in doubt while the till itself is stopped, and cards that say more than a card may."""

from pathlib import Path

import pytest

from firmware.drivers.soft_sam import SoftSam
from firmware.errors import SamError
from firmware.ports import CardIn, Mac1Answer, Mac1Ask, SamInfo
from protocols.card.suite import Pboc3Des
from protocols.wire.record import Kind
from sim.card import SimCard
from sim.till_office import MASTERS, TID, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.canteen.till import Poll

FEN, START_FEN = 1_250, 9_000
DEBIT, READ_RECORD = 0x54, 0xB2


class Talker(SimCard):
    """A card that answers READ RECORD with more than was asked for."""

    def exchange(self, apdu: bytes) -> bytes:
        """As any card, but for records."""
        answer = super().exchange(apdu)
        return bytes(200) + b"\x90\x00" if apdu[1] == READ_RECORD else answer


class FailingSam:
    """A software SAM that can be pulled."""

    def __init__(self) -> None:
        self._sam = SoftSam(MASTERS.mpk, TID, 1, Pboc3Des(), development=True)
        self.pulled = False

    def info(self) -> SamInfo:
        """Its number, while it is there."""
        return self._there().info()

    def mac1(self, ask: Mac1Ask) -> Mac1Answer:
        """MAC1, while it is there."""
        return self._there().mac1(ask)

    def check_mac2(self, mac2: bytes) -> bool:
        """MAC2, while it is there."""
        return self._there().check_mac2(mac2)

    def _there(self) -> SoftSam:
        if self.pulled:
            raise SamError(reason="pulled")
        return self._sam


def _in_doubt(rig: TillRig, card: SimCard) -> None:
    """A sale whose DEBIT never reached the card."""
    rig.cards.trouble[DEBIT] = "CARD_MUTE"
    rig.sell(FEN, card)
    rig.cards.trouble.clear()
    assert rig.state is State.IN_DOUBT


def _debits(rig: TillRig) -> int:
    return sum(apdu[1] == DEBIT for apdu in rig.cards.sent)


@pytest.mark.parametrize("again", [False, True])
def test_record_longer_than_asked_for(tmp_path: Path, again: bool) -> None:
    """It is no record: the till neither carries it away nor stumbles, in recovery neither."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    plain = rig.issue(asn(1), START_FEN)
    plain.__class__ = Talker
    if again:
        _in_doubt(rig, plain)
        rig.tap(plain)
    else:
        rig.sell(FEN, plain)
    assert rig.state is State.APPROVED
    intents = [record for kind, record in rig.records() if kind == Kind.INTENT]
    assert [intent.get("prev") for intent in intents] == [None] * len(intents)


def test_uid_longer_than_any(tmp_path: Path) -> None:
    """A reader that names 12 bytes: cut, and the sale is made."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    rig.keys("5 ENTER")
    card.power_on()
    rig.cards.card = card
    rig.till.on_event(CardIn(bytes(12), "iso14443a"))
    assert rig.state is State.APPROVED


@pytest.mark.parametrize("other", [False, True])
def test_halted_while_a_sale_is_in_doubt(tmp_path: Path, other: bool) -> None:
    """The doubt is settled, but nobody is debited anew: neither its card nor the next one."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    _in_doubt(rig, card)
    rig.office.halt(1)
    rig.wait(6_000)
    rig.till.on_event(Poll())
    sent = _debits(rig)
    rig.tap(rig.issue(asn(2), START_FEN) if other else card)
    assert _debits(rig) == sent
    assert rig.kinds()[-1] == ("ABANDON" if other else "VOID")
    rig.keys("ENTER")
    assert rig.state is State.PAUSED


@pytest.mark.parametrize("name", ["cards", "policy"])
def test_restart_without_lists_while_a_sale_is_in_doubt(tmp_path: Path, name: str) -> None:
    """A daemon that lost, or hides, a list after a restart: no debit without it."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    _in_doubt(rig, card)
    rig.office.messages.pop(f"list_head:{name}")
    rig.reboot()
    rig.tap(card)
    assert _debits(rig) == 0
    assert rig.kinds()[-1] == "VOID"
    assert "[LIST_MISSING]" in rig.display.shown[-1].operator[1]


def test_restart_without_a_sam_while_a_sale_is_in_doubt(tmp_path: Path) -> None:
    """SAM_FAIL, the doubt stays with the cashier; it ends when the SAM is back."""
    sam = FailingSam()
    rig = TillRig(tmp_path, sam=sam)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    _in_doubt(rig, card)
    sam.pulled = True
    rig.reboot()
    rig.tap(card)
    assert rig.state is State.ASK_SERVED
    assert "[SAM_FAIL]" in rig.display.shown[-1].operator[1]
    sam.pulled = False
    rig.wait(6_000)
    rig.till.on_event(Poll())
    rig.tap(card)
    assert (rig.state, _debits(rig)) == (State.APPROVED, 1)
