"""The simulated board is stricter than hardware, and its water is exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bus import modbus
from protocols.bus.shower_map import REF_1, inputs_of, sense_of
from protocols.errors import BusFrameError
from sim.bus_line import PtyLine
from sim.shower_board import BoardFault, ShowerBoard
from sim.water_pipe import WaterPipe

READ = REF_1.read_inputs(1).encode()


def ask(board: ShowerBoard, raw: bytes, now_ms: int) -> bytes:
    """The whole answer to a request sent at now_ms, heard within 100 ms."""
    return board.feed(raw, now_ms) + board.tick(now_ms + 100)


def inputs(board: ShowerBoard, now_ms: int) -> int:
    return inputs_of(modbus.check_reply(REF_1.read_inputs(1), ask(board, READ, now_ms))).pulses


def test_wire_time() -> None:
    """8 bytes there, 23 back at 9600: nothing before 9 + 3 + 24 ms, everything then."""
    board = ShowerBoard()
    assert board.feed(READ, 0) == b""
    assert board.next_due() == 9
    assert board.tick(35) == b""
    assert board.next_due() == 36
    assert len(board.tick(36)) == 23
    assert board.next_due() is None


@pytest.mark.parametrize(
    "raw",
    [
        READ[:-1] + b"\x00",  # CRC
        REF_1.read_inputs(2).encode(),  # another unit
        READ[:5],  # half
        b"\x01\x04" + bytes(4) + b"\xff\xff",
        modbus.Frame(0, 5, b"\x00\x00\x00\x00").encode(),  # broadcast: done, not answered
    ],
)
def test_silence(raw: bytes) -> None:
    """What no real board answers, this one does not."""
    board = ShowerBoard()
    assert ask(board, raw, 0) == b""
    assert len(ask(board, READ, 1_000)) == 23  # and it is not confused by it


@pytest.mark.parametrize(
    ("function", "body", "exception"),
    [
        (7, "", 1),
        (15, "0000000101ff", 1),
        (2, "00000006", 2),
        (2, "00050001", 2),
        (4, "00000000", 3),
        (4, "0000007e", 3),
        (3, "00100005", 2),
        (5, "00000001", 3),
        (5, "00020000", 2),
        (5, "02000000", 3),
        (5, "0200012d", 3),  # 301 above flash_max
        (5, "0200ff00", 3),
        (6, "00100001", 2),
        (6, "00110259", 3),
    ],
)
def test_exceptions(function: int, body: str, exception: int) -> None:
    """Function, address and value outside the map: 01, 02, 03."""
    board = ShowerBoard()
    request = modbus.Frame(1, function, bytes.fromhex(body))
    reply = modbus.Frame.decode(ask(board, request.encode(), 0))
    assert (reply.function, reply.body) == (function | 0x80, bytes((exception,)))
    assert not board.relay


def test_a_request_into_its_own_answer_is_a_collision() -> None:
    """Whoever speaks while the board does, hears nothing and is not heard."""
    board = ShowerBoard()
    board.feed(READ, 0)
    assert board.feed(READ, 20) == b""
    assert board.collisions == 1
    assert board.tick(200) == b""


def test_flash_ends_by_itself() -> None:
    """1.5 s after the request's last byte, and the status tells it once."""
    board = ShowerBoard()
    ask(board, REF_1.open_for(1, 1_500).encode(), 0)
    board.tick(1_508)
    assert board.relay
    board.tick(1_509)
    assert not board.relay
    reply = modbus.check_reply(REF_1.read_inputs(1), ask(board, READ, 2_000))
    assert inputs_of(reply).flash_expired
    reply = modbus.check_reply(REF_1.read_inputs(1), ask(board, READ, 2_200))
    assert not inputs_of(reply).flash_expired


