"""The board's core in virtual time: shut first, dead-man, faults of bus, valve and meter."""

from itertools import pairwise

import pytest

from firmware.board_line import LineSetup
from firmware.ports import BusLost, BusOk, Flow, ValveState
from protocols.bus import modbus
from protocols.bus.shower_map import REF_1, ShowerMap
from sim.shower_board import FAULTS, BoardFault
from sim.shower_rig import ShowerRig, ready_rig

SHUT = REF_1.shut(1).encode()
OPEN = REF_1.open_for(1, 1_500).encode()
READ_BACK = REF_1.read_valve(1).encode()


def test_shut_is_written_and_read_back_before_anything_else() -> None:
    """The first bytes are the shut, then its read back; polls and opens only after both."""
    rig = ShowerRig()
    rig.core.open_for(1_500, 0)
    rig.boot()
    rig.core.open_for(1_500, 0)
    rig.advance(1_000)
    assert [raw for _, raw in rig.bus.sent[:2]] == [SHUT, READ_BACK]
    assert rig.bus.sent[0][0] == 0
    assert OPEN not in [raw for _, raw in rig.bus.sent]
    assert rig.events(BusOk) == [BusOk()]


def test_a_valve_that_was_left_open_is_shut_at_start() -> None:
    """A flash that another life of the program began ends with the first write."""
    rig = ShowerRig()
    rig.board.feed(OPEN, 0)
    rig.board.tick(50)
    assert rig.board.relay
    rig.bus.now_ms = 100
    rig.boot()
    rig.advance(100)
    assert not rig.board.relay


def test_start_is_repeated_every_500_ms_until_the_board_answers() -> None:
    """A dead board: shut twice per try, a pause, again; BUS_LOST once, BUS_OK when it is back."""
    rig = ShowerRig()
    rig.board.plan(BoardFault("dead", times=9))
    rig.boot()
    rig.advance(2_500)
    times = [at_ms for at_ms, raw in rig.bus.sent if raw == SHUT]
    assert times[:2] == [0, 214]  # one retry
    assert times[2] == 423 + 500  # after the second time-out
    assert rig.events(BusLost) == [BusLost("BUS_LOST")]
    assert {raw for _, raw in rig.bus.sent} == {SHUT}
    rig.advance(3_000)
    assert rig.events(BusOk) == [BusOk()]
    assert rig.flows()


def test_read_back_open_is_not_safe() -> None:
    """A relay that reads back as open is written shut again; nobody may open meanwhile."""
    rig = ShowerRig()
    original = rig.board._write_coil
    rig.board._write_coil = lambda *_: b""  # type: ignore[method-assign] # a coil that sticks
    rig.board.relay = True
    rig.boot()
    rig.advance(1_400)
    assert not rig.core.safe
    assert rig.events(BusLost)
    rig.board._write_coil = original  # type: ignore[method-assign]
    rig.advance(1_000)
    assert rig.core.safe


def test_renewals_come_every_third_of_the_dead_man() -> None:
    """Asked on every sample, the flash is written each 500 ms and the valve stays open."""
    rig = ready_rig()
    rig.open()
    rig.advance(10_000)
    times = [at_ms for at_ms, raw in rig.writes() if raw == OPEN]
    gaps = [b - a for a, b in pairwise(times)]
    assert set(gaps) <= set(range(400, 600))
    assert rig.board.pipe.opened_count == 1
    assert rig.core.state is ValveState.OPEN
    used_ml = rig.board.pipe.water_ml
    counted = rig.core.sample
    assert counted is not None
    assert used_ml - 30 <= counted.volume_ml <= used_ml


def test_a_session_that_stops_asking_loses_the_water() -> None:
    """The core never renews by itself: the board shuts dead_ms after the last flash."""
    rig = ready_rig()
    rig.open()
    rig.advance(2_000)
    rig.wants = None
    last_ms = max(at_ms for at_ms, raw in rig.writes() if raw == OPEN)
    rig.advance(2_000)
    assert not rig.board.relay
    assert rig.board.pipe.shut_at_ms <= last_ms + 1_500 + 100


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in ("late", "busy")])
@pytest.mark.parametrize("function", [2, 4, 5])
def test_one_bad_exchange_is_survived(kind: str, function: int) -> None:
    """Any single fault of a reply, on any request: the water runs on, the count stays true."""
    rig = ready_rig()
    rig.open()
    rig.advance(2_000)
    rig.board.plan(BoardFault(kind, function=function))
    rig.advance(3_000)
    assert rig.board.pipe.opened_count == 1
    assert not rig.events(BusLost)
    rig.shut()
    rig.advance(500)
    assert rig.core.sample is not None
    assert rig.core.sample.pulses == rig.board.pipe.pulses
    assert not [flow.fault for flow in rig.flows() if flow.fault]


