"""A CJ/T 188 water meter with a valve: coarse steps, slow valve, and the manners of several makers.

Pure, like the shower board: `feed`, `tick`, `next_due`, wire time of 2400 8E1 both ways. Strict: a
bad sum, a foreign address and a DI in the other maker's order are not answered. What differs
between makers are attributes: DI order, control codes, preambles, bytes after the frame.
"""

from __future__ import annotations

from protocols.bcd import encode_bcd
from protocols.bus import cjt188
from protocols.bus.cjt188 import BROADCAST, Frame
from protocols.errors import BusFrameError
from sim.water_pipe import WaterPipe

BITS_PER_BYTE = 11
TURNAROUND_MS = 30
GAP_MS = 100
STEP_ML = 10_000
OPENS = (cjt188.VALVE_OPEN, cjt188.FREE_OPEN)
SHUTS = (cjt188.VALVE_CLOSE, cjt188.FREE_CLOSE)


class ValveMeter:
    """The meter; `pipe` has the water. The valve is where it was left: it has no spring."""

    def __init__(
        self, address: bytes, *, pipe: WaterPipe | None = None, baud: int = 2_400, now_ms: int = 0
    ) -> None:
        self.address = address
        self.pipe = WaterPipe(travel_ms=5_000, now_ms=now_ms) if pipe is None else pipe
        self.low_first = True  # DI on the line as 1F 90
        self.odd_control = False  # AA instead of 84 to a valve write
        self.echoes_serial = True
        self.preambles = 3
        self.trailing_raw = b""  # what a gateway adds after the frame
        self.low_battery = self.refuses = self.dead = False
        self.volume_base_ml = 23_010_000
        self.valve_writes: list[int] = []
        self._baud = baud
        self._buffer = b""
        self._heard_ms = now_ms
        self._now_ms = now_ms
        self._outbox: list[tuple[int, bytes]] = []

    def feed(self, raw: bytes, now_ms: int) -> bytes:
        """Bytes from the master."""
        out = self.tick(now_ms)
        if now_ms - self._heard_ms > GAP_MS:
            self._buffer = b""
        self._heard_ms = max(now_ms, self._heard_ms) + self._wire_ms(len(raw))
        self._buffer = (self._buffer + raw).lstrip(b"\xfe")
        try:
            size = cjt188.length_of(self._buffer)
            if size is None or len(self._buffer) < size:
                return out
            request = Frame.decode(self._buffer)
        except BusFrameError:
            self._buffer = b""
            return out
        self._buffer = b""
        self._answer(request, self._heard_ms)
        return out + self.tick(now_ms)

    def tick(self, now_ms: int) -> bytes:
        """Let time pass; what has left the meter by now."""
        self._now_ms = max(self._now_ms, now_ms)
        self.pipe.advance(self._now_ms)
        out = b"".join(raw for done_ms, raw in self._outbox if done_ms <= now_ms)
        self._outbox = [entry for entry in self._outbox if entry[0] > now_ms]
        return out

    def next_due(self) -> int | None:
        """When tick is wanted next."""
        times = [self.pipe.next_due(), *(done_ms for done_ms, _ in self._outbox)]
        return min((time for time in times if time is not None), default=None)

    def _wire_ms(self, size: int) -> int:
        return -(-size * BITS_PER_BYTE * 1000 // self._baud)

    def _answer(self, request: Frame, now_ms: int) -> None:
        if self.dead or request.is_reply or request.address not in (self.address, BROADCAST):
            return
        if len(request.body) < 3:
            return
        body = self._body(request)
        serial = request.body[2:3] if self.echoes_serial else b"\x00"
        control = request.control | cjt188.REPLY
        if body is None:
            control, body = control | cjt188.ERROR, self._status()
        elif self.odd_control and request.control == cjt188.WRITE:
            control = 0xAA
        head = request.body[:2] + serial
        frame = Frame(request.meter_type, self.address, control, head + body)
        raw = b"\xfe" * self.preambles + frame.encode() + self.trailing_raw
        self._outbox.append((now_ms + TURNAROUND_MS + self._wire_ms(len(raw)), raw))

    def _body(self, request: Frame) -> bytes | None:
        """What the reply says after DI and serial; None to refuse."""
        identifier = int.from_bytes(request.body[:2], "little" if self.low_first else "big")
        if self.refuses:
            return None
        match request.control, identifier:
            case cjt188.READ, cjt188.DI_READ:
                return self._reading()
            case cjt188.READ_ADDRESS, cjt188.DI_ADDRESS:
                return b""
            case cjt188.WRITE, cjt188.DI_VALVE if len(request.body) == 4:
                return self._valve(request.body[3])
            case _:
                return None

    def _reading(self) -> bytes:
        steps = (self.volume_base_ml + self.pipe.water_ml) // STEP_ML % 10**8
        volume = encode_bcd(f"{steps:08d}")[::-1] + b"\x2c"
        return volume + bytes(4) + b"\x2c" + bytes(7) + self._status()

    def _valve(self, action: int) -> bytes | None:
        if action in OPENS:
            self.pipe.drive("open", self._now_ms)
        elif action in SHUTS:
            self.pipe.drive("shut", self._now_ms)
        else:
            return None
        self.valve_writes.append(action)
        return self._status()

    def _status(self) -> bytes:
        at = 3 if self.pipe.moving else int(self.pipe.position == "shut")
        return bytes((at | self.low_battery << 2, 0))
