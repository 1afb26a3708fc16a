"""Modbus by other people: our master against pymodbus's server, its client against our board.

pymodbus knows FC05 with FF00 and 0000 only, so neither side can be asked for a flash.
"""

import asyncio
import os
import select
import threading
import time
import tty
from collections.abc import Iterator

import pytest
from pymodbus.client import ModbusSerialClient
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from firmware.board_line import BoardLine, LineSetup
from firmware.ports import BusLost, BusOk, Flow, ValveState
from sim.bus_line import PtyLine
from sim.shower_board import ShowerBoard


class PeerServer:
    """pymodbus's serial server with the registers of our map, in a thread."""

    def __init__(self, port: str) -> None:
        bits = DataType.BITS
        device = SimDevice(
            id=1,
            simdata=(
                [SimData(0, values=[False, False], datatype=bits)],
                [SimData(0, values=[False, True, False, True, True], datatype=bits)],
                [SimData(0x10, values=[450, 300, 1, 3], datatype=DataType.REGISTERS)],
                [
                    SimData(
                        0,
                        values=[0x0001, 0x0002, 8_000, 0xFFF6, 12_000, 60, 7, 0, 0x0102],
                        datatype=DataType.REGISTERS,
                    )
                ],
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._device, self._port = device, port
        self._server: ModbusSerialServer | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        async def serve() -> None:
            self._server = ModbusSerialServer(
                self._device, framer=FramerType.RTU, port=self._port, baudrate=9_600
            )
            await self._server.serve_forever(background=True)
            self._ready.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    def stop(self) -> None:
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def peer_line() -> Iterator[int]:
    """Our end of a pseudo terminal whose other end pymodbus serves."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    server = PeerServer(os.ttyname(theirs))
    yield ours
    server.stop()
    for end in (ours, theirs):
        os.close(end)


def test_our_master_against_their_server(peer_line: int) -> None:
    """Shut, read back, samples: what their server holds is what our core says."""
    core, heard = BoardLine(LineSetup()), list[object]()

    def now_ms() -> int:
        return time.monotonic_ns() // 1_000_000

    end_ms = now_ms() + 5_000
    core.link_up(now_ms())
    core.poll_every(50)
    while len(heard) < 4:
        assert now_ms() < end_ms, heard
        core.on_timer(now_ms())
        raw = core.to_send(now_ms())
        if raw is not None:
            os.write(peer_line, raw)
        if select.select([peer_line], [], [], 0.01)[0]:
            core.receive(os.read(peer_line, 4096), now_ms())
        while (event := core.next_event()) is not None:
            heard.append(event)
    assert heard[0] == BusOk()
    assert not [event for event in heard if isinstance(event, BusLost)]
    flow = heard[-1]
    assert isinstance(flow, Flow)
    assert (flow.open_fb, flow.shut_fb, flow.slot, flow.sensor) == (False, True, True, True)
    assert (flow.pulses, flow.flow_ml_min, flow.fault) == (0, 8_000, None)
    assert core.state is ValveState.SHUT
    assert core.fault_counts == {}


@pytest.fixture
def board_and_client() -> Iterator[tuple[ShowerBoard, ModbusSerialClient]]:
    """Our board on a pseudo terminal, pymodbus's client on its port."""
    board = ShowerBoard(now_ms=PtyLine.now_ms())
    with PtyLine(board) as line:
        client = ModbusSerialClient(
            line.port, framer=FramerType.RTU, baudrate=9_600, timeout=1, retries=0
        )
        assert client.connect()
        yield board, client
        client.close()


def test_their_client_against_our_board(
    board_and_client: tuple[ShowerBoard, ModbusSerialClient],
) -> None:
    """Every table reads as the map says; a coil written by them moves the valve."""
    board, client = board_and_client
    inputs = client.read_input_registers(0, count=9, device_id=1)
    assert inputs.registers[2:] == [0, 385, 12_000, 0, 7, 0, 0x0102]
    assert client.read_discrete_inputs(0, count=5, device_id=1).bits[:5] == [
        *(False, True, False, False, True)
    ]
    assert client.read_holding_registers(0x10, count=4, device_id=1).registers == [450, 300, 1, 3]
    assert not client.write_register(0x11, 30, device_id=1).isError()
    assert board.flash_max == 30
    assert not client.write_coil(0, True, device_id=1).isError()
    assert client.read_coils(0, count=2, device_id=1).bits[:2] == [True, False]
    assert board.latching_opens == 1
    assert not client.write_coil(0, False, device_id=1).isError()
    assert not board.relay


@pytest.mark.parametrize(
    ("table", "address", "count", "code"),
    [
        ("read_input_registers", 0, 10, 2),
        ("read_input_registers", 9, 1, 2),
        ("read_discrete_inputs", 3, 3, 2),
        ("read_holding_registers", 0, 1, 2),
        ("read_coils", 2, 1, 2),
    ],
)
def test_their_client_is_refused(
    board_and_client: tuple[ShowerBoard, ModbusSerialClient],
    table: str,
    address: int,
    count: int,
    code: int,
) -> None:
    """Outside the map: an exception that they understand."""
    _, client = board_and_client
    answer = getattr(client, table)(address, count=count, device_id=1)
    assert answer.isError()
    assert answer.exception_code == code


def test_other_functions_and_values_are_refused(
    board_and_client: tuple[ShowerBoard, ModbusSerialClient],
) -> None:
    """Several coils at once are an unknown function; a setting out of range a bad value."""
    _, client = board_and_client
    assert client.write_coils(0, [True], device_id=1).exception_code == 1
    assert client.write_register(0x11, 0, device_id=1).exception_code == 3
    assert client.write_register(0x12, 5, device_id=1).exception_code == 2
