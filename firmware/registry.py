"""The one table from a driver's name in the configuration to the code that makes it.

Factories read their own section, import their driver only when it is chosen, and touch no
hardware: that is the driver's `open`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from firmware.base.clock import SystemClock
from firmware.base.config import Section
from firmware.base.keys import KeyStore
from firmware.ports import CardReader, Display, SamPort

if TYPE_CHECKING:
    from firmware.drivers.keypad_evdev import Keypad
    from firmware.drivers.relay_bus import RelayBus
    from firmware.drivers.water_meter import WaterMeter

HEX = frozenset("0123456789abcdefABCDEF")
BUS_BAUDS = (1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200)
BAUDS = (115_200, 230_400, 460_800, 921_600)


def _pn532(section: Section) -> CardReader:
    from firmware.drivers.pn532 import Pn532Reader

    port = section.text("port", None, "serial device of the PN532")
    baud = section.choice("baud", "115200", map(str, BAUDS), "speed of the serial line")
    return Pn532Reader(port, int(baud))


def _nfcpy(section: Section) -> CardReader:
    from firmware.drivers.nfcpy_reader import NfcpyReader

    return NfcpyReader(section.text("port", None, "serial device of the PN532"))


def _pcsc(section: Section) -> CardReader:
    from firmware.drivers.pcsc import PcscReader

    return PcscReader(section.text("reader", None, "name of the PC/SC reader, whole or its start"))


def _psam_slot(section: Section) -> SamPort:
    from firmware.drivers.pcsc import PcscReader
    from firmware.drivers.psam_slot import PsamSlot, TidPlace

    name = section.text("reader", None, "name of the PC/SC slot that holds the PSAM")
    place = TidPlace(
        sfi=section.integer("tid_sfi", 22, 1, 30, "short file id of the terminal number"),
        offset=section.integer("tid_offset", 0, 0, 255, "offset of the terminal number"),
    )
    aid = section.text("aid", "", "application of the PSAM in hex; empty: no SELECT")
    if len(aid) % 2 or any(c not in "0123456789abcdefABCDEF" for c in aid):
        section.refuse("aid", "hex digits", aid[:40])
        aid = ""
    return PsamSlot(PcscReader(name), place, bytes.fromhex(aid))


def _soft_sam(section: Section) -> SamPort:
    from firmware.drivers.soft_sam import CounterFile, SoftSam
    from protocols.card.suite import Pboc3Des

    development = section.flag("development", False, "the software SAM is for development only")
    tid = section.octets("tid", None, 6, "terminal number")
    store = section.path("keys", "keys.json", "key store, unsealed in development")
    label = section.text("key", "MPK", "label of the purchase master key")
    counter = section.path("counter", "sam.termseq", "file of the terminal serial")
    suite = Pboc3Des()
    opened: list[KeyStore] = []  # the file is read at the first use, not while configuring

    def diversify(asn8: bytes) -> bytes:
        if not opened:
            opened.append(KeyStore.open(store, None, development=development))
        return opened[0].use(label, lambda mk: suite.diversify(mk, asn8))

    return SoftSam(diversify, tid, CounterFile(counter), suite, development=development)


def _console(section: Section) -> object:
    from firmware.drivers.console import Console

    return Console(section.choice("format", "text", ("text", "json"), "for people, for programs"))


def _relay_bus(root: Section) -> RelayBus:
    """Reads the tables bus, valve and meter of this section (terminals.md §9)."""
    from firmware.board_line import LineSetup
    from firmware.drivers.relay_bus import RelayBus

    bus, valve, meter = root.section("bus"), root.section("valve"), root.section("meter")
    port = bus.text("port", None, "serial device of the relay board's line")
    setup = LineSetup(
        unit=bus.integer("unit", 1, 1, 247, "Modbus address of the board"),
        baud=int(bus.choice("baud", "9600", map(str, BUS_BAUDS), "speed of the line")),
        timeout_ms=bus.integer("timeout_ms", 200, 50, 1_000, "a reply must be whole by then, ms"),
        lost_ms=bus.integer("lost_ms", 1_000, 400, 5_000, "without a good reply: BUS_LOST, ms"),
        dead_ms=valve.integer("dead_ms", 1_500, 500, 3_000, "the board shuts by itself after, ms"),
        pulses_per_litre=meter.integer("pulses_per_litre", 450, 1, 10_000, "of the flow sensor"),
        max_flow_l_min=meter.integer("max_flow_l_min", 30, 1, 100, "more is no water, l/min"),
    )
    if setup.dead_ms < 4 * setup.timeout_ms:
        valve.refuse("dead_ms", f"at least 4 x timeout_ms = {4 * setup.timeout_ms}", setup.dead_ms)
    if setup.timeout_ms < setup.timeout_ms_least:
        allowed = f"at least {setup.timeout_ms_least} at this speed"
        bus.refuse("timeout_ms", allowed, setup.timeout_ms)
    return RelayBus(port, setup, SystemClock())


def _water_meter(root: Section) -> WaterMeter:
    """Reads the table water_meter of this section."""
    from firmware.drivers.water_meter import WaterMeter
    from firmware.meter_line import MeterSetup
    from protocols.bus.cjt188 import MeterProfile

    section = root.section("water_meter")
    port = section.text("port", None, "serial device of the meter's line")
    relay = section.flag("timed_relay", False, "its supply runs through a timed, normally shut one")
    alone = section.flag("allow_no_deadman", False, "demonstration: nothing shuts if we die")
    if relay == alone:
        section.refuse("allow_no_deadman", "either it or timed_relay is true", alone)
    order = section.choice("di_order", "low", ("low", "high"), "which byte of DI comes first")
    mask = section.choice("valve_status", "low", ("low", "high"), "valve in status bits 0-1 or 6-7")
    step = section.choice("step_ml", "10000", ("10000", "1000"), "what the last digit means")
    setup = MeterSetup(
        address=section.octets("address", None, 7, "low byte first; AA x 7: the only one here"),
        drives_valve=alone,
        profile=MeterProfile(low_first=order == "low", valve_mask=0x03 if mask == "low" else 0xC0),
        echoes_serial=section.flag("echoes_serial", True, "replies repeat our serial number"),
        baud=int(section.choice("baud", "2400", ("1200", "2400", "4800", "9600"), "8E1")),
        timeout_ms=section.integer("timeout_ms", 600, 300, 2_000, "a reply is whole by then, ms"),
        lost_ms=section.integer("lost_ms", 5_000, 1_000, 60_000, "METER_LOST after, ms"),
        step_ml=int(step),
    )
    return WaterMeter(port, setup, SystemClock())


def _keypad_evdev(section: Section) -> Keypad:
    from firmware.drivers.keypad_evdev import EvdevSource, Keypad
    from firmware.key_streams import SPARE, EvdevStream, key_codes

    device = section.text("device", None, "event device of the keypad, or a FIFO of its events")
    run = section.choice("run_key", "KPASTERISK", SPARE, "the key for start and pause")
    end = section.choice("end_key", "KPENTER", SPARE, "the key that ends")
    if run == end:
        section.refuse("end_key", "another key than run_key", end)
        return Keypad(EvdevSource(device), EvdevStream({}), SystemClock())
    return Keypad(EvdevSource(device), EvdevStream(key_codes(run, end)), SystemClock())


def _keypad_serial(section: Section) -> Keypad:
    from firmware.drivers.keypad_evdev import Keypad, SerialSource
    from firmware.key_streams import SerialStream, serial_characters

    clock = SystemClock()
    port = section.text("port", None, "serial device of the keypad")
    baud = int(section.choice("baud", "9600", map(str, BUS_BAUDS), "speed of the line"))
    run = section.choice("run_key", "*", "*#ABCD", "the character for start and pause")
    end = section.choice("end_key", "#", "*#ABCD", "the character that ends")
    if run == end:
        section.refuse("end_key", "another key than run_key", end)
        run, end = "*", "#"
    return Keypad(SerialSource(port, baud, clock), SerialStream(serial_characters(run, end)), clock)


def _four_line(section: Section) -> Display:
    from firmware.drivers.four_line import ConsoleDisplay, SerialDisplay, Template

    port = section.text("port", "", "serial device of the display; empty: drawn on the console")
    baud = int(section.choice("baud", "9600", map(str, BUS_BAUDS), "speed of the line"))
    raws = dict[str, bytes]()
    for key, default in (("clear", "0C"), ("line_end", "0D0A"), ("beep", "07")):
        text = section.text(key, default, "bytes in hex", len_max=32)
        if len(text) % 2 or any(c not in HEX for c in text):
            section.refuse(key, "hex digits", text)
            text = default
        raws[key] = bytes.fromhex(text)
    encoding = section.choice("encoding", "gb18030", ("gb18030", "utf-8", "ascii"), "of characters")
    if not port:
        return ConsoleDisplay()
    template = Template(raws["clear"], raws["line_end"], raws["beep"], encoding)
    return SerialDisplay(port, baud, template, SystemClock())


READERS: dict[str, Callable[[Section], CardReader]] = {
    "pn532": _pn532,
    "nfcpy": _nfcpy,
    "pcsc": _pcsc,
}
SAMS: dict[str, Callable[[Section], SamPort]] = {"psam_slot": _psam_slot, "soft_sam": _soft_sam}
CONSOLES: dict[str, Callable[[Section], object]] = {"console": _console}
BUSES: dict[str, Callable[[Section], RelayBus]] = {"relay_bus": _relay_bus}
KEYPADS: dict[str, Callable[[Section], Keypad]] = {
    "keypad_evdev": _keypad_evdev,
    "keypad_serial": _keypad_serial,
}
DISPLAYS: dict[str, Callable[[Section], Display]] = {"four_line": _four_line}
METERS: dict[str, Callable[[Section], WaterMeter]] = {"water_meter": _water_meter}
DRIVERS: dict[str, Callable[[Section], object]] = {
    **READERS,
    **SAMS,
    **CONSOLES,
    **BUSES,
    **METERS,
    **KEYPADS,
    **DISPLAYS,
}
