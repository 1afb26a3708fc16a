"""The serial line under every serial driver: bytes with deadlines, and one error for a dead line.

pyserial opens and configures the port; reading and writing go to the descriptor directly, because
setting pyserial's timeout reconfigures the port on each call. Parity is given at open only: a
pseudo terminal with parity refuses a later change of speed (card.md §8.4).
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from firmware.base.clock import Clock
from firmware.errors import LinkLostError, ReaderDownError

if TYPE_CHECKING:
    from serial import Serial

READ_MAX = 4096


class SerialLink:
    """One serial port, opened exclusively. Raises READER_DOWN at open, LINK_LOST afterwards."""

    def __init__(self, port: str, clock: Clock) -> None:
        self._port = port
        self._clock = clock
        self._serial: Serial | None = None

    def open(self, baud: int, parity: str = "N") -> None:
        """Open the port at that speed, 8 data bits, parity N or E, one stop bit."""
        import serial

        self.close()
        try:
            self._serial = serial.Serial(self._port, baud, parity=parity, timeout=0, exclusive=True)
        except (OSError, ValueError) as fault:  # SerialException is an OSError
            raise ReaderDownError(port=self._port, reason=str(fault)[:120]) from fault

    def close(self) -> None:
        """Close the port; closing twice is fine."""
        port, self._serial = self._serial, None
        if port is not None:
            port.close()

    @property
    def descriptor(self) -> int:
        """The open port's descriptor, for a selector. Raises READER_DOWN."""
        return self._descriptor()

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open port."""
        try:
            self._opened().baudrate = baud
        except (OSError, ValueError) as fault:
            raise LinkLostError(port=self._port, reason=str(fault)[:120]) from fault

    def write(self, raw: bytes, deadline_us: int) -> None:
        """Write everything before the deadline."""
        descriptor, rest = self._descriptor(), memoryview(raw)
        while rest:
            _, ready, _ = select.select([], [descriptor], [], self._left_s(deadline_us))
            if not ready:
                raise LinkLostError(port=self._port, reason="line does not take bytes")
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                continue
            except OSError as fault:
                raise LinkLostError(port=self._port, reason=fault.strerror) from fault

    def read(self, deadline_us: int) -> bytes:
        """Whatever has come, waiting for the first byte until the deadline; b"" after it."""
        descriptor = self._descriptor()
        ready, _, _ = select.select([descriptor], [], [], self._left_s(deadline_us))
        if not ready:
            return b""
        try:
            raw = os.read(descriptor, READ_MAX)
        except BlockingIOError:
            return b""
        except OSError as fault:
            raise LinkLostError(port=self._port, reason=fault.strerror) from fault
        if not raw:
            raise LinkLostError(port=self._port, reason="hung up")
        return raw

    def drain(self) -> int:
        """Throw away what has come unasked; the count of bytes."""
        count = 0
        while raw := self.read(0):
            count += len(raw)
        return count

    def _opened(self) -> Serial:
        if self._serial is None:
            raise ReaderDownError(port=self._port, reason="not open")
        return self._serial

    def _descriptor(self) -> int:
        descriptor: int = self._opened().fileno()
        return descriptor

    def _left_s(self, deadline_us: int) -> float:
        return max(deadline_us - self._clock.mono_us(), 0) / 1_000_000
