"""Everything the issue lists as bad input: a stable code, the journal intact, no service."""

from pathlib import Path

import pytest

from firmware.errors import SamError
from firmware.ports import Mac1Answer, Mac1Ask, ReaderState, SamInfo
from protocols.card.apdu import SW
from protocols.errors import MoneyTextError
from protocols.texts import TEXTS
from protocols.wire.record import Kind
from sim.card import SimCard
from sim.relay import Relay, Tricks
from sim.till_office import MASTERS, asn
from sim.till_rig import TillRig
from terminal.canteen.moves import State
from terminal.canteen.till import TillConfig
from terminal.ledger.audit import audit_journal

FEN, START_FEN = 1_250, 9_000


def _refused(rig: TillRig, code: str) -> None:
    """The code stands on the operator's screen, its text on the customer's; nothing was served."""
    last = rig.display.shown[-1]
    assert any(f"[{code}]" in line for line in last.operator), last
    assert last.customer[0] == TEXTS[code][0]
    assert rig.display.beeps("paid") == 0
    assert all(check.ok for check in audit_journal(rig.folder / "journal"))


@pytest.fixture
def rig(tmp_path: Path) -> TillRig:
    """An open till."""
    found = TillRig(tmp_path)
    found.open_shift()
    return found


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("0 ENTER", "AMOUNT_ZERO"),
        ("0 . 0 0 ENTER", "AMOUNT_ZERO"),
        ("1 . .", MoneyTextError.code),
        ("1 . 2 3 4", MoneyTextError.code),
        ("2 0 0 . 0 1", "LIMIT_TAP"),
        ("9 9 9 9", "LIMIT_TAP"),
    ],
)
def test_amounts_that_are_none(rig: TillRig, typed: str, code: str) -> None:
    """Zero, not a number, above the limit: said at once, nothing armed."""
    rig.keys(typed)
    _refused(rig, code)
    assert rig.state is State.AMOUNT


def test_foreign_card(rig: TillRig) -> None:
    """Somebody else's card."""
    rig.sell(FEN, SimCard.foreign(rig.rng))
    _refused(rig, "CARD_FOREIGN")


@pytest.mark.parametrize(("start", "expiry"), [("20200101", "20210101"), ("20270101", "20290101")])
def test_card_outside_its_dates(rig: TillRig, start: str, expiry: str) -> None:
    """Expired, or not valid yet."""
    card = SimCard.issue(
        asn(1), MASTERS, rig.rng, balance_fen=START_FEN, start=start, expiry=expiry
    )
    rig.sell(FEN, card)
    _refused(rig, "CARD_EXPIRED")


def test_stopped_card(rig: TillRig) -> None:
    """The issuer has not started the application."""
    card = SimCard.issue(asn(1), MASTERS, rig.rng, balance_fen=START_FEN, enabled=False)
    rig.sell(FEN, card)
    _refused(rig, "CARD_BLOCKED")


def test_denylisted_card(rig: TillRig) -> None:
    """A card of the list in force, taken into use while the till runs."""
    rig.office.block(2, asn(1))
    rig.poll()
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    _refused(rig, "CARD_DENYLISTED")
    assert "INTENT" not in rig.kinds()


def test_denylist_taken_into_use_during_the_tap(rig: TillRig) -> None:
    """A version in force before INTENT counts, though the card was clean at SELECT."""

    def publish(apdu: bytes) -> None:
        if apdu[1] == 0x50:
            rig.office.block(2, asn(1))
            rig.news.poll()

    rig.cards.before = publish
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    _refused(rig, "CARD_DENYLISTED")
    assert "INTENT" not in rig.kinds()


def test_purse_too_small(rig: TillRig) -> None:
    """余额不足."""
    rig.sell(FEN, rig.issue(asn(1), FEN - 1))
    _refused(rig, "INSUFFICIENT")


def test_worn_out_card(rig: TillRig) -> None:
    """The 16-bit counter is at its end."""
    card = rig.issue(asn(1), START_FEN)
    card.age(offline=65_535)
    rig.sell(FEN, card)
    _refused(rig, "CARD_COUNTER_FULL")