def test_a_lost_renewal_and_its_retry_are_survived() -> None:
    """Two renewals in a row without effect: the next one still comes in time."""
    rig = ready_rig()
    rig.open()
    rig.advance(2_000)
    rig.board.plan(BoardFault("dead", function=5, times=2))
    rig.advance(3_000)
    assert rig.board.pipe.opened_count == 1
    assert rig.core.fault_counts == {"timeout": 2}


def test_a_late_board_is_a_lost_board() -> None:
    """Replies after their time-out answer nothing: no sample is built from them, BUS_LOST comes."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    rig.board.plan(BoardFault("late", times=10_000, delay_ms=450))
    before = len(rig.flows())
    rig.advance(3_500)
    assert rig.events(BusLost) == [BusLost("BUS_LOST")]
    assert len(rig.flows()) - before <= 1
    assert not rig.board.relay


def test_late_inputs_never_count_twice_or_backwards() -> None:
    """Every second reply late by 210..600 ms: the count never re-bases, never exceeds the water."""
    for delay_ms in range(210, 600, 30):
        rig = ready_rig()
        rig.open()
        rig.board.plan(*(BoardFault("late", 4, n % 3, 1, delay_ms) for n in range(40)))
        rig.advance(8_000)
        assert not [flow for flow in rig.flows() if flow.fault]
        assert rig.core.sample is not None
        assert rig.core.sample.pulses <= rig.board.pipe.pulses


def test_a_late_reply_is_not_the_answer_to_the_second_try() -> None:
    """The counter's reply comes after its time-out, the second try gets none: no sample from it."""
    rig = ready_rig()
    seen = len(rig.flows())
    rig.advance_until(lambda: len(rig.flows()) > seen, 200)
    seen += 1
    late, dead = BoardFault("late", 4, delay_ms=230), BoardFault("dead", 4)
    rig.board.plan(late, dead)
    rig.advance(450)
    assert (late.times, dead.times, len(rig.flows())) == (0, 0, seen)


def test_a_refused_renewal_is_asked_again_with_the_next_sample() -> None:
    """An exception is no success: the next sample's ask is sent, not absorbed."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    rig.board.plan(BoardFault("busy", function=5))
    rig.advance_until(lambda: rig.board._faults[0].times == 0, 700)
    rig.advance(250)
    first, second = [at_ms for at_ms, raw in rig.writes() if raw == OPEN][-2:]
    assert second - first <= 150


@pytest.mark.parametrize("how", ["reboot", "cut short"])
def test_a_board_that_shut_too_early_is_opened_again_at_once(how: str) -> None:
    """Right after a renewal the board reboots or ends the flash: the next ask is sent."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    flashes = rig.board.flashes
    rig.advance_until(lambda: rig.board.flashes > flashes, 700)
    rig.advance(15)  # between its echo and the next poll
    if how == "reboot":
        rig.board.reboot(rig.now_ms)
    else:
        rig.board._relay(False, rig.now_ms)
        rig.board._expired = True
    rig.advance_until(lambda: rig.board.relay, 250)


class Latching(ShowerMap):
    """The mutant: an open that latches."""

    def open_for(self, unit: int, ms: int) -> modbus.Frame:
        """Untimed."""
        return modbus.write(unit, 5, self.valve_coil, 0xFF00)


def test_a_latching_open_is_never_sent() -> None:
    """Even a map that builds FC05 FF00 does not get it onto the line."""
    rig = ShowerRig(LineSetup(registers=Latching()))
    rig.boot()
    rig.advance(300)
    rig.wants = 1_500
    with pytest.raises(AssertionError, match="ff00"):
        rig.advance(300)
    assert not rig.board.latching_opens


def test_a_dead_bus_shuts_by_itself_and_comes_back_shut() -> None:
    """Line cut with water running: the board shuts within dead_ms, the core tells, starts over."""
    rig = ready_rig()
    rig.open()
    rig.advance(2_000)
    rig.board.plan(BoardFault("dead", times=10_000))
    cut_ms = rig.now_ms
    rig.advance(2_000)
    assert rig.board.pipe.position == "shut"
    assert rig.board.pipe.shut_at_ms - cut_ms <= 1_500 + 100
    lost_ms = next(at_ms for at_ms, event in rig.heard if isinstance(event, BusLost))
    assert 1_000 <= lost_ms - cut_ms <= 1_150
    assert rig.core.state is ValveState.UNKNOWN
    rig.wants = None
    rig.board.plan()
    rig.advance(1_500)
    assert rig.events(BusOk) == [BusOk(), BusOk()]
    assert rig.core.state is ValveState.SHUT
    assert not rig.board.relay


