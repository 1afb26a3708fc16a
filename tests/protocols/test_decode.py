import json
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.decode import KINDS, decode, shown
from protocols.errors import DecodeKindError, OnecardError
from protocols.wire.chain import NOWHERE, Position, chain
from protocols.wire.cose import P256Signer, sign1
from protocols.wire.lists import encode_set, head_of
from protocols.wire.messages import Ack, Hello, Request
from protocols.wire.record import Kind, Record, own_of
from protocols.wire.segment import Segment

KEY = P256Signer(ec.derive_private_key(7, ec.SECP256R1()))
RECORD = Record(
    seq=1,
    kind=Kind.CAPTURE,
    flags=0,
    wall_us=1,
    mono_us=2,
    boot_no=1,
    ref=1,
    inst=bytes(10),
    ctr=5,
    fen=350,
    own=own_of(Kind.CAPTURE, purse_after=650, tac=b"tac!"),
)
BODY = RECORD.encode()
PREV = bytes(32)
SEGMENT = Segment("s1", 3, "c01", 1, 1, PREV, chain(PREV, [BODY])[-1], 9, (BODY,))
HELLO = Hello("c01", bytes(8), NOWHERE, NOWHERE, {"cards": 1}, 1, 2, "0.1", 0, 0)
GOOD: dict[str, bytes] = {
    "apdu": bytes.fromhex("805401000F0000000020161216134600D45737C508"),
    "response": bytes.fromhex("8AF270DC66B54A6B9000"),
    "purse-record": bytes.fromhex("0001000000000000010600112233445520161216134600"),
    "card-info": bytes.fromhex("111122223333000603010006199808170000003019980815199912315566"),
    "fci": bytes.fromhex(
        "6F2E8409A00000000386980701A5219F0C1E"
        "111122223333000603010006199808170000003019980815199912315566"
    ),
    "init-purchase": bytes.fromhex("0000200000000000000000584633C9"),
    "debit-answer": bytes.fromhex("8AF270DC66B54A6B"),
    "pn532": bytes.fromhex("0000FF06FAD50332010607E800"),
    "record": BODY,
    "segment": SEGMENT.signed(KEY),
    "message": sign1(Ack("c01", 1, 2, bytes(32), 3, 4).encode(), KEY),
    "list-head": sign1(head_of("cards", 2, b"x", 1).encode(), KEY),
    "cards-list": encode_set((1, 5, 2**80 - 1)),
    "modbus": bytes.fromhex("01050200000F8C76"),
    "cjt188": bytes.fromhex("FEFE6810011312190000000404A0170155CC16"),
    "dlt645": bytes.fromhex("6801000000000068110433333433B316"),
}


def test_every_kind_is_shown() -> None:
    """KINDS are exactly those with an example here, and each gives JSON naming its kind."""
    assert set(KINDS) == set(GOOD)
    for kind, raw in GOOD.items():
        assert json.loads(json.dumps(decode(kind, raw)))["kind"] == kind


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("apdu", "ins", 0x54),
        ("response", "means", "SW=0x9000 (done)"),
        ("purse-record", "counter", "offline"),
        ("card-info", "asn", "00061998081700000030"),
        ("fci", "df_name", "a00000000386980701"),
        ("init-purchase", "rnd", "584633c9"),
        ("debit-answer", "tac", "8af270dc"),
        ("pn532", "code", 3),
        ("record", "record_kind", "CAPTURE"),
        ("record", "own", {"purse_after": 650, "tac": "74616321", "late": None, "via": None}),
        ("segment", "chain_ok", True),
        ("segment", "kid", KEY.kid.hex()),
        ("message", "message", "Ack"),
        ("list-head", "sha256", sha256(b"x").hexdigest()),
        ("cards-list", "asns", ["0" * 19 + "1", "0" * 19 + "5", "f" * 20]),
    ],
)
def test_shown_values(kind: str, key: str, value: object) -> None:
    """The fields a person looks for stand under their names."""
    assert decode(kind, GOOD[kind])[key] == value


