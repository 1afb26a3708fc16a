"""A till at work: shifts, fixed price, menu, void, limits that close and reopen it."""

import sqlite3
from pathlib import Path

import pytest

from firmware.ports import Key
from protocols.wire.chain import Position
from protocols.wire.record import Kind
from sim.card import SimCard, Tear, TearAt
from sim.till_office import OPERATOR, POLICY, START_US, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import Mode, State
from terminal.canteen.till import TillConfig
from terminal.policy.offline import Ceilings

FIXED = TillConfig(mode=Mode.FIXED, fixed_fen=300, cooldown_s=5)
HOUR_MS = 3_600_000


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """An open till for keyed amounts."""
    found = TillRig(tmp_path)
    found.open_shift()
    return found


@pytest.fixture
def fixed(tmp_path: Path) -> TillRig:
    """An open till with one price."""
    found = TillRig(tmp_path, FIXED)
    found.open_shift()
    return found


def test_a_sale_by_the_book(rig: TillRig) -> None:
    """INTENT, CAPTURE, then the screen; the purse, the record and the screen agree."""
    card = rig.issue(asn(1), 5_000)
    rig.sell(1_230, card)
    assert rig.display.text == "成功 | 消费 12.30 余额 37.70 | Paid"
    assert card.balance_fen == 3_770
    intent, capture = (record for _, record in rig.records()[-2:])
    assert (intent.kind, capture.kind) == (Kind.INTENT, Kind.CAPTURE)
    assert (capture.ref, capture.fen, capture.get("purse_after")) == (intent.seq, 1_230, 3_770)
    assert capture.get("tac") != bytes(4)
    assert intent.get("exp_mac2") is not None


def test_every_intent_carries_the_record_before(rig: TillRig) -> None:
    """prev is the card's newest 0018 record at that moment."""
    card = rig.issue(asn(1), 5_000)
    for _ in range(3):
        before = card.purse.ring[0] if card.purse.ring else None
        rig.sell(100, card)
        rig.keys("CANCEL")
        intent = [r for kind, r in rig.records() if kind == Kind.INTENT][-1]
        assert intent.get("prev") == before


def test_fixed_price_queue(fixed: TillRig) -> None:
    """The next card pays at once, while the message of the last still stands."""
    cards = [fixed.issue(asn(n), 5_000) for n in range(1, 7)]
    for card in cards:
        fixed.tap(card)
        assert fixed.state is State.APPROVED
    assert [card.balance_fen for card in cards] == [4_700] * 6
    fixed.wait(3_000)
    assert fixed.state is State.ARMED


def test_same_card_within_the_cool_down(fixed: TillRig) -> None:
    """A card left on the reader, or put twice, does not pay twice."""
    card = fixed.issue(asn(1), 5_000)
    fixed.tap(card)
    fixed.tap(card)
    assert "请勿重复刷卡" in fixed.display.text
    fixed.wait(5_000)
    fixed.tap(card)
    assert card.balance_fen == 4_400


def test_card_before_the_amount(rig: TillRig) -> None:
    """A card that lies there already pays as soon as the amount is confirmed."""
    card = rig.issue(asn(1), 5_000)
    rig.put(card)
    assert "请输入金额" in rig.display.text
    rig.keys("5 ENTER")
    assert rig.state is State.APPROVED
    assert card.balance_fen == 4_500


def test_amount_keys(rig: TillRig) -> None:
    """Digits, 00, point, back; CANCEL clears; the armed amount times out."""
    rig.keys("1 2 . 5 0")
    assert "12.50" in rig.display.text
    rig.keys("BACK BACK BACK 00")
    assert "1200" in rig.display.text or "超出" in rig.display.text
    rig.keys("CANCEL . 5 ENTER")
    assert rig.state is State.ARMED
    assert "0.50" in rig.display.text
    rig.wait(30_000)
    assert rig.state is State.IDLE


def test_menu(tmp_path: Path) -> None:
    """Price keys add up; a key without a price is said."""
    rig = TillRig(tmp_path, TillConfig(mode=Mode.MENU, cooldown_s=0))
    rig.open_shift()
    rig.keys("9")
    assert "此键无价格" in rig.display.text
    rig.keys("1 2 ENTER")
    card = rig.issue(asn(1), 5_000)
    rig.tap(card)
    assert card.balance_fen == 5_000 - 1_350