def test_a_board_that_refuses_everything_is_lost() -> None:
    """Exceptions are answers, but no good ones: BUS_LOST after lost_ms."""
    rig = ready_rig()
    rig.board.plan(BoardFault("busy", times=10_000))
    rig.advance(1_300)
    assert rig.events(BusLost) == [BusLost("BUS_LOST")]


def test_half_a_poll_is_no_good_reply() -> None:
    """A board whose counter never answers is lost, although its switches do."""
    rig = ready_rig()
    rig.board.plan(BoardFault("mute", function=4, times=10_000))
    rig.advance(1_500)
    assert rig.events(BusLost) == [BusLost("BUS_LOST")]


def test_shut_takes_the_waiting_open_away() -> None:
    """Open asked while a poll is in flight, then shut: the open is never sent."""
    rig = ready_rig()
    rig.core.open_for(1_500, rig.now_ms)
    rig.core.shut(rig.now_ms)
    sent_before = len(rig.bus.sent)
    rig.advance(300)
    assert OPEN not in [raw for _, raw in rig.bus.sent[sent_before:]]
    assert not rig.board.pipe.opened_count


def test_shut_goes_next_even_while_the_bus_times_out() -> None:
    """The board is deaf for one request: the shut is the next one, within one time-out."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    rig.board.plan(BoardFault("dead", times=1))
    rig.advance_until(lambda: not rig.board._faults[0].times, 300)
    asked_ms = rig.now_ms
    rig.shut()
    rig.advance(400)
    at_ms = next(at_ms for at_ms, raw in rig.writes() if raw == SHUT and at_ms >= asked_ms)
    assert at_ms - asked_ms <= 220
    assert rig.board.pipe.position == "shut"
    assert rig.core.shut_known


def test_a_shut_without_an_answer_is_repeated() -> None:
    """Four lost shuts: the fifth is heard; the core opens nothing until one was confirmed."""
    rig = ready_rig()
    rig.open()
    rig.advance(1_000)
    rig.board.plan(BoardFault("dead", function=5, times=4))
    rig.shut()
    assert not rig.core.shut_known
    rig.advance(700)
    rig.core.open_for(1_500, rig.now_ms)
    rig.advance(2_000)
    assert rig.core.shut_known
    assert rig.board.pipe.position == "shut"
    assert rig.core.safe


def test_an_open_is_only_as_long_as_it_may_be() -> None:
    """More than dead_ms, or less than the board's step, is a bug of the caller."""
    rig = ready_rig()
    for ms in (0, 99, 1_501):
        with pytest.raises(AssertionError):
            rig.core.open_for(ms, rig.now_ms)


def test_poll_pace_and_a_poll_out_of_turn() -> None:
    """100, 250, 500 ms from poll to poll; poll_now comes at once; the buzzer sounds."""
    rig = ready_rig()
    for pace_ms, least in ((100, 19), (250, 7), (500, 3)):
        rig.core.poll_every(pace_ms)
        rig.advance(pace_ms)
        seen = len(rig.flows())
        rig.advance(2_000)
        assert least <= len(rig.flows()) - seen <= 2_000 // pace_ms + 1
    rig.advance_until(lambda: rig.core.next_timer() is not None, 10)
    seen = len(rig.flows())
    rig.core.poll_now(rig.now_ms)
    rig.core.buzz(300)
    rig.advance(120)
    assert len(rig.flows()) == seen + 1
    assert rig.board.buzzer_until_ms > rig.now_ms


def test_the_port_goes_and_comes() -> None:
    """A port that is gone is LINK_LOST, once; back again, the valve is written shut first."""
    rig = ready_rig()
    rig.open()
    rig.advance(500)
    rig.core.link_lost(rig.now_ms)
    rig.core.link_lost(rig.now_ms)
    sent_before = len(rig.bus.sent)
    rig.advance(1_000)
    assert len(rig.bus.sent) == sent_before
    assert rig.events(BusLost) == [BusLost("LINK_LOST")]
    rig.wants = None
    rig.core.link_up(rig.now_ms)
    rig.advance(200)
    assert rig.bus.sent[sent_before][1] == SHUT
    assert rig.events(BusOk)[1:] == [BusOk()]


def test_a_slow_line_has_a_least_timeout() -> None:
    """At 1200 baud the longest reply alone takes 191 ms."""
    assert LineSetup(baud=1_200).timeout_ms_least == 211
    assert LineSetup().timeout_ms_least < 50


def test_flow_is_a_value() -> None:
    """Samples carry feedback and switches as they were read together."""
    rig = ready_rig()
    assert isinstance(rig.flows()[0], Flow)
    assert (rig.flows()[0].open_fb, rig.flows()[0].shut_fb) == (False, True)