def test_info_inside_fci() -> None:
    """An FCI shows the card's own facts too; one without 0015 shows none."""
    assert decode("fci", GOOD["fci"])["info"]["expiry"] == "19991231"
    assert decode("fci", bytes.fromhex("6F03840155"))["info"] is None


def test_other_info_layout() -> None:
    """0015 longer than 30 bytes is read in the MOHURD layout."""
    raw = (
        bytes(8) + b"\x01\x01" + bytes(2) + bytes(8) + bytes.fromhex("2024010120301231") + bytes(4)
    )
    assert decode("card-info", raw)["layout"] == "mohurd"


@pytest.mark.parametrize(
    ("kind_raw", "counter"), [("02", "online"), ("06", "offline"), ("91", None)]
)
def test_record_counter(kind_raw: str, counter: str | None) -> None:
    """The counter that a record counts is told from its type."""
    raw = bytearray(GOOD["purse-record"])
    raw[9] = int(kind_raw, 16)
    assert decode("purse-record", bytes(raw))["counter"] == counter


def test_short_frames() -> None:
    """ACK, NACK and error frames are shown by name."""
    assert decode("pn532", bytes.fromhex("0000FF00FF00"))["frame"] == "Ack"
    assert decode("pn532", bytes.fromhex("0000FFFF0000"))["frame"] == "Nack"
    assert decode("pn532", bytes.fromhex("0000FF01FF7F8100"))["frame"] == "ErrorFrame"


def test_messages_up() -> None:
    """Hello and Request are told from the centre's messages; an envelope is optional."""
    hello = decode("message", HELLO.encode())
    assert (hello["message"], hello["signed"]) == ("Hello", False)
    assert hello["fields"]["tip"] == {"epoch": 0, "seq": 0, "hash": "00" * 32}
    asked = decode("message", Request("c01", bytes(16), 1, "load.request", {"x": b"y"}).encode())
    assert (asked["message"], asked["fields"]["body"]) == ("Request", {"x": "79"})


def test_a_broken_chain_is_shown() -> None:
    """A segment whose tip does not follow from its records says so."""
    broken = Segment("s1", 3, "c01", 1, 1, PREV, bytes(32), 9, (BODY,))
    assert decode("segment", broken.encode())["chain_ok"] is False


def test_unknown_record_kind() -> None:
    """A kind of a later version keeps its own fields as they are."""
    later = Record(1, 200, 0, 1, 1, 1, own=(b"\x01",))
    got = decode("record", later.encode())
    assert (got["record_kind"], got["own"]) == (200, ["01"])


def test_further_fields() -> None:
    """Fields that a later version added stand apart."""
    longer = Record(1, Kind.VOID, 0, 1, 1, 1, ref=1, own=("sw", 7))
    assert decode("record", longer.encode())["further"] == [7]


def test_unknown_kind() -> None:
    """A kind nobody knows is DECODE_KIND and lists those known."""
    with pytest.raises(DecodeKindError) as caught:
        decode("acr122", b"")
    assert caught.value.facts["allowed"] == " ".join(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cards-list"])
def test_trailing_and_empty(kind: str) -> None:
    """Nothing, and one byte too many, are refused by every kind of fixed shape."""
    with pytest.raises(OnecardError):
        decode(kind, b"")
    loose = ("card-info", "response")  # any 28 bytes of digits, any two bytes at the end
    if kind not in loose:
        with pytest.raises(OnecardError):
            decode(kind, GOOD[kind] + b"\x81")


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.data())
def test_only_typed_errors(kind: str, data: st.DataObject) -> None:
    """Random bytes and damaged examples give a JSON object or a typed error."""
    raw = bytearray(data.draw(st.binary(max_size=64) | st.just(GOOD[kind])))
    if raw:
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = decode(kind, bytes(raw))
    except OnecardError as error:
        text = json.dumps(error.as_json())
    else:
        text = json.dumps(got)
    assert text.startswith("{")


def test_shown_values_are_json() -> None:
    """Bytes, enums, tuples, maps and dataclasses all become plain values."""
    got = shown({b"k": (Kind.VOID, Position(1, 2, b"h"), None, 1.5)})
    assert got == {"6b": [12, {"epoch": 1, "seq": 2, "hash": "68"}, None, 1.5]}
