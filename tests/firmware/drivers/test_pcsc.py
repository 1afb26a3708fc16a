"""PC/SC: T=0 rules that never repeat a money command, and a service that dies."""

import time

import pytest

from firmware.drivers.pcsc import PcscReader, t0_exchange
from firmware.errors import LinkLostError, ReaderDownError, ReaderError
from sim.card import SimCard
from sim.card_memory import Masters
from sim.pcsc import PcscStage
from sim.seeded import SeededRng

SELECT = bytes.fromhex("00A4040009A00000000386980701")


class Script:
    """Answers in turn, and what was sent for them."""

    def __init__(self, *answers: str) -> None:
        self.answers = [bytes.fromhex(answer) for answer in answers]
        self.sent: list[str] = []

    def __call__(self, apdu: bytes) -> bytes:
        self.sent.append(apdu.hex())
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("apdu", "answers", "sent", "result"),
    [
        ("00b2010400", ["6c17", "aa9000"], ["00b2010400", "00b2010417"], "aa9000"),
        ("00a40000023f00", ["6105", "aabb9000"], ["00a40000023f00", "00c0000005"], "aabb9000"),
        (
            "00a40000023f00",
            ["6102", "aa6101", "bb9000"],
            [..., "00c0000002", "00c0000001"],
            "aabb9000",
        ),
        ("0084000004", ["9000"], ["0084000004"], "9000"),
        ("80500102010000", ["6c0f", "9000"], ["80500102010000", "8050010201000f"], "9000"),
        ("805001020100", ["6c0f", "9000"], ["805001020100", "8050010201000f"], "9000"),
    ],
)
def test_t0_rules(apdu: str, answers: list[str], sent: list[str], result: str) -> None:
    """61xx fetches, 6Cxx repeats once with the right Le, with and without an Le before."""
    script = Script(*answers)
    assert t0_exchange(script, bytes.fromhex(apdu)).hex() == result
    assert [now for now, want in zip(script.sent, sent, strict=True) if want is not ...] == [
        want for want in sent if want is not ...
    ]


@pytest.mark.parametrize("ins", ["52", "54"])
def test_money_command_is_never_repeated(ins: str) -> None:
    """6Cxx on CREDIT and DEBIT goes up as it is; 61xx is fetched, which repeats nothing."""
    script = Script("6c08")
    assert t0_exchange(script, bytes.fromhex(f"80{ins}0000010004")).hex() == "6c08"
    assert len(script.sent) == 1
    script = Script("6108", "00112233445566779000")
    assert len(t0_exchange(script, bytes.fromhex(f"80{ins}0000010004"))) == 10
    assert script.sent[1:] == ["00c0000008"]


def test_endless_answer_ends() -> None:
    """A card that always has more is given up."""
    with pytest.raises(LinkLostError):
        t0_exchange(lambda apdu: b"\x61\x01", bytes.fromhex("0084000004"))


def test_unknown_reader_is_down() -> None:
    """A name that no reader has: READER_DOWN."""
    with PcscStage(1), pytest.raises(ReaderDownError):
        PcscReader("Nobody").open()


def test_service_dies_and_comes_back() -> None:
    """pcscd gone: a typed error; started again: the same reader object opens and serves."""
    card = SimCard.issue(bytes(10), Masters(*(bytes(16),) * 4), SeededRng(1), balance_fen=1)
    reader = PcscReader("Sim 0 00 00")
    with PcscStage(1) as stage:
        stage.slot(0).insert(card)
        _open(reader)
        assert reader.transmit(SELECT, 1000)[0] == 0x6F
    with pytest.raises(ReaderError) as lost:
        reader.transmit(SELECT, 1000)
    assert lost.value.code in ("LINK_LOST", "CARD_GONE")
    with pytest.raises(ReaderDownError):
        reader.wait_card(0)
    reader.close()
    with pytest.raises(ReaderDownError):
        reader.open()
    with PcscStage(1) as stage:
        stage.slot(0).insert(card)
        _open(reader)
        assert reader.transmit(SELECT, 1000)[0] == 0x6F
        reader.close()


def _open(reader: PcscReader) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            reader.open()
        except ReaderDownError:
            assert time.monotonic() < until
            continue
        assert reader.wait_card(5000) is not None
        return
