"""A CJ/T 188 valve meter's side of the conversation: readings, and a valve without a dead-man.

Sans IO, like board_line. The meter has no timed open (terminals.md §8.3): behind a timed relay it
only counts; with `drives_valve` this core shuts it when `open_for` was not called again in time,
which holds only while the program lives: for demonstration.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from firmware.ports import BusEvent, BusLost, BusOk, Flow, MeterSample, ValveState
from protocols.bus import cjt188
from protocols.bus.cjt188 import Frame, MeterProfile
from protocols.bus.master import Done, Failed, Job, LineMaster, Priority, cjt188_listener
from protocols.bus.pulses import PulseCounter
from protocols.errors import BusFrameError

RETRY_MS = 500
POLL_MS_LEAST = 300
FREE_PREAMBLE = b"\xfe" * 4
AT_OPEN, AT_SHUT = 0, 1


@dataclass(frozen=True, slots=True)
class MeterSetup:
    """One meter on one line; `step_ml` is what its last digit means."""

    address: bytes
    drives_valve: bool
    profile: MeterProfile = field(default_factory=MeterProfile)
    meter_type: int = 0x10
    echoes_serial: bool = True
    baud: int = 2_400
    timeout_ms: int = 600
    lost_ms: int = 5_000
    step_ml: int = 10_000
    max_flow_l_min: int = 30


class MeterLine:
    """Readings and valve of one meter."""

    def __init__(self, setup: MeterSetup) -> None:
        self.setup = setup
        listen = cjt188_listener(echoes_serial=setup.echoes_serial)
        self._master = LineMaster(listen, baud=setup.baud, timeout_ms=setup.timeout_ms, parity="E")
        self._counter = PulseCounter(
            1_000_000 // setup.step_ml, setup.max_flow_l_min, slack_ms=setup.timeout_ms
        )
        self._events: deque[BusEvent] = deque()
        self._serial = 0
        self._linked = self._told_ok = self._told_lost = False
        self._safe = False  # a shut was answered since the start or the last loss
        self._shut_known = False
        self._until_ms: int | None = None  # water may run until then
        self._opened = False  # an open was answered and no shut asked since
        self._due_ms: int | None = None  # the next poll
        self._shut_ms: int | None = None  # the next try of a shut
        self._poll_every_ms = 1_000
        self._failing_ms: int | None = None
        self._total = 0
        self.sample: MeterSample | None = None
        self.state = ValveState.UNKNOWN

    @property
    def safe(self) -> bool:
        """A meter that drives its valve has answered the shut; another one has answered."""
        return self._safe

    @property
    def shut_known(self) -> bool:
        """The meter answered a shut, and nothing was asked of the valve since."""
        return self._shut_known

    @property
    def fault_counts(self) -> dict[str, int]:
        """Time-outs, foreign frames and refusals so far."""
        return self._master.fault_counts

    # the ports

    def open_for(self, ms: int, now_ms: int) -> None:
        """Water until `ms` from now unless asked again; does nothing while the meter is lost."""
        assert self.setup.drives_valve, "this meter only counts: its timed relay opens"
        if not self._safe:
            return
        self._until_ms = now_ms + ms
        if not self._opened:
            self._opened, self._shut_known = True, False
            self._write("open", Priority.RENEW, cjt188.VALVE_OPEN)

    def shut(self, now_ms: int) -> None:
        """Shut now, and until the meter has answered."""
        self._until_ms, self._opened, self._shut_known = None, False, False
        self._master.withdraw("open")
        self._shut_ms = now_ms

    def poll_every(self, ms: int) -> None:
        """The time from one reading to the next, at least 300 ms on this slow line."""
        self._poll_every_ms = max(ms, POLL_MS_LEAST)

    def poll_now(self, now_ms: int) -> None:
        """Read as soon as the line is free."""
        if self._due_ms is not None:
            self._due_ms = now_ms

    # the line

    def link_up(self, now_ms: int) -> None:
        """The port is open."""
        self._linked = True
        self._begin(now_ms)

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
            self._lose("METER_LOST", now_ms)
        if self._until_ms is not None and now_ms >= self._until_ms:
            self.shut(now_ms)
        if self._linked and self._shut_ms is not None and now_ms >= self._shut_ms:
            self._shut_ms = None
            self._write("shut", Priority.SHUT, cjt188.VALVE_CLOSE)
        if self._linked and self._due_ms is not None and now_ms >= self._due_ms:
            self._due_ms = None
            self._ask("read", Priority.POLL, cjt188.READ, cjt188.DI_READ)

    def to_send(self, now_ms: int) -> bytes | None:
        """A request to be written after a flush of the port's input, or None."""
        raw = self._master.to_send(now_ms) if self._linked else None
        if raw is not None and self._failing_ms is None:
            self._failing_ms = now_ms
        return raw

    def next_timer(self) -> int | None:
        """When `on_timer` and `to_send` are wanted next."""
        failing_ms = self._failing_ms
        lost_ms = None if failing_ms is None else failing_ms + self.setup.lost_ms
        times = [self._until_ms, lost_ms]
        if self._linked:
            times += [self._due_ms, self._shut_ms, self._master.next_timer()]
        return min((time for time in times if time is not None), default=None)

    def next_event(self) -> BusEvent | None:
        """What the session should hear; call until None."""
        return self._events.popleft() if self._events else None

    # inside

    def _begin(self, now_ms: int) -> None:
        """Shut first where the valve is ours, then read."""
        self._safe = self._opened = self._shut_known = False
        self._until_ms = self._shut_ms = self._due_ms = None
        self.state = ValveState.UNKNOWN
        if self.setup.drives_valve:
            self._shut_ms = now_ms
        else:
            self._due_ms = now_ms

    def _lose(self, code: str, now_ms: int) -> None:
        self._failing_ms = None
        self._master.reset()
        self._begin(now_ms + RETRY_MS)
        if not self._told_lost:
            self._told_lost, self._told_ok = True, False
            self._events.append(BusLost(code))

    def _write(self, name: str, priority: Priority, action: int) -> None:
        self._ask(name, priority, cjt188.WRITE, cjt188.DI_VALVE, bytes((action,)))

    def _ask(
        self, name: str, priority: Priority, control: int, identifier: int, tail: bytes = b""
    ) -> None:
        setup, raws = self.setup, list[bytes]()
        for _ in range(2):  # each try has its own serial: a late reply fits none that follows
            self._serial = self._serial % 255 + 1
            frame: Frame = cjt188.request(
                setup.address, control, identifier, self._serial, setup.profile, tail
            )
            typed = Frame(setup.meter_type, frame.address, frame.control, frame.body)
            raws.append(FREE_PREAMBLE + typed.encode())
        self._master.submit(Job(name, priority, (raws[0], raws[1])))

    def _learn(self, now_ms: int) -> None:
        while (event := self._master.next_event()) is not None:
            if isinstance(event, Failed):
                self._failed(event.job.name, now_ms)
                continue
            try:
                self._done(event, now_ms)
            except BusFrameError:
                self._failed(event.job.name, now_ms)

    def _failed(self, name: str, now_ms: int) -> None:
        match name:
            case "open":
                self._opened = False
            case "shut":
                self._shut_ms = now_ms + RETRY_MS
            case _:
                self._due_ms = now_ms + self._poll_every_ms

    def _done(self, event: Done, now_ms: int) -> None:
        reply = Frame.decode(event.data_raw)
        match event.job.name:
            case "open" | "shut":
                if reply.control not in self.setup.profile.valve_replies:
                    raise BusFrameError(field="control", offset=9, clause="CJ/T 188-2004 5")
                self._shut_known = event.job.name == "shut" and self._shut_ms is None
                if not self._safe:
                    self._due_ms = now_ms
                self._good()
            case _:
                self._read(reply, now_ms)
                self._good()

    def _good(self) -> None:
        self._failing_ms, self._safe = None, True
        if not self._told_ok:
            self._told_ok, self._told_lost = True, False
            self._events.append(BusOk())

    def _read(self, reply: Frame, now_ms: int) -> None:
        profile = self.setup.profile
        reading = cjt188.reading_of(reply, profile)
        self._due_ms = now_ms + self._poll_every_ms
        step = self._counter.take(reading.volume_ml // self.setup.step_ml, 0, now_ms)
        self._total += step.pulses
        mask = profile.valve_mask
        at = (reading.status[0] & mask) // (mask & -mask)
        self.state = {AT_OPEN: ValveState.OPEN, AT_SHUT: ValveState.SHUT}.get(at, ValveState.MOVING)
        self.sample = MeterSample(now_ms, self._total, self._total * self.setup.step_ml, 0)
        flow = Flow(
            at_ms=now_ms,
            pulses=step.pulses,
            open_fb=self.state is ValveState.OPEN,
            shut_fb=self.state is ValveState.SHUT,
            flow_ml_min=0,
            slot=False,
            sensor=True,
            fault=step.fault,
        )
        self._events.append(flow)