@pytest.mark.parametrize(
    ("fen", "spent", "code"),
    [(15_000, 0, "PIN_UNAVAILABLE"), (9_999, 9, "LIMIT_OFFLINE"), (20_000, 0, "PIN_UNAVAILABLE")],
)
def test_limits(rig: TillRig, fen: int, spent: int, code: str) -> None:
    """Above the free amount, above what the centre may not know of one card."""
    card = rig.issue(asn(1), 90_000)
    for _ in range(3 if spent else 0):
        rig.sell(9_000, card)
        rig.wait(3_000)
    rig.display.shown.clear()
    rig.sell(fen, card)
    _refused(rig, code)


def test_day_limit(tmp_path: Path) -> None:
    """The day's sum of one card."""
    policy = {"per_sale_fen": 900, "per_day_fen": 1_000, "offline_fen": 99_999, "offline_h": 9}
    rig = TillRig(tmp_path, policy=policy)
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    rig.sell(900, card)
    rig.wait(3_000)
    rig.display.shown.clear()
    rig.sell(200, card)
    _refused(rig, "LIMIT_DAY")
    rig.keys("CANCEL")
    rig.sell(1_000, card)
    _refused(rig, "LIMIT_TAP")


def _answering(rig: TillRig, ins: int, raw: bytes) -> None:
    """From now on this instruction is answered with these bytes instead of the card's."""
    transmit = rig.cards.transmit

    def answering(token: int, apdu: bytes, deadline_ms: int) -> None:
        if apdu[1] == ins and rig.cards.card is not None:
            card = rig.cards.card
            rig.cards.card = _Saying(raw)  # type: ignore[assignment]
            transmit(token, apdu, deadline_ms)
            rig.cards.card = card
        else:
            transmit(token, apdu, deadline_ms)

    rig.cards.transmit = answering  # type: ignore[method-assign]


