"""The simulated card refuses what a real one refuses: MACs, state, lengths, counters, blocks."""

from collections.abc import Callable

import pytest

from firmware.drivers.soft_sam import SoftSam
from protocols.card import purse
from protocols.card.apdu import SW, Command, Response
from protocols.card.card_profile import CardProfile, RecordBase
from protocols.card.files import CardInfo, InfoLayout, PurseRecord, parse_fci
from protocols.card.suite import (
    Pboc3Des,
    load_mac1_message,
    load_mac2_message,
    load_tac_message,
    purchase_tac_message,
)
from protocols.money import Fen
from sim.card import SimCard
from sim.card_memory import Masters
from sim.plain_tap import DATE, TIME, plain_purchase
from sim.seeded import SeededRng

SUITE = Pboc3Des()
MASTERS = Masters(*(bytes([n]) * 8 + bytes([n + 1]) * 8 for n in (0x10, 0x20, 0x30, 0x40)))
ASN = bytes.fromhex("00011998081700000030")
TID = bytes.fromhex("001122334455")


def issue(balance_fen: int = 10_000, profile: CardProfile | None = None, seed: int = 1) -> SimCard:
    card = SimCard.issue(ASN, MASTERS, SeededRng(seed), balance_fen=balance_fen, profile=profile)
    card.power_on()
    return card


def sam() -> SoftSam:
    return SoftSam(MASTERS.mpk, TID, 1, SUITE, development=True)


def ask(card: SimCard, command: Command) -> Response:
    return Response.decode(card.exchange(command.encode()))


def select(card: SimCard) -> None:
    assert ask(card, purse.select_aid(card.profile.aid)).ok


def init(card: SimCard, fen: int = 100) -> purse.PurchaseInit:
    return purse.PurchaseInit.decode(ask(card, purse.init_purchase(Fen(fen), TID)).body)


def load(card: SimCard, fen: int, flip: int = 0) -> Response:
    """A load as the centre would do it; `flip` spoils one bit of MAC2."""
    opened = ask(card, purse.init_load(Fen(fen), TID))
    if not opened.ok:
        return opened
    got = purse.LoadInit.decode(opened.body)
    ses = SUITE.load_session(SUITE.diversify(MASTERS.mlk, ASN[-8:]), got.rnd, got.onlseq)
    message = load_mac1_message(got.balance, Fen(fen), 2, TID)
    assert SUITE.mac(ses, message) == got.mac1, "the card proves itself in INIT FOR LOAD"
    mac2 = SUITE.mac(ses, load_mac2_message(Fen(fen), 2, TID, DATE, TIME))
    spoiled = (int.from_bytes(mac2, "big") ^ flip).to_bytes(4, "big")
    return ask(card, purse.credit_load(DATE, TIME, spoiled))


def test_purchase_moves_money_once_and_proves_it() -> None:
    """A right purchase debits, answers a TAC and MAC2 that verify, and leaves its record."""
    card = issue()
    done = plain_purchase(card.exchange, sam(), 1250)
    dtk = SUITE.diversify(MASTERS.mtk, ASN[-8:])
    message = purchase_tac_message(Fen(1250), 6, TID, done.termseq, DATE, TIME)
    assert (done.sw, done.proved, done.tac) == (SW.DONE, True, SUITE.tac(dtk, message))
    assert (card.balance_fen, card.purse.offline) == (8750, 1)
    record = PurseRecord.decode(card.purse.ring[0])
    assert (record.ctr, record.fen, record.type, record.tid) == (0, 1250, 6, TID)
    assert [m.fen for m in card.history] == [1250]


def test_load_moves_money_and_proves_it() -> None:
    """A right load credits, answers the TAC of the new balance, and counts online."""
    card = issue()
    select(card)
    answer = load(card, 2000)
    dtk = SUITE.diversify(MASTERS.mtk, ASN[-8:])
    tac = SUITE.tac(dtk, load_tac_message(Fen(12_000), 0, Fen(2000), 2, TID, DATE + TIME))
    assert (answer.sw, answer.body) == (SW.DONE, tac)
    assert (card.balance_fen, card.purse.online, card.purse.offline) == (12_000, 1, 0)


