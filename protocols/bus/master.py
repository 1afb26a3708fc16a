"""One scheduler per line: jobs in order of urgency, one in flight, and no reply taken for another.

Sans IO: bytes and `now_ms` in, bytes out. What a reply is decides the `Listener` of the bus. Rules:
- shut > renew > debit-critical > poll; a newer job of the same name takes the waiting one's place.
- The adapter throws away what the port holds before it writes what `to_send` gives; this core
  throws away its own rest at the same moment. A frame that answers something else is dropped and
  does not end the wait (terminals.md §8.1).
- A timeout or a broken reply is tried once more, a refusal by the device is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from protocols.bus import cjt188, modbus
from protocols.errors import BusFrameError, ModbusExceptionError

TRIES = 2
SETTLE_MS = 20  # after a broken reply: what still trickles in belongs to it
WAITING_MAX = 8
BUFFER_MAX = 512
BITS_PER_BYTE = {"N": 10, "E": 11}


class Priority(IntEnum):
    """Who goes first."""

    SHUT = 0
    RENEW = 1
    DEBIT = 2
    POLL = 3


@dataclass(frozen=True, slots=True)
class Job:
    """A request of this name; `requests` are the bytes of the first and of the second try."""

    name: str
    priority: Priority
    requests: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Done:
    """The device answered the job with these bytes."""

    job: Job
    data_raw: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """Both tries brought nothing, or the device refused; the outcome of a write is unknown."""

    job: Job
    code: str
    fact: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The buffer holds the reply to the request."""

    data_raw: bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """The first `size` bytes are no reply to this request: drop them, go on listening."""

    size: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The buffer cannot become a reply any more: which field."""

    field: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The device says no."""

    code: str
    fact: str


Heard = Answer | Foreign | Broken | Refusal | None
Listener = Callable[[bytes, bytes], Heard]
"""(request, what has come) -> what it is; None while more bytes are needed."""


@dataclass(slots=True)
class _Flight:
    job: Job
    attempt: int
    deadline_ms: int
    fault: str = ""
    withdrawn: bool = False

    @property
    def request_raw(self) -> bytes:
        return self.job.requests[self.attempt - 1]