class _Saying:
    """A card position that answers the same bytes to anything."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def exchange(self, apdu: bytes) -> bytes:
        """The bytes."""
        return self.raw


@pytest.mark.parametrize(
    ("ins", "raw", "code"),
    [
        (0xA4, b"\x6f\x01\x90\x00", "CARD_FOREIGN"),
        (0xA4, b"\x90", "CARD_APDU"),
        (0xA4, bytes(300), "CARD_APDU"),
        (0xA4, b"\x93\x03", "CARD_BLOCKED"),
        (0x50, b"\x01\x02\x90\x00", "CARD_PROFILE"),
        (0x50, b"\x94\x03", "CARD_PROFILE"),
        (0x50, b"", "CARD_APDU"),
    ],
)
def test_malformed_answers_before_the_debit(rig: TillRig, ins: int, raw: bytes, code: str) -> None:
    """Garbled, truncated, oversized: a code, nothing in doubt, no INTENT."""
    _answering(rig, ins, raw)
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    _refused(rig, code)
    assert "INTENT" not in rig.kinds()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x90",
        b"\x90\x00",
        bytes(7) + b"\x90\x00",
        bytes(300),
        b"\x65\x81",
        b"\x6c\x08",
        b"\x61\x08",
        b"\x12\x34",
        b"\x00\x93\x02",
    ],
)
def test_anything_unclear_after_the_debit_is_in_doubt(rig: TillRig, raw: bytes) -> None:
    """Short, long, EEPROM fault, wrong Le, unknown: never failure, never success."""
    _answering(rig, 0x54, raw)
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    assert rig.state is State.IN_DOUBT
    assert rig.kinds()[-2:] == ["INTENT", "DOUBT"]
    _refused(rig, "IN_DOUBT")


@pytest.mark.parametrize("sw", [0x9302, 0x9401, 0x9403, 0x6985, 0x6A81, 0x6D00])
def test_a_definite_refusal_voids(rig: TillRig, sw: int) -> None:
    """The list of card.md §5.4, complete and alone, proves that no money moved."""
    _answering(rig, 0x54, sw.to_bytes(2, "big"))
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    assert rig.kinds()[-1] == "VOID"
    assert rig.state is State.DECLINED
    assert rig.display.beeps("paid") == 0


@pytest.mark.parametrize("code", ["CARD_GONE", "CARD_MUTE", "LINK_LOST"])
def test_no_answer_to_the_debit_is_in_doubt(rig: TillRig, code: str) -> None:
    """The three reader errors that may hide a debit."""
    rig.cards.trouble[0x54] = code
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    assert rig.state is State.IN_DOUBT
    assert rig.kinds()[-1] == "DOUBT"


@pytest.mark.parametrize("code", ["READER_BUSY", "READER_DOWN"])
def test_a_debit_that_was_not_sent_is_void(rig: TillRig, code: str) -> None:
    """Nothing reached the card: VOID{not-sent}, 请重新放卡, the amount stays."""
    rig.cards.trouble[0x54] = code
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    assert rig.state is State.ARMED
    last = rig.records()[-1][1]
    assert (last.kind, last.get("via")) == (Kind.VOID, "not-sent")


@pytest.mark.parametrize("proof", [bytes(4) + bytes(4), b"\x01" * 8])
def test_wrong_mac2_buys_nothing(rig: TillRig, proof: bytes) -> None:
    """A debit that cannot be proved: DOUBT{mac2}, suspect, no service, refused from then on."""
    _answering(rig, 0x54, proof + b"\x90\x00")
    card = rig.issue(asn(1), START_FEN)
    rig.sell(FEN, card)
    _refused(rig, "CARD_MAC2")
    assert rig.kinds()[-4:] == ["INTENT", "DOUBT", "ALARM", "ABANDON"]
    assert rig.records()[-3][1].get("reason") == "mac2"


def test_all_zero_tac_is_a_doubt(rig: TillRig) -> None:
    """A TAC that was never written is no proof, even under a right MAC2."""
    from terminal.canteen.tap import NO_TAC

    class Blank(Relay):
        def exchange(self, apdu: bytes) -> bytes:
            raw = super().exchange(apdu)
            return NO_TAC + raw[4:] if apdu[1] == 0x54 and raw[-2:] == b"\x90\x00" else raw

    rig.sell(FEN, Blank(rig.issue(asn(1), START_FEN), Tricks()))
    _refused(rig, "CARD_MAC2")


class _DeadSam:
    """A SAM that names itself and then fails."""

    def info(self) -> SamInfo:
        """Its number."""
        return SamInfo(bytes(6), development=True, name="dead")

    def mac1(self, ask: Mac1Ask) -> Mac1Answer:
        """No MAC1."""
        raise SamError(reason="test")

    def check_mac2(self, mac2: bytes) -> bool:
        """Nothing to check."""
        raise SamError(reason="test")


def test_sam_fails(tmp_path: Path) -> None:
    """No MAC1: nothing was sent, nothing is in doubt."""
    rig = TillRig(tmp_path, sam=_DeadSam())
    rig.open_shift()
    rig.sell(FEN, rig.issue(asn(1), START_FEN))
    _refused(rig, "SAM_FAIL")
    assert "INTENT" not in rig.kinds()


def test_three_wrong_macs_stop_the_terminal(rig: TillRig) -> None:
    """9302 on three different cards in a row: the SAM's keys are wrong, SAM_KEY_MISMATCH."""
    _answering(rig, 0x54, SW.MAC_WRONG.to_bytes(2, "big"))
    for n in (1, 1, 2):
        rig.sell(FEN, rig.issue(asn(n), START_FEN))
        assert rig.state is State.DECLINED
        rig.keys("CANCEL")
    rig.sell(FEN, rig.issue(asn(3), START_FEN))
    assert rig.state is State.FAULT
    _refused(rig, "SAM_KEY_MISMATCH")


def test_reader_down_and_back(rig: TillRig) -> None:
    """A dead reader closes the till with its code; it reopens by itself."""
    rig.till.on_event(ReaderState("READER_DOWN"))
    assert rig.state is State.PAUSED
    _refused(rig, "READER_DOWN")
    rig.till.on_event(ReaderState(None))
    assert rig.state is State.IDLE


def test_same_second_never_twice(tmp_path: Path) -> None:
    """Two sales to one card in one second carry different date-times."""
    rig = TillRig(tmp_path, TillConfig(cooldown_s=0))
    rig.open_shift()
    card = rig.issue(asn(1), START_FEN)
    for _ in range(3):
        rig.sell(100, card)
        rig.keys("CANCEL")
    stamps = [(r.get("date"), r.get("time")) for kind, r in rig.records() if kind == Kind.INTENT]
    assert len(set(stamps)) == 3
