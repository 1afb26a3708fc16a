"""The long checks' command line: usage, what is left out for lack of time, and the exit code."""

import json

import pytest

from bench import assure


def done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str, ok: bool):
    """Exit code and report of a run whose checks are stood in for."""
    found = {"taps": 3, "ok": ok}
    monkeypatch.setattr(assure, "kill", lambda kind, asked: dict(found))
    monkeypatch.setattr(assure, "tear", lambda: {"taps": 5, "ok": True})
    code = assure.main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("argv", [["nonsense"], ["kill", "--kind", "dog"], ["--minutes", "x"]])
def test_bad_usage_is_2(argv: list[str]) -> None:
    """Unknown checks, processes and numbers are refused before anything starts."""
    with pytest.raises(SystemExit) as refused:
        assure.main(argv)
    assert refused.value.code == 2


def test_all_runs_every_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each process is killed, then cards are torn; one clean object, exit 0."""
    code, report = done(monkeypatch, capsys, ok=True)
    names = [result["check"] for result in report["results"]]
    assert names == ["kill terminal", "kill daemon", "kill broker", "kill centre", "tear"]
    assert (code, report["ok"], report["left_out"]) == (0, True, [])


def test_a_violation_is_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One check that is not clean fails the run."""
    code, report = done(monkeypatch, capsys, "kill", "--kind", "centre", ok=False)
    assert (code, report["ok"]) == (1, False)


def test_no_time_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With no minutes nothing starts, everything is named, and nothing counts as proved."""
    code, report = done(monkeypatch, capsys, "tear", "--minutes", "-1", ok=True)
    assert (code, report["left_out"]) == (1, ["tear"])