class LineMaster:
    """The master of one line."""

    def __init__(self, listen: Listener, *, baud: int, timeout_ms: int, parity: str = "N") -> None:
        self._listen = listen
        self._bit_count = BITS_PER_BYTE[parity]
        self._baud = baud
        self._timeout_ms = timeout_ms
        self._waiting: dict[str, Job] = {}
        self._flight: _Flight | None = None
        self._again: tuple[Job, int] | None = None
        self._buffer = b""
        self._quiet_ms = 0  # nothing is sent before
        self._events: deque[Done | Failed] = deque()
        self.fault_counts: dict[str, int] = {}

    def wire_ms(self, size: int) -> int:
        """What `size` bytes take on the line, rounded up."""
        return -(-size * self._bit_count * 1000 // self._baud)

    @property
    def idle(self) -> bool:
        """Nothing in flight and nothing waiting."""
        return self._flight is None and self._again is None and not self._waiting

    def submit(self, job: Job) -> None:
        """Queue the job; one of the same name that still waits is replaced."""
        self._waiting[job.name] = job
        assert len(self._waiting) <= WAITING_MAX, sorted(self._waiting)

    def withdraw(self, name: str) -> None:
        """Forget the job if it waits; if it is in flight it is not tried again."""
        self._waiting.pop(name, None)
        if self._again is not None and self._again[0].name == name:
            self._again = None
        if self._flight is not None and self._flight.job.name == name:
            self._flight.withdrawn = True

    def reset(self) -> None:
        """The line was lost: forget everything."""
        self._waiting.clear()
        self._flight = self._again = None
        self._buffer = b""
        self._quiet_ms = 0

    def to_send(self, now_ms: int) -> bytes | None:
        """The next request, to be written now, after a flush of the port's input; or None."""
        if self._flight is not None or now_ms < self._quiet_ms:
            return None
        chosen = self._choose()
        if chosen is None:
            return None
        job, attempt = chosen
        raw = job.requests[attempt - 1]
        self._buffer = b""
        left_ms = now_ms + self.wire_ms(len(raw))
        self._flight = _Flight(job, attempt, left_ms + self._timeout_ms)
        return raw

    def receive(self, raw: bytes, now_ms: int) -> None:
        """Bytes from the line; those that nobody waits for are dropped."""
        flight = self._flight
        if flight is None:
            return  # nobody waits; a line that babbles must not keep a shut from being tried
        self._buffer = (self._buffer + raw)[-BUFFER_MAX:]
        while self._weigh(flight, now_ms):
            pass

    def next_timer(self) -> int | None:
        """When `on_timer` or `to_send` has something to do, or None."""
        if self._flight is not None:
            return self._flight.deadline_ms
        return None if self.idle else self._quiet_ms

    def on_timer(self, now_ms: int) -> None:
        """The time came: a request without an answer is tried again or has failed."""
        flight = self._flight
        if flight is None or now_ms < flight.deadline_ms:
            return
        self._flight = None
        self._rest(now_ms)
        fault = flight.fault or "timeout"
        self._count(fault)
        if flight.attempt < TRIES and not flight.withdrawn:
            self._again = (flight.job, flight.attempt + 1)
        else:
            self._events.append(Failed(flight.job, "BUS_TIMEOUT", fault))

    def next_event(self) -> Done | Failed | None:
        """What became of a job; call until None."""
        return self._events.popleft() if self._events else None

    def _choose(self) -> tuple[Job, int] | None:
        """The most urgent job; a second try keeps its turn only against equals and lesser ones."""
        first = min(self._waiting.values(), key=lambda job: job.priority, default=None)
        if self._again is not None and (first is None or self._again[0].priority <= first.priority):
            chosen, self._again = self._again, None
            return chosen
        if first is None:
            return None
        del self._waiting[first.name]
        return first, 1

    def _weigh(self, flight: _Flight, now_ms: int) -> bool:
        """Judge the buffer once; True if there may be more in it."""
        if not self._buffer:
            return False
        request = flight.request_raw
        match self._listen(request, self._buffer):
            case None:
                return False
            case Foreign(size):
                self._count("foreign")
                flight.fault = "foreign"
                self._buffer = self._buffer[size:]
                return True
            case Broken(field):
                flight.fault = field  # whatever else comes does not mend it
                flight.deadline_ms = min(flight.deadline_ms, now_ms + SETTLE_MS)
                return False
            case Refusal(code, fact):
                self._land(Failed(flight.job, code, fact), now_ms)
                return False
            case Answer(data_raw):
                self._land(Done(flight.job, data_raw), now_ms)
                return False

    def _land(self, event: Done | Failed, now_ms: int) -> None:
        if isinstance(event, Failed):
            self._count(event.code)
        self._flight = None
        self._events.append(event)
        self._rest(now_ms)

    def _rest(self, now_ms: int) -> None:
        """Silence of 3.5 characters, at least 2 ms, before the next request."""
        self._quiet_ms = now_ms + max(self.wire_ms(4), 2)

    def _count(self, fault: str) -> None:
        self.fault_counts[fault] = self.fault_counts.get(fault, 0) + 1


def listen_modbus(request_raw: bytes, buffer: bytes) -> Heard:
    """Modbus RTU: frames are cut by their own function and count, then held to the request."""
    size = _modbus_size(buffer)
    if size is None or len(buffer) < size:
        return None
    if size == 0:
        return Broken("function")
    request = modbus.Frame.decode(request_raw)
    try:
        return Answer(modbus.check_reply(request, buffer[:size]))
    except ModbusExceptionError as fault:
        return Refusal(fault.code, str(fault.facts["exception"]))
    except BusFrameError as fault:
        field = str(fault.facts["field"])
        return Broken(field) if field == "crc" else Foreign(size)


def _modbus_size(buffer: bytes) -> int | None:
    """Bytes of the reply that begins here; 0 if none of ours begins so; None if not yet known."""
    if len(buffer) < 3:
        return None
    if buffer[1] & modbus.EXCEPTION_BIT:
        return 5
    if buffer[1] in modbus.READS:
        return 5 + buffer[2] if buffer[2] <= modbus.ADU_BYTES_MAX - 5 else 0
    return 8 if buffer[1] in modbus.WRITES else 0


def cjt188_listener(*, echoes_serial: bool = True) -> Listener:
    """CJ/T 188: the first frame after noise, held to the request's address, DI and serial.

    A meter that does not repeat the serial is listened to with `echoes_serial` off; then only the
    flush of the port keeps a late reply from answering the next question.
    """

    def listen(request_raw: bytes, buffer: bytes) -> Heard:
        found = _cjt188_frame(buffer)
        if not isinstance(found, cjt188.Frame):
            return found
        size = _cjt188_size(found)
        request = cjt188.Frame.decode(request_raw)
        serial_fits = not echoes_serial or found.body[2:3] == request.body[2:3]
        if not _is_from(found, request) or not serial_fits:
            return Foreign(size)
        if found.control == request.control | cjt188.REPLY | cjt188.ERROR:
            return Refusal("METER_REFUSED", found.body.hex())
        return Answer(buffer[:size]) if found.concerns(request.identifiers[0]) else Foreign(size)

    return listen


def _cjt188_size(frame: cjt188.Frame) -> int:
    return cjt188.HEAD + len(frame.body) + 2


def _cjt188_frame(buffer: bytes) -> cjt188.Frame | Foreign | None:
    at = buffer.find(cjt188.START)
    if at:
        return Foreign(len(buffer) if at < 0 else at)
    try:
        size = cjt188.length_of(buffer)
        if size is None or len(buffer) < size:
            return None
        return cjt188.Frame.decode(buffer[:size])
    except BusFrameError:
        return Foreign(1)  # a false start, or a broken frame: look for the next 68


def _is_from(reply: cjt188.Frame, request: cjt188.Frame) -> bool:
    asked_all = request.address == cjt188.BROADCAST
    return reply.is_reply and (asked_all or reply.address == request.address)
