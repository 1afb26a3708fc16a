"""Commands of the centre: once, between two records, verified here, never under a running sale."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.wire.cose import P256Signer
from protocols.wire.record import Kind
from sim.card import Tear, TearAt
from sim.till_office import START_US, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.commands import DOUBT_DONE
from terminal.ledger.audit import audit_journal

LATER_US = START_US + 86_400_000_000
NAME = bytes(range(16))


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """A till with one sale in doubt in front of the cashier."""
    found = TillRig(tmp_path)
    found.open_shift()
    card = found.issue(asn(1), 5_000)
    card.plan(Tear(TearAt.AFTER_COMMIT, 3))
    found.sell(500, card)
    return found


def _intent(rig: TillRig) -> int:
    return next(r.seq for kind, r in rig.records() if kind == Kind.INTENT)


def _tail(rig: TillRig) -> list[str]:
    kinds = rig.kinds()
    return kinds[kinds.index("CMD") :] if "CMD" in kinds else []


def test_the_centre_closes_a_doubt(rig: TillRig) -> None:
    """CMD, DOUBT_DONE, CMD_DONE{ok}; only after the cashier settled the sale; only once."""
    intent = _intent(rig)
    rig.office.order(NAME, DOUBT_DONE, [1, intent, 1, "tac"], LATER_US)
    rig.poll()
    assert _tail(rig) == []
    rig.keys("CANCEL")
    rig.poll()
    assert _tail(rig) == ["CMD", "DOUBT_DONE", "CMD_DONE"]
    done = next(r for kind, r in rig.records() if kind == Kind.DOUBT_DONE)
    assert (done.ref, done.get("decision"), done.get("via")) == (intent, "committed", "tac")
    assert rig.journal.state.intents == {}
    rig.reboot()
    rig.office.writes += 1
    rig.poll()
    assert rig.kinds().count("CMD") == 1
    assert all(check.ok for check in audit_journal(rig.folder / "journal"))


@pytest.mark.parametrize(
    ("kind", "body", "deadline_us", "result"),
    [
        (DOUBT_DONE, [1, 7, 1, "tac"], START_US - 1, "CMD_EXPIRED"),
        (77, None, LATER_US, "CMD_UNKNOWN"),
        (DOUBT_DONE, None, LATER_US, "CMD_FORM"),
        (DOUBT_DONE, [1, 7, 9, "tac"], LATER_US, "CMD_FORM"),
        (DOUBT_DONE, [1, 7, 1, 5], LATER_US, "CMD_FORM"),
        (DOUBT_DONE, [1, 9_999, 1, "tac"], LATER_US, "CMD_SETTLED"),
        (DOUBT_DONE, [5, 7, 1, "tac"], LATER_US, "CMD_SETTLED"),
    ],
)
def test_commands_without_effect(
    rig: TillRig, kind: int, body: Any, deadline_us: int, result: str
) -> None:
    """Late, unknown, malformed, or about something settled: answered, nothing done."""
    rig.keys("CANCEL")
    rig.office.order(NAME, kind, body, deadline_us)
    rig.poll()
    assert _tail(rig) == ["CMD", "CMD_DONE"]
    assert rig.records()[-1][1].get("result") == result


def test_a_strangers_command_is_no_command(rig: TillRig) -> None:
    """Signed by another key: no record, no effect."""
    stranger = P256Signer(ec.derive_private_key(12_345, ec.SECP256R1()))
    rig.keys("CANCEL")
    rig.office.order(NAME, DOUBT_DONE, [1, _intent(rig), 1, "tac"], LATER_US, stranger)
    rig.poll()
    assert _tail(rig) == []


def test_not_under_a_running_tap(rig: TillRig) -> None:
    """A command that arrives while a card is being served waits for the end of the tap."""
    rig.keys("CANCEL")
    intent = _intent(rig)

    def arrive(apdu: bytes) -> None:
        if apdu[1] == 0x5A:
            rig.office.order(NAME, DOUBT_DONE, [1, intent, 1, "tac"], LATER_US)
            rig.cards.before = None
            rig.poll()

    rig.cards.before = arrive
    rig.sell(100, rig.issue(asn(2), 5_000))
    assert rig.state is State.APPROVED
    rig.wait(3_000)
    rig.cards.before = arrive
    card = rig.issue(asn(1), 5_000)
    card.age(offline=1)
    rig.sell(100, card)
    assert "CMD" not in rig.kinds()
    rig.wait(3_000)
    rig.keys("CANCEL")
    rig.poll()
    assert _tail(rig)[:1] == ["CMD"]
    assert all(check.ok for check in audit_journal(rig.folder / "journal"))


def test_the_intent_of_another_epoch(rig: TillRig) -> None:
    """The same seq in an older epoch is not the intent that is open here."""
    rig.keys("CANCEL")
    rig.office.order(NAME, DOUBT_DONE, [2, _intent(rig), 1, "tac"], LATER_US)
    rig.poll()
    assert rig.records()[-1][1].get("result") == "CMD_SETTLED"
    assert list(rig.journal.state.intents) == [_intent(rig)]


def test_a_command_under_other_names(rig: TillRig) -> None:
    """The daemon's id is its own word: a command it files again is still carried out once."""
    rig.keys("CANCEL")
    rig.office.order(NAME, DOUBT_DONE, [1, _intent(rig), 1, "tac"], LATER_US)
    signed = rig.office.orders[0][1]
    rig.office.orders.append((bytes(16), signed))
    rig.poll()
    rig.office.orders.append((bytes([1]) * 16, signed))
    rig.office.writes += 1
    rig.poll()
    rig.poll()
    assert rig.kinds().count("CMD") == 1
