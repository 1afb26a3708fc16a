"""The CJ/T 188 meter: both DI orders, makers' manners, coarse steps, a valve without a dead-man."""

import time

import pytest

from firmware.base.clock import SystemClock
from firmware.drivers.water_meter import WaterMeter
from firmware.meter_line import MeterLine, MeterSetup
from firmware.ports import BusEvent, BusLost, BusOk, Flow, ValveState
from firmware.reactor import Reactor
from protocols.bus.cjt188 import BROADCAST, VALVE_CLOSE, VALVE_OPEN, MeterProfile
from sim.bus_line import PtyLine, VirtualBus
from sim.water_meter import ValveMeter

ADDRESS = bytes.fromhex("05000001000000")


class Rig:
    """One meter and our core for it in virtual time."""

    def __init__(self, meter: ValveMeter | None = None, **setup: object) -> None:
        self.meter = ValveMeter(ADDRESS) if meter is None else meter
        settings: dict[str, object] = {"address": ADDRESS, "drives_valve": True} | setup
        self.core = MeterLine(MeterSetup(**settings))  # type: ignore[arg-type]
        self.heard: list[BusEvent] = []
        self.bus: VirtualBus[BusEvent] = VirtualBus(self.core, self.meter, self.heard.append)
        self.core.link_up(0)

    def flows(self) -> list[Flow]:
        return [event for event in self.heard if isinstance(event, Flow)]


@pytest.mark.parametrize("low_first", [True, False])
@pytest.mark.parametrize("odd_control", [True, False])
@pytest.mark.parametrize(("preambles", "trailing"), [(0, b""), (4, b"\x68\x00gateway\x68")])
def test_makers(low_first: bool, odd_control: bool, preambles: int, trailing: bytes) -> None:
    """Either DI order, 84 or AA, preambles and a gateway's bytes: shut first, then readings."""
    meter = ValveMeter(ADDRESS)
    meter.low_first, meter.odd_control = low_first, odd_control
    meter.preambles, meter.trailing_raw = preambles, trailing
    rig = Rig(meter, profile=MeterProfile(low_first=low_first))
    rig.bus.advance(4_000)
    assert meter.valve_writes == [VALVE_CLOSE]
    assert rig.heard[0] == BusOk()
    assert len(rig.flows()) >= 2
    assert rig.core.state is ValveState.SHUT
    rig.core.open_for(60_000, rig.bus.now_ms)
    rig.bus.advance(8_000)
    assert meter.valve_writes == [VALVE_CLOSE, VALVE_OPEN]
    assert rig.core.state is ValveState.OPEN


def test_the_other_makers_order_is_refused() -> None:
    """A profile that does not fit the meter: refused, METER_LOST, never taken as read."""
    rig = Rig(profile=MeterProfile(low_first=False))
    rig.bus.advance(8_000)
    assert rig.heard == [BusLost("METER_LOST")]
    assert rig.core.fault_counts["METER_REFUSED"] > 1


def test_volume_comes_in_steps_of_ten_litres() -> None:
    """8 l/min for 10 minutes: eight steps at most, none invented."""
    rig = Rig()
    rig.bus.advance(2_000)
    for _ in range(600):
        rig.core.open_for(5_000, rig.bus.now_ms)
        rig.bus.advance(1_000)
    assert rig.core.sample is not None
    assert 70_000 <= rig.core.sample.volume_ml <= 80_000
    assert rig.core.sample.volume_ml <= rig.meter.pipe.water_ml + 10_000
    assert not [flow.fault for flow in rig.flows() if flow.fault]


def test_a_counter_that_steps_back_is_rebased() -> None:
    """A meter that was changed: COUNTER_REBASED; a hundred litres in a second: FLOW_IMPOSSIBLE."""
    rig = Rig()
    rig.bus.advance(3_000)
    rig.meter.volume_base_ml = 5_000_000
    rig.bus.advance(4_000)
    rig.meter.volume_base_ml = 6_000_000
    rig.bus.advance(2_000)
    assert [flow.fault for flow in rig.flows() if flow.fault] == [
        *("COUNTER_REBASED", "FLOW_IMPOSSIBLE")
    ]
    assert sum(flow.pulses for flow in rig.flows()) == 0


def test_nobody_asks_again_and_the_core_shuts() -> None:
    """The time of open_for ends: the close is written; travel shows as MOVING."""
    rig = Rig()
    rig.bus.advance(2_000)
    rig.core.open_for(8_000, rig.bus.now_ms)
    rig.bus.advance(2_500)
    assert rig.core.state is ValveState.MOVING
    rig.bus.advance(10_000)
    assert rig.meter.valve_writes[-1] == VALVE_CLOSE
    rig.bus.advance(6_000)
    assert rig.core.state is ValveState.SHUT
    assert rig.core.shut_known


