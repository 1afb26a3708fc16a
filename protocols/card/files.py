"""Card files a terminal reads: FCI, 0015 (who and until when) and the 0018 record ring.

0016 (name, id number) is never read by a terminal and has no codec here.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Self

from protocols.bcd import decode_bcd, encode_bcd
from protocols.card.layout import Layout, cut, uint
from protocols.errors import BcdError, CardFileError, CardRecordError
from protocols.money import Fen, fen

CLAUSE_INFO = "card.md §3 0015"
CLAUSE_FCI = "card.md §2 FCI"
CLAUSE_RECORD = "card.md §3 0018"
RECORD_LEN = 23

# Two counters live in the purse; types of one class share one of them (card.md §2).
OFFLINE_TYPES = frozenset((0x04, 0x05, 0x06, 0x09))
ONLINE_TYPES = frozenset((0x01, 0x02, 0x03, 0x07))


class InfoLayout(Enum):
    """Where the facts lie in 0015; the profile says which."""

    PBOC = "pboc"
    MOHURD = "mohurd"


_PBOC: Layout = (
    ("issuer", 8),
    ("app_type", 1),
    ("version", 1),
    ("asn", 10),
    ("start", 4),
    ("expiry", 4),
    ("fci", 2),
)

# 建设部: the rest (`fci`) begins with card type and subtype and has no fixed length.
_MOHURD: Layout = (
    ("issuer", 2),
    ("city", 2),
    ("industry", 2),
    ("rfu", 2),
    ("enabled", 1),
    ("version", 1),
    ("interop", 2),
    ("asn", 8),
    ("start", 4),
    ("expiry", 4),
)
_MOHURD_LEN = 28
_MOHURD_ENABLED = 1


@dataclass(frozen=True, slots=True)
class CardInfo:
    """0015 in either layout; `asn` is always 10 bytes, `start` and `expiry` are YYYYMMDD.

    `app_type` is the enabled flag in the MOHURD layout. `issuer` and `fci` keep the bytes that
    nobody here interprets, so that encoding gives back what was read.
    """

    issuer: bytes
    app_type: int
    version: int
    asn: bytes
    start: str
    expiry: str
    fci: bytes
    layout: InfoLayout = InfoLayout.PBOC
    interop: bytes = b""

    @property
    def asn8(self) -> bytes:
        """The last 8 bytes of the ASN: the input of key diversification."""
        return self.asn[-8:]

    @property
    def enabled(self) -> bool:
        """False when the issuer has not started the application, or has stopped it."""
        if self.layout is InfoLayout.MOHURD:
            return self.app_type == _MOHURD_ENABLED
        return self.app_type != 0

    def encode(self) -> bytes:
        """The file's bytes."""
        dates = encode_bcd(self.start) + encode_bcd(self.expiry)
        state = bytes((self.app_type, self.version))
        if self.layout is InfoLayout.PBOC:
            raw = self.issuer + state + self.asn + dates + self.fci
            assert len(raw) == 30, len(raw)
            return raw
        sizes = (len(self.issuer), len(self.interop), len(self.asn))
        assert sizes == (8, 2, 10), sizes
        return self.issuer + state + self.interop + self.asn8 + dates + self.fci

    @classmethod
    def decode(cls, raw: bytes, layout: InfoLayout = InfoLayout.PBOC) -> Self:
        """Read 0015; raises CardFileError (CARD_FILE) with field and offset."""
        if layout is InfoLayout.PBOC:
            issuer, app, version, asn, start, expiry, fci = cut(
                raw, _PBOC, CardFileError, CLAUSE_INFO
            )
            return cls(
                issuer=issuer,
                app_type=app[0],
                version=version[0],
                asn=asn,
                start=_date(start, "start", 20),
                expiry=_date(expiry, "expiry", 24),
                fci=fci,
            )
        parts = cut(raw[:_MOHURD_LEN], _MOHURD, CardFileError, CLAUSE_INFO)
        return cls(
            issuer=raw[:8],
            app_type=parts[4][0],
            version=parts[5][0],
            asn=bytes(2) + parts[7],
            start=_date(parts[8], "start", 20),
            expiry=_date(parts[9], "expiry", 24),
            fci=raw[_MOHURD_LEN:],
            layout=layout,
            interop=parts[6],
        )


def _date(raw: bytes, field: str, offset: int) -> str:
    try:
        return decode_bcd(raw)
    except BcdError as error:
        raise CardFileError(field=field, offset=offset, clause=CLAUSE_INFO) from error


