"""Configuration: every fault is found in one run and named with file, key and allowed range."""

from pathlib import Path

import pytest

from firmware.base.config import Section
from firmware.base.errors import ConfigError


def root(text: str, tmp_path: Path) -> Section:
    path = tmp_path / "terminal.toml"
    path.write_text(text, "utf-8")
    return Section.load(path)


def problems(section: Section) -> dict[str, object]:
    with pytest.raises(ConfigError) as found:
        section.close()
    return {str(p["key"]): p["allowed"] for p in found.value.problems}


def test_right_values_pass(tmp_path: Path) -> None:
    """Values in range come back as written, defaults where nothing is written."""
    cfg = root(
        'name = "till"\n[canteen]\nmax = 5\non = true\nmode = "fixed"\ntid = "0011"', tmp_path
    )
    canteen = cfg.section("canteen")
    assert cfg.text("name", None) == "till"
    assert canteen.integer("max", 1, 1, 10) == 5
    assert canteen.integer("other", 7, 1, 10) == 7
    assert canteen.flag("on", False)
    assert canteen.choice("mode", "amount", ("amount", "fixed")) == "fixed"
    assert canteen.octets("tid", None, 2) == b"\x00\x11"
    assert cfg.path("data", "data") == tmp_path / "data"
    cfg.close()


def test_all_faults_in_one_run(tmp_path: Path) -> None:
    """Range, type, choice, hex, missing, unknown key and unknown table: all named at once."""
    cfg = root(
        'typo = 1\n[canteen]\nmax = 11\non = 1\nmode = "menu"\ntid = "001"\nflat = true\n[ghost]\na = 1',
        tmp_path,
    )
    canteen = cfg.section("canteen")
    canteen.integer("max", 1, 1, 10)
    canteen.integer("flat", 1, 0, 1)  # true is not 1
    canteen.flag("on", False)
    canteen.choice("mode", "amount", ("amount", "fixed"))
    canteen.octets("tid", None, 2)
    canteen.text("missing", None)
    assert problems(cfg) == {
        "typo": "no such key",
        "ghost": "no such key",
        "canteen.max": "1..10",
        "canteen.flat": "0..1",
        "canteen.on": "true, false",
        "canteen.mode": "amount, fixed",
        "canteen.tid": "4 hex digits",
        "canteen.missing": "text of 1..1000 characters",
    }


def test_error_names_file_key_and_range(tmp_path: Path) -> None:
    """The error's facts carry code, file, key, allowed and what was found."""
    cfg = root("max = 0", tmp_path)
    cfg.integer("max", 1, 1, 10)
    with pytest.raises(ConfigError) as found:
        cfg.close()
    facts = found.value.as_json()
    assert facts["code"] == "CONFIG"
    assert str(facts["file"]).endswith("terminal.toml")
    assert (facts["key"], facts["allowed"], facts["got"]) == ("max", "1..10", 0)


@pytest.mark.parametrize("text", ["a = ", "\x00", "a = 1\na = 2"])
def test_unreadable_file(text: str, tmp_path: Path) -> None:
    """A file that is not TOML, and one that is missing, are CONFIG too."""
    with pytest.raises(ConfigError):
        root(text, tmp_path)
    with pytest.raises(ConfigError):
        Section.load(tmp_path / "none.toml")


def test_not_a_table(tmp_path: Path) -> None:
    """A value where a table belongs is named."""
    cfg = root("canteen = 3", tmp_path)
    cfg.section("canteen").integer("max", 1, 1, 10)
    assert problems(cfg) == {"canteen": "table"}


def test_cross_check(tmp_path: Path) -> None:
    """An owner's own check of two keys joins the list."""
    cfg = root("", tmp_path)
    cfg.refuse("dead_ms", "at least 4 x timeout_ms", 100)
    assert problems(cfg) == {"dead_ms": "at least 4 x timeout_ms"}


def test_explain_lists_every_option(tmp_path: Path) -> None:
    """explain gives value, default, range and help of each declared option, sections included."""
    cfg = root("[canteen]\nmax = 5", tmp_path)
    cfg.text("name", "till", "what it is called")
    cfg.section("canteen").integer("max", 1, 1, 10, "fen")
    shown = {o.key: (o.value, o.default, o.allowed, o.help) for o in cfg.explain()}
    assert shown["canteen.max"] == (5, 1, "1..10", "fen")
    assert shown["name"][3] == "what it is called"