@pytest.mark.parametrize("bit", range(32))
def test_any_wrong_bit_of_mac1_is_refused(bit: int) -> None:
    """MAC1 with one bit flipped: 9302, nothing moves, the session is dead."""
    card, till = issue(), sam()
    select(card)
    got = init(card)
    answer = till.mac1(_want(got))
    wrong = (int.from_bytes(answer.mac1, "big") ^ 1 << bit).to_bytes(4, "big")
    assert ask(card, purse.debit(answer.termseq, DATE, TIME, wrong)).sw == SW.MAC_WRONG
    right = purse.debit(answer.termseq, DATE, TIME, answer.mac1)
    assert ask(card, right).sw == SW.CONDITIONS
    assert (card.balance_fen, card.purse.offline, card.history) == (10_000, 0, [])


@pytest.mark.parametrize("bit", [0, 7, 31])
def test_any_wrong_bit_of_load_mac2_is_refused(bit: int) -> None:
    """Load MAC2 with one bit flipped: 9302, nothing moves."""
    card = issue()
    select(card)
    assert load(card, 500, flip=1 << bit).sw == SW.MAC_WRONG
    assert (card.balance_fen, card.purse.online) == (10_000, 0)


def _want(got: purse.PurchaseInit, fen: int = 100) -> "object":
    from firmware.ports import Mac1Ask

    return Mac1Ask(ASN[-8:], got.rnd, got.offseq, Fen(fen), 6, DATE, TIME, got.keyver, got.alg)


KILLERS: dict[str, Callable[[SimCard], object]] = {
    "select": lambda card: ask(card, purse.select_aid(card.profile.aid)),
    "balance": lambda card: ask(card, purse.get_balance()),
    "record": lambda card: ask(card, purse.read_record(0x18, 1)),
    "prove": lambda card: ask(card, purse.prove(6, 1)),
    "init-again": lambda card: init(card),
    "unknown": lambda card: card.exchange(bytes.fromhex("80FF0000")),
    "malformed": lambda card: card.exchange(bytes.fromhex("8054010001")),
}


@pytest.mark.parametrize("between", KILLERS)
def test_session_dies_of_every_other_command(between: str) -> None:
    """A DEBIT is accepted only directly after its INIT; an old MAC1 is dead after a new INIT."""
    card, till = issue(), sam()
    select(card)
    answer = till.mac1(_want(init(card)))
    KILLERS[between](card)
    sw = ask(card, purse.debit(answer.termseq, DATE, TIME, answer.mac1)).sw
    assert sw in (SW.CONDITIONS, SW.MAC_WRONG)
    assert card.balance_fen == 10_000


def test_session_dies_of_power_loss() -> None:
    """Power off and on between INIT and DEBIT: the DEBIT finds no application and no session."""
    card, till = issue(), sam()
    select(card)
    answer = till.mac1(_want(init(card)))
    card.power_on()
    assert ask(card, purse.debit(answer.termseq, DATE, TIME, answer.mac1)).sw == SW.CONDITIONS


def test_money_commands_need_their_own_init() -> None:
    """DEBIT after INIT FOR LOAD and CREDIT after INIT FOR PURCHASE: 6901."""
    card = issue()
    select(card)
    ask(card, purse.init_load(Fen(100), TID))
    assert ask(card, purse.debit(1, DATE, TIME, bytes(4))).sw == SW.NOT_ACCEPTED
    init(card)
    assert ask(card, purse.credit_load(DATE, TIME, bytes(4))).sw == SW.NOT_ACCEPTED


