"""The private pcscd: nothing of it is seen outside, and a missing tool is said, not skipped."""

import os
import shutil
from pathlib import Path

import pytest

from sim.errors import PcscStageError
from sim.pcsc import FIRST_PORT, SOCKET_VARIABLE, PcscStage


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pcscd the stage raises and names it."""
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "pcscd" else real(name))
    with pytest.raises(PcscStageError) as missing:
        PcscStage(1).start()
    assert missing.value.facts == {"missing": "pcscd"}


def test_nothing_listens_outside() -> None:
    """vpcd's ports exist only in the stage's network; the socket lies in its own folder."""
    with PcscStage(1) as stage:
        assert stage.pid is not None
        listening = Path("/proc/self/net/tcp").read_text("ascii")
        assert f":{FIRST_PORT:04X} 00000000:0000 0A" not in listening
        inside = Path(f"/proc/{stage.pid}/net/tcp").read_text("ascii")
        assert f":{FIRST_PORT:04X} 00000000:0000 0A" in inside
        assert Path(os.environ[SOCKET_VARIABLE]).is_socket()
        pid = stage.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(os.environ[SOCKET_VARIABLE]).exists()
