"""A campus of real processes in one folder: founded, enrolled, issued, started, healed, audited."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from firmware.base.clock import SystemClock
from firmware.base.keys import KeyStore
from firmware.base.rng import Rng
from firmware.base.sqlite import connect
from protocols.bcd import encode_bcd
from protocols.card.card_profile import CardProfile
from protocols.wire import cbor
from sim.brokers import free_port, wait_listening
from sim.campus.processes import Process, onecard
from sim.campus.till import TillPlan, TillRig, Wire
from sim.card import SimCard
from sim.card_memory import Masters
from sim.tcp_cutter import TcpCutter
from sync.central.acts import Acts
from sync.central.engine import open_engine
from sync.central.founding import Ports, init_centre
from sync.central.settings import FILE, CentreConfig, load
from sync.central.summary import Summary, summary

SITE, CAMPUS = "s1", "demo"
POLICY = {
    "per_sale_fen": 5_000,
    "per_day_fen": 100_000,
    "offline_fen": 1_000_000,
    "offline_h": 72,
}
TARIFF = {"prices": {"1": ["米饭", 50], "2": ["素菜", 200], "3": ["荤菜", 450]}}
SYNC_S = 60.0


@dataclass(frozen=True, slots=True)
class CampusPlan:
    """What a campus has. `wires` gives a till its own reader wire (PC/SC)."""

    tills: Sequence[TillPlan]
    cards: int = 8
    opening_fen: int = 20_000
    database: str = "sqlite:///centre.db"
    profile: CardProfile = field(default_factory=CardProfile)
    policy: dict[str, int] = field(default_factory=lambda: dict(POLICY))
    env: dict[str, str] = field(default_factory=dict)
    flush_ms: int = 2_000  # how long a till's oldest record may wait before it is sent


class Campus:
    """Everything of one campus; `folder` holds all of its files."""

    def __init__(
        self, folder: Path, plan: CampusPlan, rng: Rng, wires: dict[str, Wire] | None = None
    ) -> None:
        self.folder = folder
        self.plan = plan
        self._rng = rng
        self._wires = wires or {}
        self._broker_port = free_port()
        self.cutter = TcpCutter(self._broker_port)
        self.config = self._found()
        self.engine = open_engine(self.config.database)
        self.acts = Acts(self.engine, self.config.desk(), SystemClock(), rng)
        self.masters = self._masters()
        self.operator = self._operator()
        self.cards = [self._issue(n, plan.opening_fen) for n in range(1, plan.cards + 1)]
        self._lists()
        self.broker = self._service("broker", "broker", "--config", str(folder / "centre" / FILE))
        self.central = self._service(
            "central", "central", "--config", str(folder / "centre" / FILE)
        )
        self.tills: dict[str, TillRig] = {}

    # --- founding -----------------------------------------------------------------------------

    def _found(self) -> CentreConfig:
        ports = Ports(broker=self._broker_port, core=free_port(), enrol=free_port())
        folder, database = self.folder / "centre", self.plan.database
        init_centre(folder, CAMPUS, SITE, True, self._rng, ports=ports, database=database)
        with (folder / FILE).open("a") as config:
            config.write(f"\n[window]\nflush_ms = {self.plan.flush_ms}\n")
        return load(folder / FILE)

    def _masters(self) -> Masters:
        store = self.config.masters()
        lent = [store.use(f"{name}.1", bytes) for name in ("MPK", "MLK", "MTK", "MAMK")]
        return Masters(*lent)

    def _idem(self) -> bytes:
        return self._rng.token(16)

    def issue(self, number: int, opening_fen: int) -> SimCard:
        """One more card of this campus, personalised and in the books."""
        asn = encode_bcd(f"{number:020d}")
        self.acts.issue_card(self._idem(), "demo office", asn, opening_fen)
        return SimCard.issue(
            asn, self.masters, self._rng, balance_fen=opening_fen, profile=self.plan.profile
        )

    _issue = issue

    def _operator(self) -> SimCard:
        card = self.issue(9_001, 0)
        rows = [(encode_bcd(f"{9_001:020d}"), "Li", None, ["shift", "void", "override"])]
        self.acts.publish_operators(self._idem(), "demo office", rows)
        return card

    def _lists(self) -> None:
        office = "demo office"
        policy, tariff = cbor.dumps(self.plan.policy), cbor.dumps(TARIFF)
        self.acts.publish_list(self._idem(), office, "policy", policy)
        self.acts.publish_list(self._idem(), office, "tariff", tariff)
        self.acts.publish_cards(self._idem(), office)

    def _service(self, name: str, *words: str) -> Process:
        return Process(name, onecard(*words), self.folder)

    # --- running ------------------------------------------------------------------------------

    def start(self) -> None:
        """Broker, centre, then every till: enrolled by its one-time code, shift opened."""
        self.broker.start()
        wait_listening(self._broker_port)
        self.central.start()
        wait_listening(self.config.enrol_port, 30)
        for plan in self.plan.tills:
            self.add_till(plan)
        for till in self.tills.values():
            till.daemon.start()
            till.terminal.start()
        for till in self.tills.values():
            self.open_shift(till)

    def add_till(self, plan: TillPlan) -> TillRig:
        """Create, configure and enrol one till; not started."""
        code = self.acts.create_terminal(
            self._idem(), "demo office", plan.name, place="canteen 1", merchant="canteen1"
        )
        folder = self.folder / plan.name
        folder.mkdir()
        keys = folder / "sam.json"
        KeyStore.create(keys, None, development=True).add("MPK", self.masters.mpk)
        till = TillRig(plan, folder, keys, self._wires.get(plan.name), self.plan.env)
        self._enrol(till, code)
        self.tills[plan.name] = till
        return till

    def _enrol(self, till: TillRig, code: str) -> None:
        root = x509.load_pem_x509_certificate(self.config.ca_pem.read_bytes())
        fingerprint = sha256(root.public_bytes(serialization.Encoding.DER)).hexdigest()
        url = f"https://127.0.0.1:{self.config.enrol_port}"
        words = ["terminal", "enrol", code, "--config", str(till.config)]
        command = onecard(*words, "--url", url, "--fingerprint", fingerprint)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + self.central.tail()
        path = till.folder / "identity" / "enrol.cbor"
        content = cbor.loads(path.read_bytes())
        content["broker_port"] = self.cutter.port  # the cable that the demo pulls
        path.write_bytes(cbor.dumps(content))

    def open_shift(self, till: TillRig, limit_s: float = 60) -> None:
        """The operator's card opens the shift; until the lists have come it is refused."""
        till.wait_for("开班", limit_s)
        wait_until(lambda: self._opened(till), limit_s, till.terminal.tail)

    def _opened(self, till: TillRig) -> bool:
        till.clear()
        till.lay(self.operator)
        try:
            while True:
                shown = till.wait_for("", 10)
                if shown.beep == "refused":
                    return False
                if any(text in line for line in shown.operator for text in ("请刷卡", "请输入")):
                    return True
        finally:
            till.lift()

    def stop(self) -> None:
        """End every process, tills first; the others too when one gives trouble."""
        with ExitStack() as last_first:
            last_first.callback(self.engine.dispose)
            last_first.callback(self.cutter.close)
            last_first.callback(self.broker.stop)
            last_first.callback(self.central.stop)
            for till in self.tills.values():
                last_first.callback(till.stop)

    # --- looking ------------------------------------------------------------------------------

    def books(self) -> Summary:
        """Counts and balances at the centre now."""
        return summary(self.engine)

    def unsynced(self) -> dict[str, int]:
        """Records of each till that the centre has not posted."""
        have = {line.code: line for line in self.books().terminals}
        found = {}
        for name, till in self.tills.items():
            epoch, seq = journal_tip(till.journal)
            line = have.get(name)
            known = line.records if line is not None and line.epoch == epoch else 0
            found[name] = seq - known
        return found

    def wait_synced(self, limit_s: float = SYNC_S) -> None:
        """Return when every journal is wholly at the centre. Raises TimeoutError."""
        wait_until(
            lambda: not any(self.unsynced().values()),
            limit_s,
            lambda: f"unsynced {self.unsynced()}\n{self.central.tail()}",
        )

    def audit(self) -> tuple[bool, list[dict[str, object]]]:
        """(clean, checks) of `onecard audit`, run as a user would."""
        config = str(self.folder / "centre" / FILE)
        command = onecard("audit", "--config", config, "--full", "--json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (0, 1), done.stderr
        found = json.loads(done.stdout)
        return bool(found["ok"]), list(found["checks"])


def journal_tip(folder: Path) -> tuple[int, int]:
    """(epoch, seq) of the last record in a journal folder; (0, 0) without one."""
    files = sorted(folder.glob("E*.db"))
    if not files:
        return 0, 0
    connection = connect(files[-1], read_only=True)
    try:
        row = connection.execute("SELECT max(seq) FROM journal").fetchone()
    finally:
        connection.close()
    return int(files[-1].name[1:6]), int(row[0] or 0)


def wait_until(
    true: Callable[[], bool], limit_s: float, why: Callable[[], str] = lambda: ""
) -> None:
    """Poll until it is true. Raises TimeoutError with the reason."""
    until = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(why())
        time.sleep(0.1)