REFUSED = {
    "init lc": ("805001020A" + "01" + "00" * 9 + "0F", 0x6700),
    "init le": ("805001020B" + "01" + "00000064" + "001122334455" + "10", 0x6700),
    "init purse": ("805001010B" + "01" + "00000064" + "001122334455" + "0F", 0x6A86),
    "key index": ("805001020B" + "02" + "00000064" + "001122334455" + "0F", 0x9403),
    "too much": ("805001020B" + "01" + "00002711" + "001122334455" + "0F", 0x9401),
    "zero": ("805001020B" + "01" + "00000000" + "001122334455" + "0F", 0x6985),
    "capp": ("805003020B" + "01" + "00000064" + "001122334455" + "0F", 0x6A81),
    "over cap": ("805000020B" + "01" + "00009C41" + "001122334455" + "10", 0x6985),
    "debit lc": ("805401000E" + "00" * 14 + "08", 0x6700),
    "debit le": ("805401000F" + "00" * 15 + "04", 0x6700),
    "balance le": ("805C000205", 0x6C04),
    "record le": ("00B201C410", 0x6A83),
    "no file": ("00B0990004", 0x6A82),
    "long read": ("00B0951F04", 0x6B00),
    "no ins": ("80FF0000", 0x6D00),
    "no cla": ("90500000", 0x6E00),
    "sm cla": ("04A40000020015", 0x6E00),
    "lc lies": ("805001020B" + "01", 0x6700),
    "no pin": ("0020000003999999", 0x63C2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_malformed_commands_are_refused(case: str) -> None:
    """Lengths, parameters, key index, amount and classes: each with its own status word."""
    card = issue()
    select(card)
    apdu, sw = REFUSED[case]
    assert Response.decode(card.exchange(bytes.fromhex(apdu))).sw == sw
    assert (card.balance_fen, card.history) == (10_000, [])


def test_nothing_before_select() -> None:
    """Without SELECT neither files nor purse answer."""
    card = issue()
    for command in (purse.get_balance(), purse.read_record(0x18, 1), purse.prove(6, 1)):
        assert ask(card, command).sw == SW.CONDITIONS


def test_counter_stops_at_65535() -> None:
    """The last purchase uses 65534; then INIT answers 9402 for good."""
    card = issue()
    card.age(offline=65_534)
    assert plain_purchase(card.exchange, sam(), 1).proved
    assert plain_purchase(card.exchange, sam(), 1).sw == SW.COUNTER_MAX


def test_ring_keeps_ten_and_mixes_loads() -> None:
    """The cyclic file keeps the newest ten of loads and purchases together, newest first."""
    card, till = issue(), sam()
    for n in range(1, 10):
        assert plain_purchase(card.exchange, till, n).proved
    select(card)
    assert load(card, 777).ok
    assert plain_purchase(card.exchange, till, 99).proved
    records = [PurseRecord.decode(ask(card, purse.read_record(0x18, n)).body) for n in range(1, 11)]
    assert [r.fen for r in records] == [99, 777, 9, 8, 7, 6, 5, 4, 3, 2]
    assert [r.type for r in records[:3]] == [6, 2, 6]
    assert ask(card, purse.read_record(0x18, 11)).sw == SW.RECORD_NOT_FOUND


@pytest.mark.parametrize("offset", [0, 1])
def test_prove_speaks_only_of_the_last_of_its_class(offset: int) -> None:
    """PROVE answers for the last purchase and the last load, at counter + profile offset."""
    profile = CardProfile(prove_seq_offset=offset)
    card, till = issue(profile=profile), sam()
    first = plain_purchase(card.exchange, till, 10)
    second = plain_purchase(card.exchange, till, 20)
    select(card)
    tac = load(card, 30).body
    assert ask(card, purse.prove(6, first.offseq + offset)).sw == SW.NO_PROOF
    proved = purse.ProveAnswer.decode(ask(card, purse.prove(6, second.offseq + offset)).body)
    assert (proved.mac, proved.tac) == (second.mac2, second.tac)
    assert purse.ProveAnswer.decode(ask(card, purse.prove(2, offset)).body).tac == tac
    assert ask(card, purse.prove(2, second.offseq + 1 + offset)).sw == SW.NO_PROOF


@pytest.mark.parametrize(("purchase", "loads"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_record_bases(purchase: int, loads: int) -> None:
    """Record counters carry the base of the profile, per kind."""
    card = issue(profile=CardProfile(record_ctr_base=RecordBase(purchase, loads)))
    plain_purchase(card.exchange, sam(), 10)
    select(card)
    load(card, 30)
    newest, older = (PurseRecord.decode(raw) for raw in card.purse.ring)
    assert (newest.ctr, older.ctr) == (loads, purchase)


def test_own_load_ring() -> None:
    """A city with 001A keeps loads out of 0018."""
    card = issue(profile=CardProfile(sfi_load_record=0x1A))
    select(card)
    load(card, 30)
    assert ask(card, purse.read_record(0x18, 1)).sw == SW.RECORD_NOT_FOUND
    assert PurseRecord.decode(ask(card, purse.read_record(0x1A, 1)).body).fen == 30


def test_pin_protected_records() -> None:
    """With record_pin_free = false 0018 needs the PIN; three wrong ones block it."""
    card = issue(profile=CardProfile(record_pin_free=False))
    plain_purchase(card.exchange, sam(), 10)
    select(card)
    assert ask(card, purse.read_record(0x18, 1)).sw == SW.SECURITY_STATE
    assert ask(card, purse.verify_pin(bytes.fromhex("123456"))).ok
    assert ask(card, purse.read_record(0x18, 1)).ok
    select(card)
    wrong = purse.verify_pin(bytes.fromhex("000000"))
    assert [ask(card, wrong).sw for _ in range(4)] == [0x63C2, 0x63C1, 0x6983, 0x6983]
    assert ask(card, purse.read_record(0x18, 1)).sw == SW.SECURITY_STATE


@pytest.mark.parametrize("layout", InfoLayout)
@pytest.mark.parametrize("asn_from", ["fci", "file"])
def test_info_in_both_layouts(layout: InfoLayout, asn_from: str) -> None:
    """0015 in both layouts, in the FCI or only as a file, decodes to the issued facts."""
    profile = CardProfile(info_layout=layout, asn_from=asn_from)
    card = issue(profile=profile)
    fci = parse_fci(ask(card, purse.select_aid(profile.aid)).body)
    assert (fci.info_raw is None) == (asn_from == "file")
    raw = ask(card, purse.read_binary(0x15, 0, 256)).body
    info = CardInfo.decode(raw, layout)
    assert (info.asn8, info.expiry, info.enabled) == (ASN[-8:], "20491231", True)


def _secured(card: SimCard, command: Command, flip: int = 0) -> Response:
    rnd = ask(card, purse.get_challenge()).body
    key = SUITE.diversify(MASTERS.mamk, ASN[-8:])
    ready = purse.secured(command, SUITE, key, rnd).encode()
    return Response.decode(card.exchange(ready[:-1] + bytes((ready[-1] ^ flip,))))


def test_block_and_unblock() -> None:
    """Application block stops purse and files until a right UNBLOCK; the MAC is demanded."""
    card = issue()
    select(card)
    assert _secured(card, purse.app_block(), flip=1).sw == SW.SM_WRONG
    assert card.exchange(bytes.fromhex("841E0000")) == b"\x69\x88"
    assert _secured(card, purse.app_block()).ok
    assert ask(card, purse.select_aid(card.profile.aid)).sw == SW.NOT_SUPPORTED
    assert ask(card, purse.init_purchase(Fen(1), TID)).sw == SW.NOT_SUPPORTED
    assert _secured(card, purse.app_unblock()).ok
    assert plain_purchase(card.exchange, sam(), 1).proved


def test_three_bad_unblocks_lock_for_good() -> None:
    """The third bad UNBLOCK answers 9303, and so does every later one."""
    card = issue()
    select(card)
    assert _secured(card, purse.app_block()).ok
    seen = [_secured(card, purse.app_unblock(), flip=1).sw for _ in range(3)]
    assert seen == [SW.SM_WRONG, SW.SM_WRONG, SW.LOCKED_FOR_GOOD]
    assert _secured(card, purse.app_unblock()).sw == SW.LOCKED_FOR_GOOD


def test_card_block_ends_everything() -> None:
    """After CARD BLOCK every command answers 6A81, after a reset too."""
    card = issue()
    select(card)
    assert _secured(card, purse.card_block()).ok
    card.power_on()
    for command in (purse.select_aid(card.profile.aid), purse.get_challenge()):
        assert ask(card, command).sw == SW.NOT_SUPPORTED


def test_update_binary_needs_its_mac() -> None:
    """0015 changes only under the maintenance key and a fresh challenge."""
    card = issue()
    select(card)
    command = purse.update_binary(0x15, 24, bytes.fromhex("20300101"))
    assert ask(card, command).sw == SW.SM_MISSING
    assert _secured(card, command, flip=1).sw == SW.SM_WRONG
    assert _secured(card, command).ok
    assert CardInfo.decode(card.purse.info_raw).expiry == "20300101"


def test_random_never_repeats_and_follows_the_seed() -> None:
    """rnd comes from the injected Rng: fresh per INIT, the same for the same seed."""
    card, twin = issue(seed=7), issue(seed=7)
    select(card)
    select(twin)
    mine = [init(card).rnd for _ in range(50)]
    assert len(set(mine)) == 50
    assert mine == [init(twin).rnd for _ in range(50)]


def test_foreign_card_is_not_ours() -> None:
    """A card without our application answers 6A82 to our SELECT."""
    card = SimCard.foreign(SeededRng(3))
    card.power_on()
    assert plain_purchase(card.exchange, sam(), 1).sw == SW.FILE_NOT_FOUND


def test_clone_spends_the_same_money_twice() -> None:
    """A clone accepts the same MACs as its original: both spend from the same counter."""
    card = issue()
    twin = card.clone(SeededRng(9))
    twin.power_on()
    till = sam()
    assert plain_purchase(card.exchange, till, 5).offseq == 0
    assert plain_purchase(twin.exchange, till, 7).offseq == 0
    assert (card.balance_fen, twin.balance_fen) == (9995, 9993)