def test_shift_totals(rig: TillRig) -> None:
    """Closing writes what was sold and taken back, doubts and unsynced sales; then it is closed."""
    card = rig.issue(asn(1), 5_000)
    rig.sell(1_000, card)
    rig.wait(3_000)
    rig.sell(500, card)
    rig.keys("VOID")
    rig.tap(rig.issue(OPERATOR, 0))
    rig.tap(card)
    assert "已撤销" in rig.display.text
    rig.keys("SHIFT")
    rig.tap(rig.issue(OPERATOR, 0))
    assert rig.state is State.CLOSED_SHIFT
    shift = rig.records()[-1][1]
    assert shift.get("action") == 1
    assert shift.get("totals") == [[0, 2, 1_500], [16, 1, 500]]
    assert (shift.get("doubts"), shift.get("unsynced")) == (0, 2)
    assert shift.get("operator") == OPERATOR
    rig.sell(100, card)
    assert rig.state is State.DECLINED
    assert "无操作权限" in rig.display.text
    rig.wait(3_000)
    assert rig.state is State.CLOSED_SHIFT


def test_void_is_a_record_for_the_payer_only(rig: TillRig) -> None:
    """Right 'void', then the same payer's card: REVERSAL; the purse is not written; only once."""
    card, other = rig.issue(asn(1), 5_000), rig.issue(asn(2), 5_000)
    rig.sell(500, card)
    rig.keys("VOID")
    rig.tap(other)
    assert "无操作权限" in rig.display.text
    rig.keys("VOID")
    rig.tap(rig.issue(OPERATOR, 0))
    rig.tap(other)
    assert "不是原消费卡" in rig.display.text
    rig.keys("VOID")
    rig.tap(rig.issue(OPERATOR, 0))
    rig.tap(card)
    reversal = rig.records()[-1][1]
    assert (reversal.kind, reversal.fen, reversal.inst) == (Kind.REVERSAL, 500, asn(1))
    assert card.balance_fen == 4_500
    rig.keys("VOID")
    assert "没有可撤销的消费" in rig.display.text
    assert rig.kinds().count("REVERSAL") == 1


def test_unknown_operator_opens_nothing(tmp_path: Path) -> None:
    """A customer's card does not open the shift; a blocked operator's neither."""
    rig = TillRig(tmp_path)
    rig.tap(rig.issue(asn(1), 5_000))
    assert "无操作权限" in rig.display.text
    rig.office.block(2, OPERATOR)
    rig.poll()
    rig.open_shift()
    assert rig.state is State.DECLINED
    assert "SHIFT" not in rig.kinds()


def test_shift_survives_a_restart(rig: TillRig) -> None:
    """The till comes back open, with its totals."""
    rig.sell(500, rig.issue(asn(1), 5_000))
    rig.reboot()
    assert rig.state is State.IDLE
    assert rig.journal.state.shift is not None
    assert rig.journal.state.shift.sold_fen == 500


def test_doubt_asks_after_20_s(rig: TillRig) -> None:
    """Nothing is abandoned by time; yes keeps the sale, and the next card is served."""
    card = rig.issue(asn(1), 5_000)
    card.plan(Tear(TearAt.AFTER_COMMIT, 3))
    rig.sell(500, card)
    rig.wait(20_000)
    assert rig.state is State.ASK_SERVED
    rig.keys("YES")
    assert rig.state is State.IDLE
    assert "ABANDON" not in rig.kinds()
    rig.sell(100, card)
    late = [r for kind, r in rig.records() if kind == Kind.CAPTURE and r.get("late")]
    assert [r.fen for r in late] == [500]
    assert card.balance_fen == 4_400


def test_unreadable_card_does_not_end_a_doubt(rig: TillRig) -> None:
    """A foreign card in between leaves the sale in doubt."""
    card = rig.issue(asn(1), 5_000)
    card.plan(Tear(TearAt.AFTER_COMMIT, 3))
    rig.sell(500, card)
    rig.tap(SimCard.foreign(rig.rng))
    assert rig.state is State.IN_DOUBT
    rig.tap(card)
    assert rig.state is State.APPROVED


