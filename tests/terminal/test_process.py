"""The shipped command as a process: starts, sells nothing it should not load, ends with its codes."""

import json
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.base.clock import SystemClock, Trust
from firmware.base.sqlite import connect
from protocols.wire import cbor
from sim.card import SimCard
from sim.pn532 import Pn532Sim
from sim.seeded import SeededRng
from sim.till_folder import deliver, make
from sim.till_office import MASTERS, OPERATOR, Office, asn, grant
from terminal.errors import JournalBusyError, TestKeysError
from terminal.roles import main

pytestmark = pytest.mark.slow
CLOCK = SystemClock(Trust.HELD)
START = "import sys; from terminal.roles import main; sys.exit(main(sys.argv[1:]))"
BANNED = (
    *("pydantic", "sqlalchemy", "cwt", "paho", "typer", "starlette", "uvicorn", "rich"),
    *("fastapi", "PIL", "numpy", "nfc", "smartcard", "alembic", "argon2"),
)
LIMIT_S = 20.0


class Running:
    """A terminal process with its screens and its log lines."""

    def __init__(self, config: Path, *words: str, start: str = START) -> None:
        command = [sys.executable, "-c", start, "canteen", "--config", str(config), *words]
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self.seen = b""

    def wait_for(self, text: str, stream: str = "stdout") -> None:
        """Read until the text comes; fails after a deadline with what came instead."""
        source = getattr(self.child, stream)
        until = time.monotonic() + LIMIT_S
        while text.encode() not in self.seen:
            left = until - time.monotonic()
            assert left > 0, self.seen.decode("utf-8", "replace")
            if select.select([source], [], [], left)[0]:
                raw = source.read1(65_536)
                assert raw, self.seen.decode("utf-8", "replace")
                self.seen += raw
        self.seen = self.seen.partition(text.encode())[2]

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.child.terminate()
        code = self.child.wait(10)
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()
        return code


@pytest.fixture
def reader() -> Iterator[Pn532Sim]:
    """A PN532 on a pty."""
    with Pn532Sim() as chip:
        yield chip


def _card(n: int) -> SimCard:
    return SimCard.issue(asn(n), MASTERS, SeededRng(n), balance_fen=5_000)


def test_sells_and_loads_nothing_heavy(tmp_path: Path, reader: Pn532Sim) -> None:
    """READY, shift, a fixed-price sale through the PN532; none of the banned modules is loaded."""
    config = make(tmp_path, reader.port, CLOCK)
    tail = "; sys.stderr.write('MODULES ' + ' '.join(sys.modules) + chr(10)); sys.exit(code)"
    start = START.replace("sys.exit(main(sys.argv[1:]))", "code = main(sys.argv[1:])" + tail)
    till = Running(config, "--demo", start=start)
    try:
        till.wait_for("请操作员刷卡开班")
        reader.insert(SimCard.issue(OPERATOR, MASTERS, SeededRng(1), balance_fen=0))
        till.wait_for("请刷卡")
        reader.remove()
        card = _card(2)
        reader.insert(card)
        till.wait_for('"beep": "paid"')
        reader.remove()
        assert card.balance_fen == 4_700
    finally:
        till.child.terminate()
        _, said = till.child.communicate(timeout=10)
    assert till.child.returncode == 0
    log = said.decode()
    assert " READY terminal=T0001 state=selling" in log
    loaded = {name.split(".")[0] for name in log.partition("MODULES ")[2].split()}
    assert "terminal" in loaded
    assert loaded.isdisjoint(BANNED), loaded & set(BANNED)


def test_one_writer(tmp_path: Path, reader: Pn532Sim) -> None:
    """A second process on the same journal ends with JOURNAL_BUSY, exit 2."""
    config = make(tmp_path, reader.port, CLOCK)
    till = Running(config, "--demo")
    try:
        till.wait_for("READY", "stderr")
        second = Running(config, "--demo")
        second.wait_for(JournalBusyError.code, "stderr")
        assert second.child.wait(10) == 2
        second.end()
    finally:
        assert till.end() == 0


