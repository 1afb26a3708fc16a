"""The shower board's registers as data, and the only frames that may ever move its valve.

Spec: terminals.md §8.2, profile `onecard-ref-1`. The valve is opened by a timed flash-on that the
board itself ends, and shut by coil 0000. An open that latches (FC05 FF00) has no builder here, and
`is_permitted` is what a line asks before it sends anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.bus.modbus import (
    READ_COILS,
    READ_DISCRETES,
    READ_HOLDINGS,
    READ_INPUTS,
    READS,
    WRITE_COIL,
    Frame,
    bits_of,
    read,
    words_of,
    write,
)
from protocols.errors import BusFrameError

FLASH_UNIT_MS = 100
FLASH_COUNT_MAX = 600  # one minute; far below FF00, the wire value of a latching write
STATUS_FLASH_EXPIRED, STATUS_BROWN_OUT, STATUS_WATCHDOG, STATUS_FLASH_ACTIVE = 1, 2, 4, 8
INPUTS_COUNT, INPUTS_LEAST = 9, 8
SENSE_COUNT = 5
SETTINGS_COUNT = 4
_CLAUSE = "terminals.md 8.2"


@dataclass(frozen=True, slots=True)
class BoardInputs:
    """The board's numbers; `firmware` is None in the short form of the read."""

    pulses: int
    flow_ml_min: int
    temperature_dc: int
    supply_mv: int
    uptime_s: int
    boot_count: int
    status: int
    firmware: int | None = None

    @property
    def flash_expired(self) -> bool:
        """A flash ran out since the last read: the renewal came too late, or nobody renewed."""
        return bool(self.status & STATUS_FLASH_EXPIRED)

    @property
    def flash_active(self) -> bool:
        """A flash is running."""
        return bool(self.status & STATUS_FLASH_ACTIVE)


@dataclass(frozen=True, slots=True)
class BoardSense:
    """The board's switches: valve feedback, lid, card slot, flow sensor."""

    open_fb: bool
    shut_fb: bool
    tamper: bool
    slot: bool
    sensor: bool


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """What the board was set to; `flash_max` counts 100 ms."""

    pulses_per_litre: int
    flash_max: int
    unit: int
    baud_code: int


@dataclass(frozen=True, slots=True)
class ShowerMap:
    """Addresses of one kind of board; the defaults are `onecard-ref-1`."""

    valve_coil: int = 0x0000
    valve_flash: int = 0x0200
    buzzer_flash: int = 0x0201
    sense_first: int = 0
    inputs_first: int = 0
    settings_first: int = 0x0010

    def __post_init__(self) -> None:
        flashes = {self.valve_flash, self.buzzer_flash}
        assert len(flashes | {self.valve_coil}) == 3, "a flash-on has a coil of its own"

    def open_for(self, unit: int, ms: int) -> Frame:
        """Open now, shut by the board after `ms`, rounded down to whole 100 ms."""
        return write(unit, WRITE_COIL, self.valve_flash, _flash_count(ms))

    def shut(self, unit: int) -> Frame:
        """Shut now."""
        return write(unit, WRITE_COIL, self.valve_coil, 0)

    def buzz(self, unit: int, ms: int) -> Frame:
        """Sound the buzzer for `ms`."""
        return write(unit, WRITE_COIL, self.buzzer_flash, _flash_count(ms))

    def read_valve(self, unit: int) -> Frame:
        """Read the valve's coil back."""
        return read(unit, READ_COILS, self.valve_coil, 1)

    def read_inputs(self, unit: int, *, whole: bool = True) -> Frame:
        """Read counter, flow and the rest; the short form leaves the firmware version out."""
        count = INPUTS_COUNT if whole else INPUTS_LEAST
        return read(unit, READ_INPUTS, self.inputs_first, count)

    def read_sense(self, unit: int) -> Frame:
        """Read the switches."""
        return read(unit, READ_DISCRETES, self.sense_first, SENSE_COUNT)

    def read_settings(self, unit: int) -> Frame:
        """Read what the board was set to."""
        return read(unit, READ_HOLDINGS, self.settings_first, SETTINGS_COUNT)

    def is_permitted(self, request: Frame) -> bool:
        """Whether a line may send this: any read, shut, or a flash-on of bounded length."""
        if request.function in READS:
            return True
        if request.function != WRITE_COIL or len(request.body) != 4:
            return False
        coil, value = words_of(request.body)
        if coil == self.valve_coil:
            return value == 0
        return coil in (self.valve_flash, self.buzzer_flash) and 1 <= value <= FLASH_COUNT_MAX


REF_1 = ShowerMap()


def inputs_of(raw: bytes) -> BoardInputs:
    """Eight or nine input registers. Raises BUS_FRAME for another length."""
    words = words_of(raw)
    if len(raw) not in (2 * INPUTS_LEAST, 2 * INPUTS_COUNT):
        raise BusFrameError(field="inputs", offset=len(raw), clause=_CLAUSE)
    return BoardInputs(
        pulses=words[0] << 16 | words[1],
        flow_ml_min=words[2],
        temperature_dc=words[3] - (words[3] >> 15 << 16),
        supply_mv=words[4],
        uptime_s=words[5],
        boot_count=words[6],
        status=words[7],
        firmware=words[8] if len(words) > INPUTS_LEAST else None,
    )


def sense_of(raw: bytes) -> BoardSense:
    """Five discretes in one byte, the rest of it zero. Raises BUS_FRAME otherwise."""
    if len(raw) != 1 or raw[0] >> SENSE_COUNT:
        raise BusFrameError(field="sense", offset=0, clause=_CLAUSE)
    return BoardSense(*bits_of(raw, SENSE_COUNT))


def settings_of(raw: bytes) -> BoardSettings:
    """Four holding registers. Raises BUS_FRAME for another length."""
    if len(raw) != 2 * SETTINGS_COUNT:
        raise BusFrameError(field="settings", offset=len(raw), clause=_CLAUSE)
    return BoardSettings(*words_of(raw))


def _flash_count(ms: int) -> int:
    count = ms // FLASH_UNIT_MS
    assert 1 <= count <= FLASH_COUNT_MAX, (ms, FLASH_COUNT_MAX)
    return count
