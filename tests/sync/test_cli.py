"""The command line: exit codes, one JSON object, typed errors, help for every documented command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sync import commands

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "protocols" / "vectors" / "card.json"
CHANGED = ("session", "mac1", "mac2", "tac", "dk", "cryptogram", "out", "debit", "credit", "rsp")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sync", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_kat_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """The published vectors all pass: exit 0 and a closing count."""
    assert commands.main(["kat", str(VECTORS)]) == 0
    assert "0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("field", CHANGED)
def test_kat_one_changed_digit(field: str, tmp_path: Path) -> None:
    """One hex digit of any expected value changed: exit 1."""
    document = json.loads(VECTORS.read_text("utf-8"))
    holders = [
        member
        for members in document.values()
        if isinstance(members, list)
        for member in members
        if field in member
    ]
    assert holders
    for member in holders:
        kept = member[field]
        member[field] = f"{kept[:-1]}{(int(kept[-1], 16) + 1) % 16:X}"
        changed = tmp_path / "changed.json"
        changed.write_text(json.dumps(document))
        assert commands.main(["kat", str(changed)]) == 1
        member[field] = kept


def test_kat_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` is one object."""
    assert commands.main(["kat", str(VECTORS), "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_decode(capsys: pytest.CaptureFixture[str]) -> None:
    """A good APDU as JSON; bad bytes: a typed error as JSON and exit 2."""
    assert commands.main(["decode", "apdu", "805C000204"]) == 0
    assert json.loads(capsys.readouterr().out)["ins"] in (0x5C, "5c", "5C")
    assert commands.main(["decode", "purse-record", "00"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "CARD_RECORD"
    assert commands.main(["decode", "no-such-kind", "00"]) == 2
    assert commands.main(["decode", "apdu", "8G"]) == 2


@pytest.mark.parametrize("words", [["kat", "/no/such/file"], ["nonsense"], ["decode"]])
def test_usage_is_exit_2(words: list[str]) -> None:
    """Bad usage is exit 2."""
    assert commands.main(words) == 2


def test_audit_of_nothing_is_refused(tmp_path: Path) -> None:
    """A journal folder or a database that is not there: 2, or 3 for not reachable."""
    assert commands.main(["audit", "--journal", str(tmp_path / "none")]) == 2
    found = _run("audit", "--db", f"sqlite:///{tmp_path}/none.db", "--json")
    assert found.returncode == 3, found.stderr


def test_optimised_python_is_refused() -> None:
    """`python -O` would remove the assertions that guard money."""
    command = [sys.executable, "-O", "-m", "sync", "kat", str(VECTORS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "-O" in done.stderr


def _documented() -> list[list[str]]:
    """Every `onecard …` and `./run …` command of the README, cut at its first placeholder."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = text[text.index("## Commands") :].split("```")[1]
    found = []
    for start in re.findall(r"(?:onecard|\./run) ([^\n]*?)(?:\s{2,}|$)", block, re.M):
        words = []
        for word in start.split():
            if not re.fullmatch(r"[a-z]+", word):
                break
            words.append(word)
        found.append(words)
    assert len(found) >= 9
    return found


@pytest.mark.parametrize("words", _documented(), ids=" ".join)
def test_documented_commands_have_help(words: list[str]) -> None:
    """Each command of the README answers --help with a text about itself."""
    done = _run(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100
