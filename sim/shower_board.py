"""The shower's relay board (profile `onecard-ref-1`) as a strict Modbus slave over a water pipe.

Pure and in virtual time: `feed(bytes, now_ms)` and `tick(now_ms)` return what has left the board by
then, `next_due` says when to tick. Wire time counts both ways. Stricter than boards usually are:
bad CRC, foreign unit and a request into its own answer are met with silence, every address and
value outside the map with an exception. It does take FC05 FF00 at the valve's coil, as real
boards do, and counts it: whoever sends that loses its dead-man.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocols.bus.line import crc16_modbus
from protocols.bus.modbus import (
    READ_COILS,
    READ_DISCRETES,
    READ_HOLDINGS,
    READ_INPUTS,
    WRITE_COIL,
    WRITE_HOLDING,
    Frame,
)
from sim.water_pipe import WaterPipe

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY = 1, 2, 3, 6
GAP_MS = 50  # a rest of a request older than this is noise
TURNAROUND_MS = 3
FIRMWARE = 0x0102
LATCH = 0xFF00
PLACES_MAX = {READ_COILS: 2000, READ_DISCRETES: 2000, READ_HOLDINGS: 125, READ_INPUTS: 125}
FAULTS = (
    "dead",
    "mute",
    "wrong_unit",
    "other_function",
    "bad_crc",
    "truncate",
    "double",
    "late",
    "garbage",
    "busy",
)


@dataclass(slots=True)
class BoardFault:
    """One fault on requests of this function (None: any): after `skip` such, `times` times.

    dead: not carried out, no reply. mute: carried out, no reply. late: the reply leaves `delay_ms`
    later. busy: exception 06, not carried out. The others spoil the reply of a request carried out.
    """

    kind: str
    function: int | None = None
    skip: int = 0
    times: int = 1
    delay_ms: int = 300

    def __post_init__(self) -> None:
        assert self.kind in FAULTS, self.kind


class ShowerBoard:
    """The board. Knobs: tamper, slot, extends, expires; `pipe` has the water's."""

    def __init__(
        self, *, unit: int = 1, baud: int = 9_600, pipe: WaterPipe | None = None, now_ms: int = 0
    ) -> None:
        self.unit = unit
        self.pipe = WaterPipe(now_ms=now_ms) if pipe is None else pipe
        self.tamper = self.slot = False
        self.extends = True  # a flash-on during a flash starts it anew
        self.expires = True  # the board ends a flash by itself
        self.powered = True
        self.flash_max = 300
        self.latching_opens = self.flashes = self.collisions = self.requests = 0
        self.boot_count = 7
        self.relay = False
        self.buzzer_until_ms = 0
        self._baud = baud
        self._now_ms = now_ms
        self._booted_ms = now_ms
        self._flash_until_ms: int | None = None
        self._expired = self._brown_out = False
        self._pulse_base = 0  # counter register = pipe's pulses + base
        self._faults: list[BoardFault] = []
        self._buffer = b""
        self._heard_ms = now_ms
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._outbox: deque[tuple[int, int, bytes]] = deque()  # begins, done, bytes

    # the electrician

    def plan(self, *faults: BoardFault) -> None:
        """Replace the planned faults."""
        self._faults = list(faults)

    def set_counter(self, value: int, now_ms: int) -> None:
        """Make the counter register show this value now."""
        self.pipe.advance(now_ms)
        self._pulse_base = value - self.pipe.pulses

    def reboot(self, now_ms: int) -> None:
        """Power dips: relay off, counter zero, boot count up, the request at hand is lost."""
        self._advance(now_ms)
        self._relay(False, now_ms)
        self._booted_ms = now_ms
        self.boot_count = self.boot_count + 1 & 0xFFFF
        self._pulse_base = -self.pipe.pulses
        self._expired, self._brown_out = False, True
        self._inbox.clear()
        self._outbox.clear()

    def power(self, on: bool, now_ms: int) -> None:
        """Switch the supply: without it the valve falls shut and nobody answers."""
        if on and not self.powered:
            self.reboot(now_ms)
        if not on:
            self._advance(now_ms)
            self._relay(False, now_ms)
        self.powered = on

    # the wire

    def feed(self, raw: bytes, now_ms: int) -> bytes:
        """Bytes from the master."""
        out = self.tick(now_ms)
        if self._buffer and now_ms - self._heard_ms > GAP_MS:
            self._buffer = b""
        if any(begins <= now_ms for begins, _, _ in self._outbox):
            self.collisions += 1
            self._outbox.clear()
            return out
        self._heard_ms = max(self._heard_ms, now_ms) + self._wire_ms(len(raw))
        self._buffer += raw
        size = self._size()
        if size is not None and len(self._buffer) >= size:
            self._inbox.append((self._heard_ms, self._buffer))
            self._buffer = b""
        return out + self.tick(now_ms)

    def tick(self, now_ms: int) -> bytes:
        """Let time pass; what has left the board by now."""
        while self._inbox and self._inbox[0][0] <= now_ms:
            at_ms, raw = self._inbox.popleft()
            self._advance(at_ms)
            if self.powered:
                self._request(raw, at_ms)
        self._advance(now_ms)
        out = b""
        while self._outbox and self._outbox[0][1] <= now_ms:
            out += self._outbox.popleft()[2]
        return out

    def next_due(self) -> int | None:
        """When tick is wanted next."""
        times = [self._flash_until_ms if self.expires else None, self.pipe.next_due()]
        times += [at_ms for at_ms, _ in self._inbox] + [done for _, done, _ in self._outbox]
        return min((time for time in times if time is not None), default=None)

    # inside

    def _wire_ms(self, size: int) -> int:
        return 0 if self._baud == 0 else -(-size * 10_000 // self._baud)

    def _size(self) -> int | None:
        if len(self._buffer) < 4:
            return None
        if READ_COILS <= self._buffer[1] <= WRITE_HOLDING:
            return 8
        whole = crc16_modbus(self._buffer[:-2]).to_bytes(2, "little") == self._buffer[-2:]
        return len(self._buffer) if whole else None

    def _advance(self, now_ms: int) -> None:
        until_ms = self._flash_until_ms
        if until_ms is not None and until_ms <= now_ms and self.expires:
            self._expired = True
            self._relay(False, max(until_ms, self._now_ms))
        self._now_ms = max(self._now_ms, now_ms)
        self.pipe.advance(self._now_ms)

    def _relay(self, on: bool, now_ms: int) -> None:
        self.relay = on
        self._flash_until_ms = None
        self.pipe.drive("open" if on else "shut", now_ms)

    def _request(self, raw: bytes, now_ms: int) -> None:
        if len(raw) < 4 or crc16_modbus(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            return
        if raw[0] not in (0, self.unit):
            return
        self.requests += 1
        fault = self._due(raw[1])
        kind = "" if fault is None else fault.kind
        if kind == "dead":
            return
        body = bytes((BUSY,)) if kind == "busy" else self._carry_out(raw[1], raw[2:-2], now_ms)
        if raw[0] == 0 or kind == "mute":
            return
        function = raw[1] | 0x80 if len(body) == 1 else raw[1]
        delay_ms = fault.delay_ms if fault is not None and kind == "late" else 0
        reply = _spoilt(kind, Frame(self.unit, function, body))
        begins_ms = now_ms + TURNAROUND_MS + delay_ms
        self._outbox.append((begins_ms, begins_ms + self._wire_ms(len(reply)), reply))

    def _due(self, function: int) -> BoardFault | None:
        for fault in self._faults:
            if fault.function in (None, function) and fault.times:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _carry_out(self, function: int, body: bytes, now_ms: int) -> bytes:
        """The reply's body; one byte is an exception."""
        if function not in (*PLACES_MAX, WRITE_COIL, WRITE_HOLDING):
            return bytes((ILLEGAL_FUNCTION,))
        address, value = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        if function == WRITE_COIL:
            return self._write_coil(address, value, now_ms) or body
        if function == WRITE_HOLDING:
            return self._write_holding(address, value) or body
        if not 1 <= value <= PLACES_MAX[function]:
            return bytes((ILLEGAL_VALUE,))
        table = self._table(function, now_ms)
        if any(place not in table for place in range(address, address + value)):
            return bytes((ILLEGAL_ADDRESS,))
        values = [table[place] for place in range(address, address + value)]
        if function in (READ_COILS, READ_DISCRETES):
            packed = sum(bit << n for n, bit in enumerate(values))
            raw = packed.to_bytes((value + 7) // 8, "little")
        else:
            raw = b"".join(word.to_bytes(2, "big") for word in values)
        if function == READ_INPUTS and address <= 7 < address + value:
            self._expired = self._brown_out = False
        return bytes((len(raw),)) + raw

    def _write_coil(self, address: int, value: int, now_ms: int) -> bytes:
        if address in (0, 1):
            if value not in (0, LATCH):
                return bytes((ILLEGAL_VALUE,))
            if address == 0:
                self.latching_opens += value == LATCH
                self._relay(value == LATCH, now_ms)
            return b""
        if address not in (0x200, 0x201):
            return bytes((ILLEGAL_ADDRESS,))
        if not 1 <= value <= self.flash_max:
            return bytes((ILLEGAL_VALUE,))
        if address == 0x201:
            self.buzzer_until_ms = now_ms + 100 * value
        elif self._flash_until_ms is None or self.extends:
            self._relay(True, now_ms)
            self._flash_until_ms = now_ms + 100 * value
            self.flashes += 1
        return b""

    def _write_holding(self, address: int, value: int) -> bytes:
        if address != 0x11:
            return bytes((ILLEGAL_ADDRESS,))
        if not 1 <= value <= 600:
            return bytes((ILLEGAL_VALUE,))
        self.flash_max = value
        return b""

    def _table(self, function: int, now_ms: int) -> dict[int, int]:
        if function == READ_COILS:
            buzzing = int(self.buzzer_until_ms > now_ms)
            return {0: int(self.relay), 1: buzzing, 0x200: int(self.relay), 0x201: buzzing}
        if function == READ_DISCRETES:
            at = "" if self.pipe.moving else self.pipe.position
            bits = (at == "open", at == "shut", self.tamper, self.slot, self.pipe.sensor)
            return dict(enumerate(int(bit) for bit in bits))
        if function == READ_HOLDINGS:
            settings = (self.pipe.pulses_per_litre, self.flash_max, self.unit, 3)
            return dict(enumerate(settings, 0x10))
        return dict(enumerate(self._inputs(now_ms)))

    def _inputs(self, now_ms: int) -> tuple[int, ...]:
        pulses = self.pipe.pulses + self._pulse_base & 0xFFFFFFFF
        flow = self.pipe.rate_ml_min if self.pipe.sensor else 0
        status = int(self._expired) | self._brown_out << 1
        status |= (self._flash_until_ms is not None) << 3
        uptime_s = (now_ms - self._booted_ms) // 1000 & 0xFFFF
        words = (pulses >> 16, pulses & 0xFFFF, min(flow, 0xFFFF), 385, 12_000, uptime_s)
        return (*words, self.boot_count, status, FIRMWARE)


def _spoilt(kind: str, reply: Frame) -> bytes:
    """The reply's bytes as this fault lets them leave."""
    raw = reply.encode()
    if kind == "wrong_unit":
        return Frame(reply.unit % 247 + 1, reply.function, reply.body).encode()
    if kind == "other_function":
        other = READ_HOLDINGS if reply.function != READ_HOLDINGS else READ_INPUTS
        return Frame(reply.unit, other, b"\x02\x00\x00").encode()
    if kind == "bad_crc":
        return raw[:-1] + bytes((raw[-1] ^ 0x40,))
    if kind == "truncate":
        return raw[:-3]
    if kind == "double":
        return raw + raw
    return b"\xff\x00\x55" + raw if kind == "garbage" else raw
