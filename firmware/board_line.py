"""The shower board's side of the conversation: shut first, then polls, renewals and their rules.

Sans IO, so that the driver and the simulated world run the same code: port calls, bytes and
`now_ms` in; bytes and events (firmware.ports) out. Rules (terminals.md §4 step 0, §8.1, §8.2):
- Nothing is asked of a board before its valve was written shut and its coil read back as shut;
  after a loss, or a shut that got no answer, that begins again, every 500 ms.
- This core never renews by itself: a loop that stops calling `open_for` lets the board shut. Calls
  before a third of the time has gone are absorbed.
- `shut` takes a waiting open out of the queue and is the next request on the line.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from firmware.ports import (
    BusEvent,
    BusLost,
    BusOk,
    Flow,
    MeterSample,
    Tamper,
    ValveState,
)
from protocols.bus.master import Done, Failed, Job, LineMaster, Priority, listen_modbus
from protocols.bus.modbus import Frame
from protocols.bus.pulses import FLOW_IMPOSSIBLE, PulseCounter
from protocols.bus.shower_map import (
    FLASH_UNIT_MS,
    INPUTS_COUNT,
    REF_1,
    BoardInputs,
    BoardSense,
    ShowerMap,
    inputs_of,
    sense_of,
)
from protocols.errors import BusFrameError

RETRY_MS = 500
POLL_MS = 500
POLL_MS_LEAST = 20
REPLY_BYTES_MAX = 5 + 2 * INPUTS_COUNT
BOARD_MS = 20


@dataclass(frozen=True, slots=True)
class LineSetup:
    """One board on one line, and the pipe behind it."""

    unit: int = 1
    baud: int = 9_600
    timeout_ms: int = 200
    lost_ms: int = 1_000
    dead_ms: int = 1_500
    pulses_per_litre: int = 450
    max_flow_l_min: int = 30
    registers: ShowerMap = REF_1

    @property
    def timeout_ms_least(self) -> int:
        """The longest reply's time on the line and what a board needs to begin it."""
        return REPLY_BYTES_MAX * 10_000 // self.baud + BOARD_MS


