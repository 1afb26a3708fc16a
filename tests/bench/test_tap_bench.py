"""The tap bench runs the real till over both readers and keeps every sample; it times no test."""

import json
from pathlib import Path

import pytest

from bench import tap


@pytest.mark.parametrize("reader", tap.BEDS)
def test_report_has_every_sample(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object; as many raw samples as taps for driver and till; the same kept in a file."""
    monkeypatch.chdir(tmp_path)
    tap.main(["--taps", "5", "--reader", reader, "--json", "--keep", "kept.json"])
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    report = json.loads(shown)
    assert report == json.loads((tmp_path / "kept.json").read_text())
    found = report["readers"][reader]
    for part in ("driver", "till"):
        assert len(found[part]["raw_us"]) == 5
        assert found[part]["p50_ms"] <= found[part]["p99_ms"] <= found[part]["max_ms"]
    assert (found.get("bytes_per_tap", 0) > 200) == (reader == "pn532")


def test_quantiles() -> None:
    """p50 and p99 of 1..100 ms."""
    samples = [n * 1000 for n in range(100, 0, -1)]
    assert tap.quantile_ms(samples, 500) == 51
    assert tap.quantile_ms(samples, 990) == 100
    assert tap.quantile_ms([7000], 990) == 7
