"""The table of drivers: chosen by name, lazily imported, built without touching hardware."""

import subprocess
import sys
from pathlib import Path

import pytest

from firmware.base.config import Section
from firmware.base.errors import ConfigError, KeyMissingError
from firmware.base.keys import KeyStore
from firmware.errors import SamInsecureError
from firmware.ports import Mac1Ask
from firmware.registry import DRIVERS, SAMS
from protocols.money import Fen

SECTIONS: dict[str, dict[str, object]] = {
    "pn532": {"port": "/dev/ttyS9", "baud": "921600"},
    "nfcpy": {"port": "/dev/ttyS9"},
    "pcsc": {"reader": "Some Reader"},
    "psam_slot": {"reader": "Some Slot", "tid_sfi": 22, "tid_offset": 0, "aid": "A0"},
    "soft_sam": {"development": True, "tid": "001122334455"},
    "console": {"format": "json"},
    "relay_bus": {
        "bus": {"port": "/dev/ttyS1", "baud": "9600", "unit": 1, "timeout_ms": 200},
        "valve": {"dead_ms": 1500},
        "meter": {"pulses_per_litre": 450, "max_flow_l_min": 30},
    },
    "water_meter": {
        "water_meter": {
            "port": "/dev/ttyS2",
            "address": "05000001000000",
            "timed_relay": True,
            "di_order": "high",
        }
    },
    "keypad_evdev": {"device": "/dev/input/event9", "run_key": "KPPLUS", "end_key": "KPMINUS"},
    "keypad_serial": {"port": "/dev/ttyS3", "run_key": "A"},
    "four_line": {"port": "/dev/ttyS4", "clear": "0c1b40"},
}


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_is_built_from_its_section(name: str) -> None:
    """Each driver reads exactly its keys, and no device needs to exist."""
    section = Section("x.toml", SECTIONS[name])
    assert DRIVERS[name](section) is not None
    section.close()


@pytest.mark.parametrize("name", DRIVERS)
def test_an_unknown_key_is_an_error(name: str) -> None:
    """A key that no driver reads is CONFIG."""
    section = Section("x.toml", SECTIONS[name] | {"bogus": 1})
    DRIVERS[name](section)
    with pytest.raises(ConfigError) as found:
        section.close()
    assert found.value.facts["key"] == "bogus"


def test_soft_sam_outside_development() -> None:
    """The software SAM refuses a configuration that does not say development."""
    with pytest.raises(SamInsecureError):
        DRIVERS["soft_sam"](Section("x.toml", {"tid": "001122334455"}))


def test_soft_sam_takes_its_key_by_label(tmp_path: Path) -> None:
    """The master key comes from the key store by its label; a missing one is KEYS_MISSING."""
    KeyStore.create(tmp_path / "keys.json", None, development=True).add("MPK", bytes(16))
    ask = Mac1Ask(bytes(8), bytes(4), 0, Fen(1), 6, bytes(4), bytes(3), 1, 0)
    table: dict[str, object] = {"development": True, "tid": "001122334455"}
    sam = SAMS["soft_sam"](Section(str(tmp_path / "x.toml"), table))
    assert sam.mac1(ask).termseq == 1
    other = SAMS["soft_sam"](Section(str(tmp_path / "x.toml"), table | {"key": "NONE"}))
    with pytest.raises(KeyMissingError):
        other.mac1(ask)


def test_bad_aid_is_named() -> None:
    """An AID that is no hex is CONFIG."""
    section = Section("x.toml", {"reader": "r", "aid": "A0G"})
    DRIVERS["psam_slot"](section)
    with pytest.raises(ConfigError):
        section.close()


def _problems(name: str, table: dict[str, object]) -> list[str]:
    section = Section("x.toml", table)
    DRIVERS[name](section)
    with pytest.raises(ConfigError) as found:
        section.close()
    return [str(problem["key"]) for problem in found.value.problems]


def test_a_dead_man_must_outlive_two_time_outs_and_their_retries() -> None:
    """dead_ms below four time-outs, a time-out below the longest reply's time: CONFIG."""
    table: dict[str, object] = {
        "bus": {"port": "/dev/ttyS1", "timeout_ms": 200, "baud": "1200"},
        "valve": {"dead_ms": 700},
    }
    assert _problems("relay_bus", table) == ["bus.timeout_ms", "valve.dead_ms"]


@pytest.mark.parametrize("says", [{}, {"timed_relay": True, "allow_no_deadman": True}])
def test_a_meter_without_a_dead_man_is_refused(says: dict[str, object]) -> None:
    """A valve meter alone needs allow_no_deadman; with a timed relay it may only count."""
    table: dict[str, object] = {
        "water_meter": {"port": "/dev/ttyS2", "address": "05000001000000"} | says
    }
    assert _problems("water_meter", table) == ["water_meter.allow_no_deadman"]


@pytest.mark.parametrize(
    ("name", "table", "key"),
    [
        ("keypad_evdev", {"device": "e", "end_key": "KPASTERISK"}, "end_key"),
        ("keypad_serial", {"port": "p", "run_key": "#"}, "end_key"),
        ("four_line", {"clear": "0C1"}, "clear"),
        ("four_line", {"beep": "zz"}, "beep"),
    ],
)
def test_panel_options_are_checked(name: str, table: dict[str, object], key: str) -> None:
    """One key for two meanings, or bytes that are no hex, are CONFIG."""
    assert _problems(name, table) == [key]


def test_a_terminal_imports_little() -> None:
    """What a PN532 till loads of firmware brings no X.509, asyncio, PC/SC, nfcpy or web library."""
    code = (
        "import sys, firmware.registry, firmware.reactor, firmware.card_worker\n"
        "import firmware.base.log, firmware.base.sqlite, firmware.base.keys, firmware.base.config\n"
        "import firmware.drivers.pn532, firmware.drivers.soft_sam, firmware.drivers.console\n"
        "import firmware.drivers.relay_bus, firmware.drivers.keypad_evdev, firmware.deadman\n"
        "import firmware.drivers.four_line, serial\n"
        "print(*sys.modules)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert "serial" in loaded
    absent = {"cryptography.x509", "asyncio", "smartcard", "nfc", "subprocess", "sqlalchemy"}
    assert not loaded & (absent | {"paho", "pydantic", "typer", "rich", "ssl", "cwt"})
