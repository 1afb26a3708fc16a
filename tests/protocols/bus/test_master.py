"""The line's scheduler: urgency, one in flight, retries, and no reply taken for another."""

from hypothesis import given
from hypothesis import strategies as st

from protocols.bus import cjt188, modbus
from protocols.bus.master import (
    BUFFER_MAX,
    SETTLE_MS,
    Answer,
    Done,
    Failed,
    Foreign,
    Job,
    LineMaster,
    Priority,
    Refusal,
    cjt188_listener,
    listen_modbus,
)
from protocols.bus.shower_map import REF_1

SENSE = REF_1.read_sense(1)
INPUTS = REF_1.read_inputs(1)
SHUT = REF_1.shut(1)
OPEN = REF_1.open_for(1, 1500)
SENSE_REPLY = modbus.Frame(1, 2, b"\x01\x12").encode()
INPUTS_REPLY = modbus.Frame(1, 4, b"\x12" + bytes(18)).encode()


def job(name: str, priority: Priority, frame: modbus.Frame) -> Job:
    return Job(name, priority, (frame.encode(), frame.encode()))


def master() -> LineMaster:
    return LineMaster(listen_modbus, baud=9_600, timeout_ms=200)


def sent(line: LineMaster, now_ms: int) -> modbus.Frame | None:
    raw = line.to_send(now_ms)
    return None if raw is None else modbus.Frame.decode(raw)


def test_urgency_before_order() -> None:
    """Whatever the order of asking: shut, renew, debit-critical, poll; equals by their turn."""
    line = master()
    line.submit(job("sense", Priority.POLL, SENSE))
    line.submit(job("inputs", Priority.POLL, INPUTS))
    line.submit(job("fresh", Priority.DEBIT, INPUTS))
    line.submit(job("open", Priority.RENEW, OPEN))
    line.submit(job("shut", Priority.SHUT, SHUT))
    names, now_ms = list[str](), 0
    while not line.idle:
        frame = sent(line, now_ms)
        assert frame is not None
        assert line.to_send(now_ms) is None  # one in flight
        reply = {2: SENSE_REPLY, 4: INPUTS_REPLY}.get(frame.function, frame.encode())
        line.receive(reply, now_ms + 10)
        event = line.next_event()
        assert isinstance(event, Done)
        names.append(event.job.name)
        assert line.to_send(now_ms + 11) is None  # 3.5 characters of silence
        now_ms += 20
    assert names == ["shut", "open", "fresh", "sense", "inputs"]


def test_a_newer_job_replaces_the_waiting_one() -> None:
    """The same name is asked once; a withdrawn one not at all."""
    line = master()
    line.submit(job("x", Priority.POLL, SENSE))
    line.submit(job("x", Priority.POLL, INPUTS))
    line.submit(job("y", Priority.POLL, SENSE))
    line.withdraw("y")
    assert sent(line, 0) == INPUTS
    line.receive(INPUTS_REPLY, 5)
    assert line.idle


def test_timeout_one_retry_then_failure() -> None:
    """A dead slave costs two time-outs: 0.40 s and the requests' own time."""
    line = master()
    line.submit(job("sense", Priority.POLL, SENSE))
    assert sent(line, 0) == SENSE
    assert line.next_timer() == 209
    line.on_timer(208)
    assert line.to_send(208) is None
    line.on_timer(209)
    assert line.to_send(209) is None  # silence first
    assert sent(line, 214) == SENSE
    line.on_timer(423)
    event = line.next_event()
    assert isinstance(event, Failed)
    assert (event.code, event.fact) == ("BUS_TIMEOUT", "timeout")
    assert line.idle
    assert line.fault_counts == {"timeout": 2}


def test_shut_goes_before_another_jobs_second_try() -> None:
    """A poll that timed out waits while the valve is shut; a withdrawn open is not tried again."""
    line = master()
    line.submit(job("open", Priority.RENEW, OPEN))
    assert sent(line, 0) == OPEN
    line.withdraw("open")
    line.submit(job("shut", Priority.SHUT, SHUT))
    line.on_timer(209)
    assert sent(line, 214) == SHUT
    line.receive(SHUT.encode(), 230)
    names = []
    while (event := line.next_event()) is not None:
        names.append((event.job.name, type(event)))
    assert names == [("open", Failed), ("shut", Done)]
    assert line.idle


def test_a_late_reply_never_answers_the_next_request() -> None:
    """The reply to a request that was given up is dropped, and the right one is still heard."""
    line = master()
    line.submit(job("sense", Priority.POLL, SENSE))
    sent(line, 0)
    line.withdraw("sense")
    line.on_timer(209)
    line.submit(job("inputs", Priority.POLL, INPUTS))
    assert sent(line, 214) == INPUTS
    line.receive(SENSE_REPLY, 220)
    line.receive(INPUTS_REPLY, 250)
    assert isinstance(line.next_event(), Failed)
    event = line.next_event()
    assert isinstance(event, Done)
    assert (event.job.name, event.data_raw) == ("inputs", bytes(18))
    assert line.fault_counts == {"timeout": 1, "foreign": 1}


