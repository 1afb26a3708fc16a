"""The PSAM behind its slot: right MACs, False only for a refused MAC2, SAM_FAIL for everything else."""

import time
from collections.abc import Iterator

import pytest

from firmware.drivers.pcsc import PcscReader
from firmware.drivers.psam_slot import PsamSlot, TidPlace
from firmware.errors import CardGoneError, ReaderDownError, SamError
from firmware.ports import CardSession, Mac1Ask
from protocols.card.suite import Pboc3Des
from protocols.money import Fen
from sim.card import SimCard
from sim.card_memory import Masters
from sim.pcsc import PcscStage
from sim.plain_tap import plain_purchase
from sim.psam import SimPsam
from sim.seeded import SeededRng

MASTERS = Masters(*(bytes([n]) * 8 + bytes([n + 1]) * 8 for n in (0x10, 0x20, 0x30, 0x40)))
TID = bytes.fromhex("001122334455")
ASK = Mac1Ask(bytes(8), b"\1\2\3\4", 7, Fen(100), 6, b"\x20\x26\x03\x01", b"\x12\0\0", 1, 0)


class BareSlot:
    """A slot without a reader, whose PSAM may be pulled."""

    def __init__(self, psam: SimPsam) -> None:
        self.psam = psam
        self.inside = True
        self.garble = False

    def open(self) -> None:
        return

    def close(self) -> None:
        self.psam.power_off()

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        return CardSession(b"", self.psam.power_on(), "contact") if self.inside else None

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        if not self.inside:
            raise CardGoneError()
        return b"\x90" if self.garble else self.psam.exchange(apdu)

    def present(self) -> bool:
        return self.inside

    def reset(self) -> None:
        self.psam.power_on()


@pytest.fixture
def bare() -> BareSlot:
    return BareSlot(SimPsam(MASTERS.mpk, TID))


def slot(bare: BareSlot) -> PsamSlot:
    return PsamSlot(bare, TidPlace(0x16, 0))


def test_terminal_number_comes_from_the_psam(bare: BareSlot) -> None:
    """The tid is read, not configured; a PSAM is no development SAM."""
    info = slot(bare).info()
    assert (info.tid, info.development) == (TID, False)


def test_right_and_wrong_mac2(bare: BareSlot) -> None:
    """9000 is True, 9302 is False; the PSAM does not tell the MAC2 to expect."""
    sam, suite = slot(bare), Pboc3Des()
    answer = sam.mac1(ASK)
    assert answer.exp_mac2 is None
    ses = suite.purchase_session(suite.diversify(MASTERS.mpk, ASK.asn8), ASK.rnd, 7, answer.termseq)
    assert sam.check_mac2(suite.mac2_purchase(ses, ASK.fen))
    sam.mac1(ASK)
    assert not sam.check_mac2(bytes(4))


def test_pulled_psam_is_sam_fail_and_recovers(bare: BareSlot) -> None:
    """Pulled: SAM_FAIL for MAC1 and MAC2; put back: a new session, the next serial."""
    sam = slot(bare)
    first = sam.mac1(ASK)
    bare.inside = False
    with pytest.raises(SamError):
        sam.check_mac2(bytes(4))
    with pytest.raises(SamError):
        sam.mac1(ASK)
    bare.inside = True
    with pytest.raises(SamError):
        sam.check_mac2(bytes(4))
    assert sam.mac1(ASK).termseq == first.termseq + 1


def test_nonsense_is_sam_fail(bare: BareSlot) -> None:
    """A short answer, a blocked PSAM and a wrong place of the tid: SAM_FAIL."""
    sam = slot(bare)
    sam.info()
    bare.garble = True
    with pytest.raises(SamError):
        sam.mac1(ASK)
    bare.garble = False
    bare.psam.tries = 0
    with pytest.raises(SamError):
        sam.mac1(ASK)
    with pytest.raises(SamError):
        PsamSlot(bare, TidPlace(0x15, 0)).info()


@pytest.fixture
def stage() -> Iterator[PcscStage]:
    with PcscStage(2) as running:
        yield running


def test_card_and_psam_through_pcscd(stage: PcscStage) -> None:
    """A card in one reader and the PSAM in another, both behind the real pcscd: a paid purchase."""
    card = SimCard.issue(bytes(10), MASTERS, SeededRng(1), balance_fen=10_000)
    card_slot, sam_slot = stage.slot(0), stage.slot(1)
    card_slot.insert(card)
    sam_slot.insert(SimPsam(MASTERS.mpk, TID))
    reader, sam = PcscReader(card_slot.name), PsamSlot(PcscReader(sam_slot.name), TidPlace(0x16, 0))
    until = time.monotonic() + 10
    while True:
        try:
            reader.open()
            assert reader.wait_card(2000) is not None
            assert sam.info().tid == TID
            break
        except (ReaderDownError, SamError):
            assert time.monotonic() < until
    assert plain_purchase(lambda apdu: reader.transmit(apdu, 1000), sam, 1250).proved
    assert card.balance_fen == 8750
    reader.close()
    sam.close()
