"""Random lunches: cards torn anywhere, used elsewhere, power cut, lists changed; the chips are the truth."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firmware.drivers.soft_sam import SoftSam
from protocols.card.suite import Pboc3Des
from protocols.wire.record import Kind
from sim.card import SimCard, Tear, TearAt
from sim.plain_tap import plain_purchase
from sim.till_office import MASTERS, OPERATOR, TID, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.canteen.till import TillConfig
from terminal.ledger.audit import audit_journal

CARDS, START_FEN = 3, 20_000
ELSEWHERE = bytes.fromhex("000000000999")
TEARS = st.one_of(
    st.none(),
    st.builds(
        Tear,
        st.sampled_from(list(TearAt)),
        st.integers(0, 14),
        st.integers(0, 9),
    ),
)
CARD = st.integers(0, CARDS - 1)


class Lunch(RuleBasedStateMachine):
    """One till, three cards, one other till elsewhere."""

    @initialize()
    def open_till(self) -> None:
        """A fresh till with its shift open."""
        self.folder = Path(tempfile.mkdtemp())
        self.rig = TillRig(self.folder, TillConfig(cooldown_s=0, roll_records=60))
        self.rig.open_shift()
        self.cards = [self.rig.issue(asn(n + 1), START_FEN) for n in range(CARDS)]
        self.other = SoftSam(MASTERS.mpk, ELSEWHERE, 1, Pboc3Des(), development=True)
        self.version = 1
        self.elsewhere = 0

    def teardown(self) -> None:
        """Every journal that came out of this is legal."""
        if hasattr(self, "rig"):
            self.rig.journal.close()
            problems = [
                p for check in audit_journal(self.folder / "journal") for p in check.problems
            ]
            shutil.rmtree(self.folder)
            assert problems == []

    @rule(card=CARD, fen=st.integers(1, 2_000), tear=TEARS)
    def sell(self, card: int, fen: int, tear: Tear | None) -> None:
        """A sale, torn or not."""
        self.cards[card].plan(tear)
        self.rig.sell(fen, self.cards[card])

    @rule(card=CARD, tear=TEARS)
    def tap(self, card: int, tear: Tear | None) -> None:
        """A card on the reader in whatever state the till is."""
        self.cards[card].plan(tear)
        self.rig.tap(self.cards[card])

    @rule(keys=st.sampled_from(["ENTER", "CANCEL", "VOID", "SHIFT", "5", ". 5 ENTER", "BACK"]))
    def press(self, keys: str) -> None:
        """A key at any moment."""
        self.rig.keys(keys)

    @rule(ms=st.sampled_from([10, 3_000, 5_000, 20_000, 3_600_000]))
    def wait(self, ms: int) -> None:
        """Time, with its timers, and the idle work behind it."""
        self.rig.wait(ms)
        self.rig.poll()

    @rule()
    def power_cut(self) -> None:
        """Off and on."""
        self.rig.reboot()

    @rule(card=CARD, fen=st.integers(1, 500))
    def spend_elsewhere(self, card: int, fen: int) -> None:
        """The same card at another till, torn debit or not."""
        chip = self.cards[card]
        chip.plan(None)
        chip.power_on()
        self.elsewhere += 1
        time = bytes.fromhex(f"{12 + self.elsewhere // 3600 % 10:02d}") + bytes.fromhex(
            f"{self.elsewhere // 60 % 60:02d}{self.elsewhere % 60:02d}"
        )
        plain_purchase(chip.exchange, self.other, fen, time=time)
        chip.power_off()

    @rule(blocked=st.sets(CARD))
    def publish(self, blocked: set[int]) -> None:
        """A new denylist."""
        self.version += 1
        self.rig.office.block(self.version, *(asn(n + 1) for n in blocked))
        self.rig.poll()

    @rule()
    def acknowledge(self) -> None:
        """The centre has everything so far."""
        self.rig.office.ack(self.rig.journal.tip, self.rig.clock.wall_us())
        self.rig.poll()

    @rule()
    def operator(self) -> None:
        """The operator's card on the reader."""
        self.rig.tap(self.rig.issue(OPERATOR, 0))

    @invariant()
    def chips_and_journal_agree(self) -> None:
        """Every debit on a chip with our number is captured or open; nothing else is captured."""
        if not hasattr(self, "rig"):
            return
        state = self.rig.journal.state
        for chip in self.cards:
            ours = {m.termseq: m.fen for m in chip.history if m.tid == TID}
            spent = START_FEN - chip.balance_fen
            assert sum(m.fen for m in chip.history) == spent
            known = self.known.setdefault(chip.purse.info_raw, {})
            self._learn(chip, known)
            captured = {seq for seq, end in known.items() if end == Kind.CAPTURE}
            void = {seq for seq, end in known.items() if end == Kind.VOID}
            open_here = {seq for seq, end in known.items() if end is None}
            assert captured <= set(ours), "captured what the chip never debited"
            assert set(ours) <= captured | open_here, "debited and neither captured nor open"
            assert not void & set(ours), "void, but the chip debited"
        assert state.unsynced_fen >= 0

    def _learn(self, chip: SimCard, known: dict[int, Kind | None]) -> None:
        """How each of our terminal serials ended, volumes rolled away included."""
        for _, record in self.rig.records():
            if record.kind == Kind.INTENT:
                self.serials[record.seq] = (record.inst, record.get("termseq"))
            if record.seq in self.serials and self.serials[record.seq][0] == _asn(chip):
                known.setdefault(self.serials[record.seq][1], None)
            if record.kind in (Kind.CAPTURE, Kind.VOID) and record.ref in self.serials:
                whose, serial = self.serials[record.ref]
                if whose == _asn(chip):
                    known[serial] = Kind(record.kind)

    @invariant()
    def served_only_what_is_captured(self) -> None:
        """The buzzer never said paid without a CAPTURE that is not abandoned."""
        if not hasattr(self, "rig"):
            return
        doubtful = self.rig.state in (State.IN_DOUBT, State.ASK_SERVED)
        assert not doubtful or self.rig.till.session.hold is not None

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, dict[int, Kind | None]] = {}
        self.serials: dict[int, tuple[bytes, int]] = {}


def _asn(chip: SimCard) -> bytes:
    return chip.purse.info_raw[10:20]


TestLunch = Lunch.TestCase
TestLunch.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