@dataclass(frozen=True, slots=True)
class Fci:
    """What SELECT answers: DF name, version (9F08) and the bytes of 0015 (9F0C), if there."""

    df_name: bytes
    version: bytes | None
    info_raw: bytes | None

    def encode(self) -> bytes:
        """`6F{84 name, A5{[9F08 version], [9F0C 0015]}}` with one-byte lengths."""
        inner = b""
        if self.version is not None:
            inner += _tlv(b"\x9f\x08", self.version)
        if self.info_raw is not None:
            inner += _tlv(b"\x9f\x0c", self.info_raw)
        return _tlv(b"\x6f", _tlv(b"\x84", self.df_name) + _tlv(b"\xa5", inner))


def _tlv(tag: bytes, value: bytes) -> bytes:
    assert len(value) < 0x100, len(value)
    size = bytes((len(value),)) if len(value) < 0x80 else bytes((0x81, len(value)))
    return tag + size + value


def _read_tag(raw: bytes, offset: int, end: int) -> tuple[int, int]:
    tag, here = raw[offset], offset + 1
    if tag & 0x1F == 0x1F:
        if here >= end or raw[here] & 0x80:  # at most two tag bytes in an FCI
            raise CardFileError(field="tag", offset=offset, clause=CLAUSE_FCI)
        tag, here = tag << 8 | raw[here], here + 1
    return tag, here


def _read_len(raw: bytes, offset: int, end: int) -> tuple[int, int]:
    if offset < end and raw[offset] < 0x80:
        return raw[offset], offset + 1
    if offset + 1 < end and raw[offset] == 0x81:
        return raw[offset + 1], offset + 2
    raise CardFileError(field="length", offset=offset, clause=CLAUSE_FCI)


def _items(raw: bytes, offset: int, end: int) -> dict[int, tuple[int, int]]:
    """tag -> (start, end) of its value; a tag may stand only once."""
    found: dict[int, tuple[int, int]] = {}
    while offset < end:
        tag, here = _read_tag(raw, offset, end)
        size, here = _read_len(raw, here, end)
        if here + size > end:
            raise CardFileError(field="value", offset=here, clause=CLAUSE_FCI)
        if tag in found:
            raise CardFileError(field="tag", offset=offset, clause=CLAUSE_FCI)
        found[tag] = (here, here + size)
        offset = here + size
    return found


def _wanted(
    found: dict[int, tuple[int, int]], tag: int, field: str, offset: int
) -> tuple[int, int]:
    if tag not in found:
        raise CardFileError(field=field, offset=offset, clause=CLAUSE_FCI)
    return found[tag]


def parse_fci(raw: bytes) -> Fci:
    """Read an FCI; tags nobody here knows are skipped. Raises CardFileError (CARD_FILE)."""
    outer = _items(raw, 0, len(raw))
    start, end = _wanted(outer, 0x6F, "fci", 0)
    template = _items(raw, start, end)
    name_start, name_end = _wanted(template, 0x84, "df_name", start)
    inner: dict[int, tuple[int, int]] = {}
    if 0xA5 in template:
        inner = _items(raw, *template[0xA5])

    def value(tag: int) -> bytes | None:
        return raw[slice(*inner[tag])] if tag in inner else None

    return Fci(raw[name_start:name_end], value(0x9F08), value(0x9F0C))


_RECORD: Layout = (
    ("ctr", 2),
    ("overdraft", 3),
    ("fen", 4),
    ("type", 1),
    ("tid", 6),
    ("date", 4),
    ("time", 3),
)


@dataclass(frozen=True, slots=True)
class PurseRecord:
    """One 0018 record: loads and purchases share the ring, `ctr` belongs to the type's class.

    `date` and `time` stay raw: an empty ring slot holds whatever the issuer wrote there.
    """

    ctr: int
    overdraft: int
    fen: Fen
    type: int
    tid: bytes
    date: bytes
    time: bytes

    @property
    def offline(self) -> bool:
        """True when `ctr` is a value of the offline counter."""
        return self.type in OFFLINE_TYPES

    @property
    def online(self) -> bool:
        """True when `ctr` is a value of the online counter."""
        return self.type in ONLINE_TYPES

    def encode(self) -> bytes:
        """23 bytes."""
        counted = self.ctr.to_bytes(2, "big") + self.overdraft.to_bytes(3, "big")
        paid = self.fen.to_bytes(4, "big") + bytes((self.type,))
        raw = counted + paid + self.tid + self.date + self.time
        assert len(raw) == RECORD_LEN, len(raw)
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read one record; raises CardRecordError (CARD_RECORD) on any other length."""
        ctr, overdraft, amount, kind, tid, date, time = cut(
            raw, _RECORD, CardRecordError, CLAUSE_RECORD
        )
        return cls(
            ctr=uint(ctr),
            overdraft=uint(overdraft),
            fen=fen(uint(amount)),
            type=kind[0],
            tid=tid,
            date=date,
            time=time,
        )
