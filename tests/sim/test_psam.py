"""The simulated PSAM keeps its serial, its state and its tries, and gives no key away."""

import pytest

from protocols.card.card_profile import PsamProfile
from protocols.card.psam import PsamMac1Answer, PsamMac1Ask, psam_check_mac2, psam_mac1
from protocols.card.suite import Pboc3Des, purchase_mac1_message
from protocols.money import Fen
from sim.errors import CardTornError
from sim.psam import MAC2_TRIES, SimPsam

SUITE = Pboc3Des()
MPK = bytes(range(16))
TID = bytes.fromhex("001122334455")
ASK = PsamMac1Ask(
    rnd=bytes.fromhex("01020304"),
    offseq=7,
    fen=Fen(1250),
    type=6,
    date=bytes.fromhex("20260301"),
    time=bytes.fromhex("120000"),
    keyver=1,
    alg=0,
    asn8=bytes.fromhex("1998081700000030"),
)


def awake(**traits: int) -> SimPsam:
    psam = SimPsam(MPK, TID, **traits)  # type: ignore[arg-type]
    psam.power_on()
    return psam


def mac1(psam: SimPsam) -> PsamMac1Answer:
    raw = psam.exchange(psam_mac1(ASK).encode())
    assert raw[-2:] == b"\x90\x00"
    return PsamMac1Answer.decode(raw[:-2])


def mac2(termseq: int) -> bytes:
    ses = SUITE.purchase_session(SUITE.diversify(MPK, ASK.asn8), ASK.rnd, ASK.offseq, termseq)
    return SUITE.mac2_purchase(ses, ASK.fen)


def test_mac1_holds_its_own_terminal_number() -> None:
    """MAC1 is over the PSAM's tid, under the session of its own serial."""
    answer = mac1(awake(termseq=41))
    ses = SUITE.purchase_session(SUITE.diversify(MPK, ASK.asn8), ASK.rnd, ASK.offseq, 42)
    message = purchase_mac1_message(ASK.fen, 6, TID, ASK.date, ASK.time)
    assert (answer.termseq, answer.mac1) == (42, SUITE.mac(ses, message))


def test_serial_is_strictly_plus_one_across_power() -> None:
    """Each 70 takes the next serial; power loss neither repeats nor skips one."""
    psam = awake()
    seen = []
    for _ in range(4):
        seen.append(mac1(psam).termseq)
        psam.power_on()
    assert seen == [1, 2, 3, 4]


def test_72_only_after_70_in_the_same_session() -> None:
    """72 without 70, twice after one 70, or after power loss: 6985."""
    psam = awake()
    assert psam.exchange(psam_check_mac2(bytes(4)).encode()) == b"\x69\x85"
    answer = mac1(psam)
    check = psam_check_mac2(mac2(answer.termseq)).encode()
    assert [psam.exchange(check), psam.exchange(check)] == [b"\x90\x00", b"\x69\x85"]
    answer = mac1(psam)
    psam.power_on()
    assert psam.exchange(psam_check_mac2(mac2(answer.termseq)).encode()) == b"\x69\x85"


def test_wrong_mac2_is_refused_and_counted() -> None:
    """A wrong MAC2 answers 9302; after too many in a row the PSAM is blocked for 70 too."""
    psam = awake()
    for _ in range(MAC2_TRIES - 1):
        mac1(psam)
        assert psam.exchange(psam_check_mac2(bytes(4)).encode()) == b"\x93\x02"
    mac1(psam)
    assert psam.exchange(psam_check_mac2(bytes(4)).encode()) == b"\x69\x83"
    assert psam.exchange(psam_mac1(ASK).encode()) == b"\x69\x83"


def test_right_mac2_clears_the_tries() -> None:
    """One right MAC2 starts the count anew."""
    psam = awake()
    mac1(psam)
    psam.exchange(psam_check_mac2(bytes(4)).encode())
    psam.exchange(psam_check_mac2(mac2(mac1(psam).termseq)).encode())
    assert psam.tries == MAC2_TRIES


def test_terminal_number_is_readable_and_keys_are_not() -> None:
    """READ BINARY gives the tid; no instruction of either class answers with more."""
    psam = awake()
    assert psam.exchange(bytes.fromhex("00B0960006")) == TID + b"\x90\x00"
    for cla in (0x00, 0x80, 0x84):
        for ins in range(256):
            answer = psam.exchange(bytes((cla, ins, 0, 0, 0)))
            assert MPK not in answer
            assert len(answer) == 2


@pytest.mark.parametrize("lc", [0x1B, 0x24])
def test_wrong_length_is_refused_without_a_serial(lc: int) -> None:
    """A 70 of another length than the profile's: 6700 and the serial stands."""
    psam = awake()
    assert psam.exchange(bytes((0x80, 0x70, 0, 0, lc)) + bytes(lc) + b"\x08") == b"\x67\x00"
    assert psam.termseq == 0


def test_two_levels() -> None:
    """A PSAM of a two-level city takes Lc 24 and diversifies by the farther factor first."""
    psam = SimPsam(MPK, TID, profile=PsamProfile(levels=2))
    psam.power_on()
    city = bytes.fromhex("7550000000000001")
    ask = PsamMac1Ask(**{n: getattr(ASK, n) for n in ASK.__slots__} | {"levels": city})
    raw = psam.exchange(psam_mac1(ask).encode())
    dpk = SUITE.diversify(SUITE.diversify(MPK, city), ASK.asn8)
    ses = SUITE.purchase_session(dpk, ASK.rnd, ASK.offseq, 1)
    message = purchase_mac1_message(ASK.fen, 6, TID, ASK.date, ASK.time)
    assert raw[4:8] == SUITE.mac(ses, message)


def test_no_power_no_answer() -> None:
    """An unpowered PSAM is a torn one."""
    with pytest.raises(CardTornError):
        SimPsam(MPK, TID).exchange(bytes.fromhex("00B0960006"))
