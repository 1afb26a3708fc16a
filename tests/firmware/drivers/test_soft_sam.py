"""The software SAM: for development only, right MACs, and a serial that never repeats."""

from pathlib import Path

import pytest

from firmware.drivers.soft_sam import BLOCK, TERMSEQ_MAX, CounterFile, CountFrom, SoftSam
from firmware.errors import SamError, SamInsecureError
from firmware.ports import Mac1Ask
from protocols.card.suite import Pboc3Des
from protocols.money import Fen

SUITE = Pboc3Des()
TID = bytes.fromhex("001122334455")


class P2:
    """Vector P2-textbook of card.json: its key is the card's own, not a master."""

    dpk = bytes.fromhex("11223344556677888877665544332211")
    ask = Mac1Ask(
        asn8=bytes(8),
        rnd=bytes.fromhex("11223344"),
        offseq=0,
        fen=Fen(0x1000),
        type=6,
        date=bytes.fromhex("20120229"),
        time=bytes.fromhex("135100"),
        keyver=1,
        alg=0,
    )


def test_published_example() -> None:
    """The textbook purchase: MAC1 F15CAB75, MAC2 56988A13, and only that MAC2 is accepted."""
    sam = SoftSam(lambda asn8: P2.dpk, TID, 1, SUITE, development=True)
    answer = sam.mac1(P2.ask)
    assert (answer.termseq, answer.mac1.hex()) == (1, "f15cab75")
    assert answer.exp_mac2 == bytes.fromhex("56988A13")
    assert sam.check_mac2(bytes.fromhex("56988A13"))
    sam.mac1(P2.ask)
    assert not sam.check_mac2(bytes.fromhex("56988A12"))


def test_mac2_is_asked_once_per_mac1() -> None:
    """A second check without a new MAC1 is SAM_FAIL, as in a PSAM."""
    sam = SoftSam(bytes(16), TID, 1, SUITE, development=True)
    with pytest.raises(SamError):
        sam.check_mac2(bytes(4))


def test_refuses_outside_development() -> None:
    """Without development = true it does not even start: SAM_INSECURE."""
    with pytest.raises(SamInsecureError):
        SoftSam(bytes(16), TID, 1, SUITE)
    assert SoftSam(bytes(16), TID, 1, SUITE, development=True).info().development


def test_serial_never_repeats_across_crashes(tmp_path: Path) -> None:
    """However often the terminal dies, no serial is given twice; at most a block is skipped."""
    given: list[int] = []
    for uses in (1, BLOCK, BLOCK + 1, 0, 3):
        counter = CounterFile(tmp_path / "serial")  # a new process: nothing is remembered
        given += [counter.next() for _ in range(uses)]
    assert len(set(given)) == len(given)
    assert given == sorted(given)
    assert max(given) <= len(given) + 5 * BLOCK


def test_serial_is_durable_before_it_is_given(tmp_path: Path) -> None:
    """When the counter cannot be written no serial comes out: SAM_FAIL."""
    with pytest.raises(SamError):
        CounterFile(tmp_path / "none" / "serial").next()
    (tmp_path / "bad").write_text("seven")
    with pytest.raises(SamError):
        CounterFile(tmp_path / "bad").next()


def test_serials_end(tmp_path: Path) -> None:
    """After 4294967295 the SAM refuses, it does not begin again."""
    counter = CountFrom(TERMSEQ_MAX)
    assert counter.next() == TERMSEQ_MAX
    with pytest.raises(SamError):
        counter.next()
    (tmp_path / "s").write_text(str(TERMSEQ_MAX - 1))
    file = CounterFile(tmp_path / "s")
    assert file.next() == TERMSEQ_MAX
    with pytest.raises(SamError):
        file.next()