def test_new_epoch_is_taken_up_alone(tmp_path: Path, reader: Pn532Sim) -> None:
    """A damaged journal: out of service, code on the screen; a granted epoch leads on by itself."""
    office = Office()
    config = make(tmp_path, reader.port, CLOCK, office)
    till = Running(config, "--demo")
    till.wait_for("READY", "stderr")
    till.end()
    journal = tmp_path / "data" / "journal" / "E00001-0000000001.db"
    connection = connect(journal)
    connection.execute("UPDATE meta SET v = ? WHERE k = 'terminal'", (cbor.dumps("T0009"),))
    connection.close()
    before = journal.read_bytes()
    till = Running(config, "--demo")
    try:
        till.wait_for("JOURNAL_CHAIN")
        office.say("grant", grant(2, hw0_us=CLOCK.wall_us()))
        deliver(tmp_path / "data", office)
        till.wait_for("请操作员刷卡开班")
    finally:
        assert till.end() == 0
    assert journal.read_bytes() == before
    assert (tmp_path / "data" / "journal" / "E00002-0000000001.db").exists()


@pytest.mark.parametrize("what", ["sam", "profile", "identity", "name", "config", "version"])
def test_what_is_refused_at_start(
    tmp_path: Path, reader: Pn532Sim, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with the code, before a card is accepted; a newer journal is shown and left alone."""
    config = make(tmp_path, reader.port, CLOCK)
    words, code = ["--demo"], ""
    if what == "sam":
        words, code = [], "SAM_INSECURE"
    elif what == "profile":
        words, code = [], TestKeysError.code
        (tmp_path / "p.toml").write_text("test_keys = true\n")
        text = config.read_text().replace('driver = "soft_sam"', 'driver = "psam_slot"')
        text = text.split("[sam]")[0] + '[card]\nprofile = "p.toml"\n[sam]\nreader = "none"\n'
        config.write_text(text)
    elif what == "identity":
        shutil.rmtree(tmp_path / "data" / "identity")
        code = "IDENTITY"
    elif what == "name":
        config.write_text('terminal_id = "T0099"\n' + config.read_text())
        code = "IDENTITY"
    elif what == "config":
        config.write_text(config.read_text().replace("fixed_fen = 300", "fixed_fen = 0\nx = 1"))
        code = "CONFIG"
    if what == "version":
        _newer(tmp_path, config)
        return
    assert main(["canteen", "--config", str(config), *words]) == 2
    assert code in capsys.readouterr().err


def _newer(folder: Path, config: Path) -> None:
    till = Running(config, "--demo")
    till.wait_for("READY", "stderr")
    till.end()
    path = folder / "data" / "journal" / "E00001-0000000001.db"
    connection = connect(path)
    connection.execute("UPDATE meta SET v = ? WHERE k = 'schema'", (cbor.dumps(9),))
    connection.close()
    before = path.read_bytes()
    till = Running(config, "--demo")
    till.wait_for("JOURNAL_VERSION")
    assert till.end() == 0
    assert path.read_bytes() == before


def test_config_explain_and_selftest(
    tmp_path: Path, reader: Pn532Sim, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option with default and range; each device by name, exit 1 when one fails."""
    config = make(tmp_path, reader.port, CLOCK)
    assert main(["config", "--explain", "--json", "--config", str(config)]) == 0
    options = {o["key"]: o for o in json.loads(capsys.readouterr().out)["options"]}
    assert options["canteen.offline_max_h"]["default"] == 72
    assert options["card.record_only_fen_max"]["allowed"] == "0..20000"
    assert main(["config", "--explain", "--config", str(config)]) == 0
    assert "canteen.fixed_fen = 300" in capsys.readouterr().out
    assert main(["selftest", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    config.write_text(config.read_text().replace(reader.port, "/dev/null/none"))
    assert main(["selftest", "--config", str(config)]) == 1
    assert "reader: ok=False" in capsys.readouterr().out
