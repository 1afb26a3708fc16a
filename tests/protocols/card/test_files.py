import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.files import CardInfo, Fci, InfoLayout, PurseRecord, parse_fci
from protocols.errors import CardFileError, CardRecordError
from protocols.money import FEN_MAX, Fen

# FMCOS 2.0 user manual, SELECT example (card.md §2).
FCI_RAW = bytes.fromhex(
    "6F2E8409A00000000386980701A5219F0C1E"
    "111122223333000603010006199808170000003019980815199912315566"
)
dates = st.dates().map(lambda day: day.strftime("%Y%m%d").zfill(8))
octet = st.integers(0, 255)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


pboc = st.builds(CardInfo, sized(8), octet, octet, sized(10), dates, dates, sized(2))
mohurd = st.builds(
    CardInfo,
    sized(8),
    octet,
    octet,
    sized(8).map(lambda asn8: bytes(2) + asn8),
    dates,
    dates,
    st.binary(max_size=30),
    st.just(InfoLayout.MOHURD),
    sized(2),
)
records = st.builds(
    PurseRecord,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFF),
    st.integers(0, FEN_MAX).map(Fen),
    octet,
    sized(6),
    sized(4),
    sized(3),
)


def test_manual_fci() -> None:
    """The manual's SELECT answer gives DF name, ASN and dates, and encodes back."""
    fci = parse_fci(FCI_RAW)
    assert fci.df_name.hex() == "a00000000386980701"
    assert fci.version is None
    assert fci.encode() == FCI_RAW
    assert fci.info_raw is not None
    info = CardInfo.decode(fci.info_raw)
    assert info.asn.hex() == "00061998081700000030"
    assert info.asn8.hex() == "1998081700000030"
    assert (info.start, info.expiry, info.app_type) == ("19980815", "19991231", 3)
    assert info.enabled
    assert info.encode() == fci.info_raw


@given(pboc | mohurd)
def test_card_info_round_trip(info: CardInfo) -> None:
    """0015 comes back from its bytes in either layout."""
    assert CardInfo.decode(info.encode(), info.layout) == info


@given(
    st.binary(max_size=12), st.none() | st.binary(max_size=4), st.none() | st.binary(max_size=200)
)
def test_fci_round_trip(name: bytes, version: bytes | None, info: bytes | None) -> None:
    """An FCI comes back from its bytes, long lengths included."""
    fci = Fci(name, version, info)
    assert parse_fci(fci.encode()) == fci


@given(records)
def test_record_round_trip(record: PurseRecord) -> None:
    """A 0018 record is 23 bytes and comes back from them."""
    raw = record.encode()
    assert len(raw) == 23
    assert PurseRecord.decode(raw) == record


@given(st.binary(max_size=80), st.sampled_from(InfoLayout))
def test_decoders_are_total(raw: bytes, layout: InfoLayout) -> None:
    """Any bytes give a value or the file's own error with field, offset and clause."""
    for read in (lambda got: CardInfo.decode(got, layout), parse_fci):
        try:
            read(raw)
        except CardFileError as error:
            facts = set(error.facts)
        else:
            continue
        assert facts == {"field", "offset", "clause"}
    if len(raw) == 23:
        assert PurseRecord.decode(raw).encode() == raw
    else:
        with pytest.raises(CardRecordError):
            PurseRecord.decode(raw)


@given(st.integers(0, len(FCI_RAW) - 1), octet)
def test_fci_one_byte_wrong(at: int, octet_raw: int) -> None:
    """One wrong byte anywhere never gives anything but a value or CARD_FILE."""
    raw = FCI_RAW[:at] + bytes((octet_raw,)) + FCI_RAW[at + 1 :]
    try:
        parse_fci(raw)
    except CardFileError:
        return


@pytest.mark.parametrize(
    ("raw_hex", "field"),
    [
        ("", "fci"),
        ("6F", "length"),
        ("6F81", "length"),
        ("6F820001", "length"),
        ("6F0284", "value"),
        ("6F00", "df_name"),
        ("700184", "fci"),
        ("7000", "fci"),
        ("6F0284006F028400", "tag"),
        ("6F019F", "tag"),
        ("6F039F8100", "tag"),
    ],
)
def test_fci_refusals(raw_hex: str, field: str) -> None:
    """A broken FCI names the part that is wrong."""
    with pytest.raises(CardFileError) as caught:
        parse_fci(bytes.fromhex(raw_hex))
    assert caught.value.facts["field"] == field


def test_unknown_tags_are_skipped() -> None:
    """A tag nobody here knows changes nothing."""
    fci = parse_fci(bytes.fromhex("6F0B500101840155A5039F0900"))
    assert fci == Fci(b"\x55", None, None)


@pytest.mark.parametrize(("at", "field"), [(20, "start"), (24, "expiry")])
@pytest.mark.parametrize("layout", list(InfoLayout))
def test_dates_must_be_digits(at: int, field: str, layout: InfoLayout) -> None:
    """A date with a nibble above 9 is refused by name and offset."""
    raw = bytearray(bytes.fromhex("00" * 20 + "2024010120301231" + "0000"))
    raw[at] = 0xA0
    with pytest.raises(CardFileError) as caught:
        CardInfo.decode(bytes(raw), layout)
    assert (caught.value.facts["field"], caught.value.facts["offset"]) == (field, at)


@pytest.mark.parametrize("size", [0, 7, 8, 29, 31])
def test_info_length(size: int) -> None:
    """The PBOC 0015 is exactly 30 bytes."""
    with pytest.raises(CardFileError):
        CardInfo.decode(bytes(size))


@pytest.mark.parametrize(
    ("layout", "flag", "enabled"),
    [
        (InfoLayout.PBOC, 0, False),
        (InfoLayout.PBOC, 2, True),
        (InfoLayout.MOHURD, 0, False),
        (InfoLayout.MOHURD, 1, True),
        (InfoLayout.MOHURD, 2, False),
    ],
)
def test_enabled_flag(layout: InfoLayout, flag: int, enabled: bool) -> None:
    """PBOC: any application type; MOHURD: 01 only, 02 is stopped."""
    rest = {"interop": bytes(2)} if layout is InfoLayout.MOHURD else {}
    info = CardInfo(
        bytes(8), flag, 1, bytes(10), "20240101", "20301231", b"", layout=layout, **rest
    )
    assert info.enabled is enabled


@pytest.mark.parametrize(
    ("kind", "offline", "online"),
    [(k, k in (4, 5, 6, 9), k in (1, 2, 3, 7)) for k in range(256)],
)
def test_type_classes(kind: int, offline: bool, online: bool) -> None:
    """Each transaction type belongs to one counter or to none."""
    record = PurseRecord(0, 0, Fen(1), kind, bytes(6), bytes(4), bytes(3))
    assert (record.offline, record.online) == (offline, online)