class BoardLine:
    """Valve, meter and switches of one board."""

    def __init__(self, setup: LineSetup) -> None:
        self.setup = setup
        self._master = LineMaster(listen_modbus, baud=setup.baud, timeout_ms=setup.timeout_ms)
        self._counter = PulseCounter(
            setup.pulses_per_litre * 1000, setup.max_flow_l_min, slack_ms=setup.timeout_ms
        )
        self._events: deque[BusEvent] = deque()
        self._linked = self._safe = self._told_ok = self._told_lost = False
        self._shut_known = False
        self._renew_ms = 0  # an open_for before this is absorbed
        self._retry_ms: int | None = None  # when to write shut again
        self._failing_ms: int | None = None  # since when nothing good came
        self._poll_every_ms = POLL_MS
        self._poll_ms: int | None = None  # when the next poll begins; None: not in turn
        self._polled_ms = 0
        self._urgent = False
        self._sense: BoardSense | None = None
        self._tamper = False
        self._total = 0
        self.sample: MeterSample | None = None
        self.state = ValveState.UNKNOWN

    @property
    def safe(self) -> bool:
        """The valve was written shut and read back since the start or the last loss."""
        return self._safe

    @property
    def shut_known(self) -> bool:
        """The board confirmed a shut, and nothing was asked of the valve since."""
        return self._safe and self._shut_known

    @property
    def fault_counts(self) -> dict[str, int]:
        """Timeouts, bad frames and refusals so far, by kind."""
        return self._master.fault_counts

    # the ports

    def open_for(self, ms: int, now_ms: int) -> None:
        """Open or renew; at most `dead_ms`. Does nothing while the bus is not safe."""
        assert FLASH_UNIT_MS <= ms <= self.setup.dead_ms, (ms, self.setup.dead_ms)
        if not self._safe or now_ms < self._renew_ms:
            return
        self._shut_known = False
        # callers come once a poll: the call after the third of the time would be too late
        self._renew_ms = now_ms + max(ms // 3 - self._poll_every_ms, POLL_MS_LEAST)
        request = self.setup.registers.open_for(self.setup.unit, ms)
        self._submit("open", Priority.RENEW, request)

    def shut(self, now_ms: int) -> None:
        """Shut before anything else is sent."""
        self._shut_known = False
        self._renew_ms = 0
        self._master.withdraw("open")
        if self._linked and self._retry_ms is None:
            self._submit("shut", Priority.SHUT, self.setup.registers.shut(self.setup.unit))
        elif self._retry_ms is not None:
            self._retry_ms = min(self._retry_ms, now_ms)

    def buzz(self, ms: int) -> None:
        """Sound the board's buzzer for `ms`."""
        if self._safe:
            request = self.setup.registers.buzz(self.setup.unit, ms)
            self._submit("buzz", Priority.DEBIT, request)

    def poll_every(self, ms: int) -> None:
        """The time from one poll's beginning to the next one's."""
        assert ms >= POLL_MS_LEAST, ms
        self._poll_every_ms = ms
        if self._poll_ms is not None:
            self._poll_ms = min(self._poll_ms, self._polled_ms + ms)

    def poll_now(self, now_ms: int) -> None:
        """The next poll begins now, before what is in turn."""
        if self._poll_ms is not None:
            self._poll_ms, self._urgent = now_ms, True

    # the line

    def link_up(self, now_ms: int) -> None:
        """The port is open: write shut."""
        self._linked = True
        self._make_safe(now_ms)

    def link_lost(self, now_ms: int) -> None:
        """The port is gone."""
        self._linked = False
        self._lose("LINK_LOST", now_ms)

    def receive(self, raw: bytes, now_ms: int) -> None:
        """Bytes from the port."""
        self._master.receive(raw, now_ms)
        self._learn(now_ms)

    def on_timer(self, now_ms: int) -> None:
        """Do what is due; early calls do no harm."""
        self._master.on_timer(now_ms)
        self._learn(now_ms)
        failing_ms = self._failing_ms
        if failing_ms is not None and now_ms - failing_ms >= self.setup.lost_ms:
            self._lose("BUS_LOST", now_ms)
        if self._linked and self._retry_ms is not None and now_ms >= self._retry_ms:
            self._retry_ms = None
            self._submit("shut", Priority.SHUT, self.setup.registers.shut(self.setup.unit))
        if self._poll_ms is not None and now_ms >= self._poll_ms:
            self._begin_poll(now_ms)

    def to_send(self, now_ms: int) -> bytes | None:
        """A request to be written after a flush of the port's input, or None."""
        raw = self._master.to_send(now_ms) if self._linked else None
        if raw is not None:
            assert self.setup.registers.is_permitted(Frame.decode(raw)), raw.hex()
            if self._failing_ms is None:
                self._failing_ms = now_ms
        return raw

    def next_timer(self) -> int | None:
        """When `on_timer` and `to_send` are wanted next; None for nothing before an event."""
        failing_ms = self._failing_ms
        lost_ms = None if failing_ms is None else failing_ms + self.setup.lost_ms
        times = [self._poll_ms, lost_ms]
        if self._linked:
            times += [self._retry_ms, self._master.next_timer()]
        return min((time for time in times if time is not None), default=None)

    def next_event(self) -> BusEvent | None:
        """What the session should hear; call until None."""
        return self._events.popleft() if self._events else None

    # inside

    def _submit(self, name: str, priority: Priority, *requests: Frame) -> None:
        first, second = requests[0].encode(), requests[-1].encode()
        self._master.submit(Job(name, priority, (first, second)))

    def _make_safe(self, retry_ms: int) -> None:
        self._safe = self._shut_known = False
        self.state = ValveState.UNKNOWN
        self._poll_ms = self._sense = None
        self._renew_ms = 0
        for name in ("open", "sense", "inputs", "buzz", "valve"):
            self._master.withdraw(name)
        self._retry_ms = retry_ms

    def _lose(self, code: str, now_ms: int) -> None:
        self._failing_ms = None
        self._master.reset()
        self._make_safe(now_ms)
        if not self._told_lost:
            self._told_lost, self._told_ok = True, False
            self._events.append(BusLost(code))

    def _begin_poll(self, now_ms: int) -> None:
        registers, unit = self.setup.registers, self.setup.unit
        priority = Priority.DEBIT if self._urgent else Priority.POLL
        self._polled_ms, self._poll_ms, self._urgent, self._sense = now_ms, None, False, None
        self._submit("sense", priority, registers.read_sense(unit))
        # the second try asks for less: a late reply to the first one has another length
        whole, short = registers.read_inputs(unit), registers.read_inputs(unit, whole=False)
        self._submit("inputs", priority, whole, short)

    def _learn(self, now_ms: int) -> None:
        while (event := self._master.next_event()) is not None:
            if isinstance(event, Failed):
                self._failed(event, now_ms)
                continue
            try:
                self._done(event, now_ms)
            except BusFrameError as fault:
                self._failed(Failed(event.job, fault.code, "content"), now_ms)

    def _failed(self, event: Failed, now_ms: int) -> None:
        match event.job.name:
            case "shut" | "valve":
                self._make_safe(now_ms + RETRY_MS)
            case "open":
                self._renew_ms = 0
            case "sense" | "inputs":
                self._master.withdraw("inputs")
                self._next_poll(now_ms)
            case _:
                pass

    def _done(self, event: Done, now_ms: int) -> None:
        """Only what proves a working board ends a loss that is building up."""
        self._shut_known = self._shut_known or event.job.name == "shut"
        match event.job.name:
            case "shut" if not self._safe:
                registers = self.setup.registers
                self._submit("valve", Priority.SHUT, registers.read_valve(self.setup.unit))
            case "valve":
                self._read_back(event.data_raw, now_ms)
            case "sense":
                self._sense = sense_of(event.data_raw)
            case "inputs":
                self._sampled(inputs_of(event.data_raw), now_ms)
                self._next_poll(now_ms)
            case _:  # an open, a buzz, a shut of a board known as safe
                self._failing_ms = None

    def _read_back(self, data_raw: bytes, now_ms: int) -> None:
        if data_raw != b"\x00":
            self._make_safe(now_ms + RETRY_MS)
            return
        self._safe, self._poll_ms, self._failing_ms = True, now_ms, None
        if not self._told_ok:
            self._told_ok, self._told_lost = True, False
            self._events.append(BusOk())

    def _next_poll(self, now_ms: int) -> None:
        if self._safe:
            self._poll_ms = max(now_ms, self._polled_ms + self._poll_every_ms)

    def _sampled(self, inputs: BoardInputs, now_ms: int) -> None:
        sense, self._sense = self._sense, None
        if sense is None:  # a poll from before a loss
            return
        self._failing_ms = None
        step = self._counter.take(inputs.pulses, inputs.boot_count, now_ms)
        fault = step.fault
        if fault is None and inputs.flow_ml_min > self.setup.max_flow_l_min * 1000:
            fault = FLOW_IMPOSSIBLE
        if inputs.flash_expired or fault is not None:
            self._renew_ms = 0  # the board may have shut: the next open_for is sent at once
        self._total += step.pulses
        volume_ml = self._total * 1000 // self.setup.pulses_per_litre
        self.sample = MeterSample(now_ms, self._total, volume_ml, inputs.flow_ml_min)
        self.state = _state_of(sense)
        if sense.tamper != self._tamper:
            self._tamper = sense.tamper
            self._events.append(Tamper(sense.tamper))
        self._events.append(
            Flow(
                at_ms=now_ms,
                pulses=step.pulses,
                open_fb=sense.open_fb,
                shut_fb=sense.shut_fb,
                flow_ml_min=inputs.flow_ml_min,
                slot=sense.slot,
                sensor=sense.sensor,
                fault=fault,
            )
        )


def _state_of(sense: BoardSense) -> ValveState:
    match sense.open_fb, sense.shut_fb:
        case True, False:
            return ValveState.OPEN
        case False, True:
            return ValveState.SHUT
        case False, False:
            return ValveState.MOVING
        case _:
            return ValveState.CONTRARY
