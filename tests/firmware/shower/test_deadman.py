"""The proof at commissioning: only a board that extends and then shuts by itself passes."""

import pytest

from firmware.base.clock import SystemClock
from firmware.board_line import LineSetup
from firmware.deadman import POLL_MS, DeadmanProof, prove_deadman
from firmware.drivers.relay_bus import RelayBus
from firmware.errors import DeadmanUnprovedError
from firmware.ports import BusLost, Flow
from sim.bus_line import PtyLine
from sim.shower_board import BoardFault, ShowerBoard
from sim.shower_rig import ShowerRig


def run(rig: ShowerRig) -> str | None:
    """The proof against the rig's board in virtual time; the step that failed, or None."""
    rig.boot(POLL_MS)
    rig.advance(200)
    proof, heard = DeadmanProof(rig.now_ms), len(rig.heard)
    while not proof.over:
        for _, event in rig.heard[heard:]:
            proof.on_event(event)
        heard = len(rig.heard)
        ms = proof.to_open(rig.now_ms)
        if ms is not None:
            rig.core.open_for(ms, rig.now_ms)
        rig.advance(5)
        assert rig.now_ms < 20_000
    rig.shut()
    return proof.failed


def test_a_good_board_is_proved() -> None:
    """Open at 1.2 s although the first flash was 1.0 s, shut by 1.7 s without a word."""
    rig = ShowerRig()
    assert run(rig) is None
    assert rig.board.flashes == 2
    assert 1_500 <= rig.board.pipe.shut_at_ms - 200 <= 1_700


@pytest.mark.parametrize(
    ("knob", "value", "step"),
    [("extends", False, "extend"), ("expires", False, "expire")],
)
def test_a_board_without_the_dead_man_fails(knob: str, value: object, step: str) -> None:
    """A flash that is not extended, or never ends, is named."""
    rig = ShowerRig()
    setattr(rig.board, knob, value)
    assert run(rig) == step
    rig.advance(1_000)
    assert not rig.board.relay


@pytest.mark.parametrize(
    ("knob", "value", "step"),
    [
        ("stuck", "shut", "open"),
        ("stuck", "open", "shut_before"),
        ("travel_ms", 600, "open"),
        ("travel_ms", 250, "expire"),
    ],
)
def test_a_valve_that_does_not_follow_fails(knob: str, value: object, step: str) -> None:
    """Stuck and slow valves prove nothing."""
    rig = ShowerRig()
    setattr(rig.board.pipe, knob, value)
    assert run(rig) == step


def test_a_bus_that_goes_proves_nothing() -> None:
    """The line dies after the renewal: the step is the bus, or the sample that did not come."""
    rig = ShowerRig()
    rig.board.plan(BoardFault("dead", function=4, skip=12, times=10_000))
    assert run(rig) in ("bus", "extend")


def sample(at_ms: int, *, is_open: bool) -> Flow:
    return Flow(at_ms, 0, is_open, not is_open, 0, slot=False, sensor=True)


def test_a_sample_that_came_too_late_proves_nothing() -> None:
    """Open, but seen after the time for it: the step fails."""
    proof = DeadmanProof(0)
    proof.on_event(sample(10, is_open=False))
    assert proof.to_open(20) == 1_000
    proof.on_event(sample(20 + 500, is_open=True))
    assert proof.failed == "open"


def test_a_lost_bus_fails_the_proof() -> None:
    """BUS_LOST at any step is the end, and later samples change nothing."""
    proof = DeadmanProof(0)
    proof.on_event(BusLost("BUS_LOST"))
    assert proof.failed == "bus"
    proof.on_event(sample(10, is_open=False))
    assert proof.failed == "bus"
    assert proof.to_open(20) is None


def test_no_sample_at_all_fails_in_time() -> None:
    """Without any event the proof ends by itself."""
    proof = DeadmanProof(0)
    due_ms = proof.next_due()
    assert due_ms is not None
    assert proof.to_open(due_ms) is None
    assert proof.failed == "shut_before"
    assert proof.next_due() is None


def test_on_the_wire_in_real_time() -> None:
    """The whole procedure through the driver: a good board passes, one that never ends does not."""
    board = ShowerBoard(now_ms=PtyLine.now_ms())
    with PtyLine(board) as line:
        prove_deadman(RelayBus(line.port, LineSetup(), SystemClock()), SystemClock())
        board.expires = False
        with pytest.raises(DeadmanUnprovedError) as caught:
            prove_deadman(RelayBus(line.port, LineSetup(), SystemClock()), SystemClock())
        assert caught.value.facts == {"step": "expire"}
        assert not board.relay