def test_a_late_reply_to_another_length_is_foreign() -> None:
    """The second try of a read asks for less: the first try's reply does not fit it."""
    short = REF_1.read_inputs(1, whole=False)
    line = master()
    line.submit(Job("inputs", Priority.POLL, (INPUTS.encode(), short.encode())))
    sent(line, 0)
    line.on_timer(209)
    assert sent(line, 214) == short
    line.receive(INPUTS_REPLY, 216)
    assert line.next_event() is None
    line.receive(modbus.Frame(1, 4, b"\x10" + bytes(16)).encode(), 230)
    event = line.next_event()
    assert isinstance(event, Done)
    assert event.data_raw == bytes(16)


def test_bytes_before_the_request_are_thrown_away() -> None:
    """What came unasked is not there when the next request waits for its reply."""
    line = master()
    line.receive(SENSE_REPLY, 0)
    line.submit(job("sense", Priority.POLL, SENSE))
    sent(line, 10)
    assert line.next_event() is None
    line.receive(SENSE_REPLY[:3], 20)
    assert line.next_event() is None
    line.receive(SENSE_REPLY[3:], 22)
    assert isinstance(line.next_event(), Done)


def test_a_broken_reply_is_retried_when_the_line_is_quiet() -> None:
    """A bad CRC ends the try after a short silence, not after the whole time-out."""
    line = master()
    line.submit(job("sense", Priority.POLL, SENSE))
    sent(line, 0)
    line.receive(SENSE_REPLY[:-1] + b"\x00", 20)
    line.receive(SENSE_REPLY, 21)  # what trickles in now belongs to the broken one
    assert line.next_event() is None
    line.on_timer(20 + SETTLE_MS)
    assert sent(line, 50) == SENSE
    line.receive(SENSE_REPLY, 60)
    assert isinstance(line.next_event(), Done)
    assert line.fault_counts == {"crc": 1}


def test_an_exception_is_not_retried() -> None:
    """The device said no: MODBUS_EXCEPTION with its number, at once."""
    line = master()
    line.submit(job("open", Priority.RENEW, OPEN))
    sent(line, 0)
    line.receive(modbus.Frame(1, 0x85, b"\x03").encode(), 10)
    event = line.next_event()
    assert isinstance(event, Failed)
    assert (event.code, event.fact) == ("MODBUS_EXCEPTION", "3")
    assert line.idle


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_bounded(pieces: list[bytes]) -> None:
    """Whatever comes, the job ends as Done or Failed and the buffer stays small."""
    line, now_ms = master(), 0
    line.submit(job("sense", Priority.POLL, SENSE))
    for piece in pieces:
        line.to_send(now_ms)
        line.receive(piece, now_ms)
        assert len(line._buffer) <= BUFFER_MAX
        now_ms += 30
        line.on_timer(now_ms)
    for _ in range(3):
        line.to_send(now_ms)
        now_ms += 300
        line.on_timer(now_ms)
    assert line.next_event() is not None
    assert line.next_event() is None


ADDRESS = bytes.fromhex("05000001000000")
PROFILE = cjt188.MeterProfile()


def cjt_reply(control: int = 0x81, serial: int = 9, address: bytes = ADDRESS) -> bytes:
    return cjt188.Frame(0x10, address, control, bytes((0x1F, 0x90, serial)) + bytes(19)).encode()


def test_cjt188_replies_are_held_to_the_question() -> None:
    """Serial, address and identifier must fit; noise and foreign frames are dropped one by one."""
    request = cjt188.request(ADDRESS, 1, cjt188.DI_READ, 9, PROFILE).encode()
    everyone = cjt188.request(cjt188.BROADCAST, 1, cjt188.DI_READ, 9, PROFILE).encode()
    listen = cjt188_listener()
    reply, other = cjt_reply(), cjt_reply(serial=8)
    assert listen(request, reply + b"gateway") == Answer(reply)
    assert listen(request, b"\xfe\xfe" + reply) == Foreign(2)
    assert listen(request, other) == Foreign(len(other))
    assert cjt188_listener(echoes_serial=False)(request, other) == Answer(other)
    assert listen(request, cjt_reply(address=bytes(7))) == Foreign(len(reply))
    assert listen(everyone, cjt_reply(address=bytes(7))) == Answer(cjt_reply(address=bytes(7)))
    assert listen(request, request) == Foreign(len(request))  # our own echo
    assert listen(request, reply[:-1] + b"\x00") == Foreign(1)
    assert listen(request, reply[:5]) is None
    assert isinstance(listen(request, cjt_reply(control=0xC1)), Refusal)
    valve = cjt188.Frame(0x10, ADDRESS, 0x84, b"\x17\xa0\x09\x55").encode()
    assert listen(request, valve) == Foreign(len(valve))