def test_centre_silent_too_long(tmp_path: Path) -> None:
    """offline_max_h closes the till with LIMIT_OFFLINE; a signed ack reopens it by itself."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    rig.wait(72 * HOUR_MS + 2_000)
    rig.poll()
    assert rig.state is State.PAUSED
    assert "超出脱机限额" in rig.display.text
    rig.keys("5 ENTER")
    assert rig.state is State.PAUSED
    rig.office.ack(rig.journal.tip, rig.clock.wall_us())
    rig.poll()
    assert rig.state is State.IDLE


def test_silence_survives_restarts(tmp_path: Path) -> None:
    """Rebooting does not start the hours anew."""
    rig = TillRig(tmp_path)
    rig.open_shift()
    for _ in range(4):
        rig.wait(20 * HOUR_MS)
        rig.reboot()
    assert rig.state is State.PAUSED


def test_unsynced_value_closes_and_an_ack_reopens(tmp_path: Path) -> None:
    """offline_fen of the campus policy is a ceiling over everything unacknowledged."""
    rig = TillRig(tmp_path, policy={**POLICY, "offline_fen": 1_000})
    rig.open_shift()
    card = rig.issue(asn(1), 9_000)
    rig.sell(900, card)
    rig.keys("CANCEL")
    rig.sell(200, card)
    assert "超出脱机限额" in rig.display.text
    rig.keys("CANCEL")
    rig.sell(100, card)
    rig.wait(3_000)
    assert rig.state is State.PAUSED
    rig.office.ack(rig.journal.tip, rig.clock.wall_us())
    rig.poll()
    assert rig.state is State.IDLE
    assert "未上传 0 笔" in rig.display.shown[-1].operator[0]


def test_outbox_levels(tmp_path: Path) -> None:
    """70 % warns on the screen, 100 % closes; nothing is overwritten."""
    ceilings = Ceilings(outbox_records=20)
    rig = TillRig(tmp_path, TillConfig(cooldown_s=0, ceilings=ceilings))
    rig.open_shift()
    card = rig.issue(asn(1), 9_000)
    for _ in range(4):
        rig.sell(10, card)
        rig.keys("CANCEL")
    assert any("未上传记录较多" in line for line in rig.display.shown[-1].operator)
    for _ in range(3):
        rig.sell(10, card)
        rig.keys("CANCEL")
    assert rig.state is State.PAUSED
    assert "未上传记录已满" in rig.display.text


@pytest.mark.parametrize("what", ["fork", "rollback", "halt"])
def test_the_centre_stops_money(rig: TillRig, what: str) -> None:
    """Another hash, a position above ours, a halt: offline money stops until a new epoch."""
    code = {"fork": "JOURNAL_FORK", "rollback": "JOURNAL_ROLLBACK", "halt": "HALTED"}[what]
    if what == "fork":
        rig.office.ack(Position(1, 2, bytes(32)), START_US)
    elif what == "rollback":
        rig.office.ack(Position(1, 999, bytes(32)), START_US)
    else:
        rig.office.halt(1)
    rig.poll()
    assert rig.state is State.PAUSED
    assert any(f"[{code}]" in line for line in rig.display.shown[-1].operator)


def test_lists_are_needed(tmp_path: Path) -> None:
    """Without lists nothing is sold; an older version than the journal's does not count."""
    rig = TillRig(tmp_path)
    rig.office.block(5)
    rig.poll()
    rig.open_shift()
    rig.office.block(4)
    rig.reboot()
    assert rig.state is State.PAUSED
    assert "等待名单" in rig.display.text
    rig.office.block(6)
    rig.poll()
    assert rig.state is State.IDLE


def test_unknown_keys_do_nothing(rig: TillRig) -> None:
    """A key the till does not have is no event."""
    before = rig.till.session
    rig.till.on_event(Key("F13"))
    assert rig.till.session == before


def test_idle_work(tmp_path: Path) -> None:
    """Idle: a new volume at its size, a MARK each hour, and nothing while a sale runs."""
    rig = TillRig(tmp_path, TillConfig(cooldown_s=0, roll_records=12))
    rig.open_shift()
    card = rig.issue(asn(1), 9_000)
    for _ in range(3):
        rig.sell(100, card)
        rig.keys("CANCEL")
    rig.poll()
    assert rig.records()[0][0] == Kind.STATE
    rig.wait(HOUR_MS)
    rig.poll()
    assert rig.kinds()[-1] == "MARK"
    rig.sell(100, card)
    assert rig.state is State.APPROVED
    assert rig.journal.state.shift is not None
    assert rig.journal.state.shift.sold_count == 4


def test_rot_found_by_the_daily_check(rig: TillRig) -> None:
    """A row that changed on the disk: JOURNAL_CHAIN on the screen, nothing sold any more."""
    path = rig.folder / "journal" / "E00001-0000000001.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TRIGGER journal_no_update")
    connection.execute("UPDATE journal SET h = zeroblob(32) WHERE seq = 4")
    connection.close()
    rig.wait(24 * HOUR_MS + 1)
    rig.poll()
    assert rig.state is State.FAULT
    assert "[JOURNAL_CHAIN]" in rig.display.shown[-1].operator[1]