def test_a_latching_open_never_ends() -> None:
    """The board takes FF00 as real ones do: the mutant that sends it floods the place, and shows."""
    board = ShowerBoard()
    ask(board, modbus.write(1, 5, 0, 0xFF00).encode(), 0)
    board.tick(3_600_000)
    assert board.relay
    assert board.latching_opens == 1


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=30))
def test_water_does_not_depend_on_how_often_it_is_looked_at(
    steps: list[tuple[int, bool]],
) -> None:
    """Advancing in many steps or few gives the same water and pulses."""
    fine, coarse, now_ms = WaterPipe(), WaterPipe(), 0
    for step_ms, wanted in steps:
        for pipe in (fine, coarse):
            pipe.drive("open" if wanted else "shut", now_ms)
        for part in range(step_ms):
            fine.advance(now_ms + part)
        now_ms += step_ms
        coarse.advance(now_ms)
        fine.advance(now_ms)
    assert (fine.water_ml, fine.pulses) == (coarse.water_ml, coarse.pulses)
    assert fine.pulses == fine._seen_ml_ms * 450 // 60_000_000


def test_counter_faults() -> None:
    """Set, wrap, reboot: the register shows it, the boot count tells the reboot."""
    board = ShowerBoard()
    board.set_counter((1 << 32) - 1, 0)
    assert inputs(board, 0) == (1 << 32) - 1
    ask(board, REF_1.open_for(1, 10_000).encode(), 200)
    assert 90 < inputs(board, 2_000) < board.pipe.pulses
    board.reboot(3_000)
    assert not board.relay
    assert inputs(board, 4_000) < 5
    assert board.boot_count == 8


def test_power_off() -> None:
    """Without supply: no answer, valve shut; afterwards a reboot."""
    board = ShowerBoard()
    ask(board, REF_1.open_for(1, 10_000).encode(), 0)
    board.power(False, 1_000)
    assert ask(board, READ, 1_100) == b""
    assert board.pipe.position == "shut"
    board.power(True, 2_000)
    assert len(ask(board, READ, 2_100)) == 23
    assert board.boot_count == 8


@pytest.mark.parametrize(
    ("kind", "field"),
    [("wrong_unit", "unit"), ("other_function", "function"), ("bad_crc", "crc"), ("truncate", "")],
)
def test_spoilt_replies(kind: str, field: str) -> None:
    """Each fault spoils just what it says, once."""
    board = ShowerBoard()
    board.plan(BoardFault(kind, skip=1))
    assert len(ask(board, READ, 0)) == 23
    spoilt = ask(board, READ, 500)
    with pytest.raises(BusFrameError) as caught:
        modbus.check_reply(REF_1.read_inputs(1), spoilt)
    assert field in ("", caught.value.facts["field"])
    assert len(ask(board, READ, 1_000)) == 23


def test_doubled_late_and_mute() -> None:
    """Twice the same reply; 300 ms later; carried out without a word."""
    board = ShowerBoard()
    board.plan(BoardFault("double"), BoardFault("late"), BoardFault("mute", function=5))
    twice = ask(board, READ, 0)
    assert twice[:23] == twice[23:]
    assert ask(board, READ, 500) == b""
    assert len(board.tick(900)) == 23
    assert ask(board, REF_1.open_for(1, 1_000).encode(), 1_000) == b""
    assert board.relay


def test_feedback_while_the_valve_travels() -> None:
    """Neither open nor shut in between; stuck shut stays shut whatever the relay says."""
    board = ShowerBoard(pipe=WaterPipe(travel_ms=1_000))
    request = REF_1.read_sense(1)

    def sense(now_ms: int) -> tuple[bool, bool]:
        found = sense_of(modbus.check_reply(request, ask(board, request.encode(), now_ms)))
        return found.open_fb, found.shut_fb

    ask(board, REF_1.open_for(1, 5_000).encode(), 0)
    assert sense(500) == (False, False)
    assert sense(1_500) == (True, False)
    board.pipe.stuck = "open"
    assert sense(9_000) == (True, False)


def test_hang_up_closes_the_port() -> None:
    """The pseudo terminal's thread ends, twice stopping is fine."""
    line = PtyLine(ShowerBoard(now_ms=PtyLine.now_ms()))
    with line:
        line.hang_up()
        line.hang_up()
