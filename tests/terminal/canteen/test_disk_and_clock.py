"""A disk that fails and a clock that lies: money stops for the one, not for the other."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware.base.errors import JournalFailError
from firmware.base.sqlite import connect
from protocols.texts import TEXTS
from protocols.wire.record import Kind
from sim.till_office import START_US, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.ledger.audit import audit_journal

FEN, START_FEN = 1_250, 9_000


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """An open till."""
    found = TillRig(tmp_path)
    found.open_shift()
    return found


class _Failing(sqlite3.Connection):
    """A connection whose disk breaks when told to."""

    broken: str | None = None

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """As sqlite3, until the disk is broken."""
        if _Failing.broken is not None and sql.startswith("INSERT INTO journal"):
            raise sqlite3.OperationalError(_Failing.broken)
        return super().execute(sql, *args)


@pytest.mark.parametrize("reason", ["disk I/O error", "database or disk is full"])
@pytest.mark.parametrize("nth", [1, 2])
def test_disk_fault_stops_sales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, nth: int
) -> None:
    """At INTENT nothing is sent; at CAPTURE nothing is served; nothing is sold until a restart."""
    monkeypatch.setattr(_Failing, "broken", None)
    make: Callable[..., sqlite3.Connection] = sqlite3.connect

    def open_file(path: Path) -> sqlite3.Connection:
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: make(*a, factory=_Failing, **k))
        try:
            return connect(path)
        finally:
            monkeypatch.setattr(sqlite3, "connect", make)

    rig = TillRig(tmp_path, open_file=open_file)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    append, left = rig.journal.append, [nth]

    def breaking(*args: Any, **fields: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(_Failing, "broken", reason)
        return append(*args, **fields)

    rig.journal.append = breaking  # type: ignore[method-assign]
    rig.sell(FEN, card)
    assert rig.state is State.FAULT
    assert rig.display.text.startswith(TEXTS["JOURNAL_FAIL"][0])
    assert rig.display.beeps("paid") == 0
    assert all(check.ok for check in audit_journal(tmp_path / "journal"))
    sent_before = len(rig.cards.sent)
    rig.sell(FEN, card)
    rig.wait(60_000)
    assert len(rig.cards.sent) == sent_before
    assert card.balance_fen == START_FEN - (FEN if nth == 2 else 0)
    monkeypatch.setattr(_Failing, "broken", None)
    with pytest.raises(JournalFailError):  # the handle is not used again, though the disk is well
        rig.journal.append(Kind.MARK)
    rig.reboot()
    assert rig.state is (State.ASK_SERVED if nth == 2 else State.IDLE)


def test_clock_behind_the_journal(rig: TillRig) -> None:
    """CLOCK_SUSPECT: stamps do not go back, records say so, money is not refused."""
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    high_us = rig.journal.state.hw_us
    rig.clock.jump(-10 * 365 * 86_400_000_000)
    rig.reboot()
    boot = next(r for kind, r in reversed(rig.records()) if kind == Kind.BOOT)
    assert boot.get("findings") == ["CLOCK_SUSPECT"]
    assert boot.flags == 1
    rig.sell(FEN, rig.issue(asn(2), START_FEN))
    assert rig.state is State.APPROVED
    assert all(r.wall_us >= START_US for _, r in rig.records())
    assert rig.journal.state.hw_us == high_us


def test_clock_ten_years_ahead_does_not_refuse_money(rig: TillRig) -> None:
    """A forward jump is no silence of the centre: sales go on."""
    rig.clock.jump(10 * 365 * 86_400_000_000)
    rig.reboot()
    card = rig.issue(asn(1), START_FEN)
    rig.sell(FEN, card)
    assert rig.state is State.APPROVED