def test_water_again_after_a_shut() -> None:
    """Each open after a shut is written; asked again while open it is not."""
    rig = Rig()
    rig.bus.advance(2_000)
    for _ in range(2):
        for _ in range(3):
            rig.core.open_for(9_000, rig.bus.now_ms)
            rig.bus.advance(1_000)
        rig.core.shut(rig.bus.now_ms)
        rig.bus.advance(1_000)
    assert rig.meter.valve_writes == [
        *(VALVE_CLOSE, VALVE_OPEN, VALVE_CLOSE, VALVE_OPEN, VALVE_CLOSE)
    ]


def test_a_valve_reply_outside_the_profile_confirms_nothing() -> None:
    """AA where the profile knows 84 only: the shut is repeated, the meter counts as lost."""
    meter = ValveMeter(ADDRESS)
    meter.odd_control = True
    rig = Rig(meter, profile=MeterProfile(valve_replies=(0x84,)))
    rig.bus.advance(8_000)
    assert rig.heard == [BusLost("METER_LOST")]
    assert len(meter.valve_writes) > 3
    assert not rig.core.safe


def test_a_dead_meter_is_lost_and_comes_back_shut() -> None:
    """METER_LOST once; afterwards the close is the first thing written."""
    rig = Rig()
    rig.bus.advance(2_000)
    rig.core.open_for(60_000, rig.bus.now_ms)
    rig.bus.advance(8_000)
    rig.meter.dead = True
    rig.bus.advance(20_000)
    assert rig.heard.count(BusLost("METER_LOST")) == 1
    rig.core.open_for(60_000, rig.bus.now_ms)
    rig.meter.dead = False
    rig.bus.advance(10_000)
    assert rig.meter.valve_writes == [VALVE_CLOSE, VALVE_OPEN, VALVE_CLOSE]
    assert rig.heard.count(BusOk()) == 2


def test_a_meter_that_does_not_repeat_the_serial() -> None:
    """With echoes_serial off it is heard, with it on it is lost."""
    for echoes in (True, False):
        meter = ValveMeter(ADDRESS)
        meter.echoes_serial = False
        rig = Rig(meter, echoes_serial=echoes)
        rig.bus.advance(8_000)
        assert bool(rig.flows()) is not echoes


def test_behind_a_relay_it_only_counts() -> None:
    """No valve write at start, open_for is a bug, a forced shut is possible."""
    rig = Rig(drives_valve=False, address=BROADCAST)
    rig.bus.advance(3_000)
    assert rig.heard[1] == BusOk() or rig.heard[0] == BusOk()
    assert rig.meter.valve_writes == []
    with pytest.raises(AssertionError):
        rig.core.open_for(1_000, rig.bus.now_ms)
    rig.core.shut(rig.bus.now_ms)
    rig.core.poll_now(rig.bus.now_ms)
    rig.bus.advance(2_000)
    assert rig.meter.valve_writes == [VALVE_CLOSE]


def test_the_port_goes() -> None:
    """LINK_LOST once, and nothing is sent until the port is back."""
    rig = Rig()
    rig.bus.advance(2_000)
    rig.core.link_lost(rig.bus.now_ms)
    sent = len(rig.bus.sent)
    rig.bus.advance(3_000)
    assert rig.heard[-1] == BusLost("LINK_LOST")
    assert len(rig.bus.sent) == sent
    rig.core.link_up(rig.bus.now_ms)
    rig.bus.advance(2_000)
    assert BusOk() in rig.heard[-4:]


def test_on_a_pseudo_terminal() -> None:
    """The driver with parity E on a pty: shut at boot, a reading on the loop, shut at exit."""
    meter = ValveMeter(ADDRESS, now_ms=PtyLine.now_ms())
    meter.pipe.travel_ms = 50
    setup = MeterSetup(ADDRESS, drives_valve=True, baud=9_600)
    with PtyLine(meter) as line:
        driver = WaterMeter(line.port, setup, SystemClock())
        assert driver.make_safe(3_000)
        reactor, heard = Reactor(SystemClock()), list[object]()

        def hear(event: object) -> None:
            heard.append(event)
            if isinstance(event, Flow):
                driver.open_for(5_000)
                if event.open_fb:
                    reactor.stop()

        def too_late() -> None:
            raise AssertionError(heard)

        reactor.deliver_to(hear)
        reactor.call_later(8_000, too_late)
        driver.poll_every(300)
        driver.start(reactor, reactor.post)
        reactor.run()
        assert driver.state() is ValveState.OPEN
        assert driver.read() is not None
        driver.stop()
        end_s = time.monotonic() + 2
        while meter.pipe.position != "shut":
            assert time.monotonic() < end_s
            time.sleep(0.01)
        assert meter.valve_writes == [VALVE_CLOSE, VALVE_OPEN, VALVE_CLOSE]
