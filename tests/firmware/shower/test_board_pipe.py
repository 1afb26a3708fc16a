"""What the core makes of a counter that steps, and of a pipe or valve that is broken."""

import pytest

from firmware.ports import Tamper, ValveState
from sim.shower_rig import ShowerRig, ready_rig
from sim.water_pipe import WaterPipe


def test_a_board_that_rebooted_is_opened_again_at_once() -> None:
    """Power dip with water running: COUNTER_REBASED, nothing counted, the next ask opens."""
    rig = ready_rig()
    rig.open()
    rig.advance(2_050)
    before = rig.core.sample
    rig.board.reboot(rig.now_ms)
    rig.advance(500)
    faults = [flow.fault for flow in rig.flows() if flow.fault]
    assert faults == ["COUNTER_REBASED"]
    assert rig.board.relay
    rig.advance(2_000)
    assert rig.core.sample is not None
    assert before is not None
    assert rig.core.sample.pulses > before.pulses
    assert rig.core.sample.pulses <= rig.board.pipe.pulses


@pytest.mark.parametrize(
    ("value", "fault"),
    [(0, "COUNTER_REBASED"), (50_000, "FLOW_IMPOSSIBLE"), ((1 << 32) - 30_000, "FLOW_IMPOSSIBLE")],
)
def test_counter_glitches(value: int, fault: str) -> None:
    """Counter backwards or far ahead: told once, not counted, counting goes on."""
    rig = ready_rig()
    rig.board.set_counter(1_000, rig.now_ms)
    rig.advance(200)
    rig.open()
    rig.advance(1_000)
    seen = len(rig.flows())
    rig.board.set_counter(value, rig.now_ms)
    rig.advance(1_000)
    assert [flow.fault for flow in rig.flows()[seen:] if flow.fault] == [fault]
    assert all(0 <= flow.pulses < 25 for flow in rig.flows())
    assert rig.flows()[-1].pulses > 0


def test_counter_wraps_silently() -> None:
    """Through 2^32 nothing is lost and nothing is told."""
    rig = ShowerRig()
    rig.board.set_counter((1 << 32) - 20, 0)
    rig.boot()
    rig.advance(300)
    rig.open()
    rig.advance(2_000)
    rig.shut()
    rig.advance(500)
    assert not [flow for flow in rig.flows() if flow.fault]
    assert rig.core.sample is not None
    assert rig.core.sample.pulses == rig.board.pipe.pulses > 20


def test_impossible_flow_shows_on_every_poll() -> None:
    """40 l/min is told from the first sample on."""
    rig = ready_rig(WaterPipe(flow_ml_min=40_000))
    rig.open()
    rig.advance(1_000)
    assert [flow.fault for flow in rig.flows() if flow.open_fb][1:4] == ["FLOW_IMPOSSIBLE"] * 3


@pytest.mark.parametrize(
    ("knob", "value", "state"),
    [
        ("stuck", "shut", ValveState.SHUT),
        ("travel_ms", 5_000, ValveState.MOVING),
        ("water", False, ValveState.OPEN),
        ("sensor", False, ValveState.OPEN),
    ],
)
def test_what_a_session_sees_of_a_broken_pipe(knob: str, value: object, state: ValveState) -> None:
    """Stuck shut, slow, water stop, sensor out: the feedback tells, no pulses come."""
    rig = ready_rig()
    setattr(rig.board.pipe, knob, value)
    rig.open()
    rig.advance(1_500)
    assert rig.core.state is state
    last = rig.flows()[-1]
    assert last.pulses == 0
    assert last.sensor is (knob != "sensor")


def test_stuck_open_and_leak_show_as_pulses_with_the_valve_shut() -> None:
    """After a shut: pulses and the open feedback of a stuck valve; pulses at rest of a leak."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    rig.board.pipe.stuck = "open"
    rig.shut()
    rig.advance(2_000)
    assert rig.core.state is ValveState.OPEN
    assert rig.flows()[-1].pulses > 0
    leaking = ready_rig()
    leaking.board.pipe.leak_ml_min = 1_000
    leaking.advance(2_000)
    assert leaking.core.state is ValveState.SHUT
    assert sum(flow.pulses for flow in leaking.flows()) >= 10


def test_tamper_and_slot() -> None:
    """The lid is told when it opens and when it shuts; the slot comes with each sample."""
    rig = ready_rig()
    rig.board.tamper = rig.board.slot = True
    rig.advance(300)
    assert rig.flows()[-1].slot
    rig.board.tamper = False
    rig.advance(300)
    assert rig.events(Tamper) == [Tamper(True), Tamper(False)]
