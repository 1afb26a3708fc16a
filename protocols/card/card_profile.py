"""What differs between card products: facts in a TOML file, never branches in the code.

An unknown key is an error (PROFILE_UNKNOWN_KEY): a typo must not silently keep a default.
Keys, defaults and meanings: card.md §4.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from protocols.card.files import RECORD_LEN, InfoLayout
from protocols.card.purse import Purse
from protocols.card.suite import SUITES
from protocols.errors import ProfileKeyError, ProfileValueError

DEFAULT_AID = bytes.fromhex("A00000000386980701")


@dataclass(frozen=True, slots=True)
class RecordBase:
    """Record counter minus INIT counter, per kind of transaction."""

    purchase: int = 0
    load: int = 0


@dataclass(frozen=True, slots=True)
class PsamProfile:
    """The PSAM: key levels (two = Lc 24), where its terminal number lies, its key index."""

    levels: int = 1
    tid_file: int = 0x16
    tid_offset: int = 0
    keyidx: int = 1


@dataclass(frozen=True, slots=True)
class CardProfile:
    """One card product (card.md §4). Amounts are fen, counters and indexes plain integers.

    `test_keys` marks a profile whose keys are published; production refuses it.
    """

    aid: bytes = DEFAULT_AID
    purse: Purse = Purse.EP
    info_layout: InfoLayout = InfoLayout.PBOC
    asn_from: str = "fci"
    sfi_info: int = 0x15
    sfi_record: int = 0x18
    sfi_load_record: int | None = None
    record_depth: int = 10
    record_len: int = RECORD_LEN
    record_pin_free: bool = True
    record_ctr_base: RecordBase = field(default_factory=RecordBase)
    prove_seq_offset: int = 1
    keyidx_purchase: int = 1
    keyidx_load: int = 1
    suite: str = "pboc-3des"
    alg_ids: tuple[int, ...] = (0, 1)
    ctr_warn: int = 60_000
    ctr_max: int = 65_535
    purse_cap_fen: int = 50_000
    load_target_fen_max: int = 20_000
    init_zero_ok: bool = False
    grey_lock: bool = False
    capp: bool = False
    test_keys: bool = False
    psam: PsamProfile = field(default_factory=PsamProfile)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a profile from TOML; raises PROFILE_VALUE, PROFILE_UNKNOWN_KEY."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ProfileValueError(key="", allowed="TOML", got=str(error)[:80]) from error
        return cls.from_table(table)

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> Self:
        """Read a profile from a parsed table; raises PROFILE_VALUE, PROFILE_UNKNOWN_KEY."""
        _known(table, tuple(f.name for f in fields(cls)), "")
        values = {key: _GETTERS[key](table[key], key) for key in table}
        return cls(**values)  # type: ignore[arg-type]  # each getter returns its field's type


Getter = Callable[[object, str], object]


def _whole(low: int, high: int) -> Getter:
    def getter(got: object, key: str) -> int:
        if type(got) is not int or not low <= got <= high:
            raise ProfileValueError(key=key, allowed=f"{low}..{high}", got=str(got)[:40])
        return got

    return getter


def _choice(values: Mapping[str, object]) -> Getter:
    def getter(got: object, key: str) -> object:
        if not isinstance(got, str) or got not in values:
            raise ProfileValueError(key=key, allowed=" ".join(values), got=str(got)[:40])
        return values[got]

    return getter


def _flag(got: object, key: str) -> bool:
    if type(got) is not bool:
        raise ProfileValueError(key=key, allowed="true or false", got=str(got)[:40])
    return got


def _aid(got: object, key: str) -> bytes:
    if isinstance(got, str) and re.fullmatch(r"([0-9A-Fa-f]{2}){5,16}", got):
        return bytes.fromhex(got)
    raise ProfileValueError(key=key, allowed="5 to 16 bytes of hex", got=str(got)[:40])


def _octets(got: object, key: str) -> tuple[int, ...]:
    if isinstance(got, list) and 1 <= len(got) <= 16:
        octet = _whole(0, 255)
        return tuple(int(str(octet(item, key))) for item in got)
    raise ProfileValueError(key=key, allowed="list of 1 to 16 numbers 0..255", got=str(got)[:40])


def _part(build: Callable[..., object], getters: Mapping[str, Getter]) -> Getter:
    def getter(got: object, key: str) -> object:
        if not isinstance(got, dict):
            raise ProfileValueError(key=key, allowed="table", got=str(got)[:40])
        _known(got, tuple(getters), f"{key}.")
        return build(**{name: getters[name](got[name], f"{key}.{name}") for name in got})

    return getter


def _known(table: Mapping[str, object], names: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in names:
            raise ProfileKeyError(key=(prefix + key)[:60], allowed=" ".join(names))


_SFI = _whole(1, 31)
_INDEX = _whole(0, 255)
_COUNTER = _whole(1, 65_535)
_AMOUNT = _whole(1, 1_000_000)

_GETTERS: dict[str, Getter] = {
    "aid": _aid,
    "purse": _choice({purse.name: purse for purse in Purse}),
    "info_layout": _choice({layout.value: layout for layout in InfoLayout}),
    "asn_from": _choice({"fci": "fci", "file": "file"}),
    "sfi_info": _SFI,
    "sfi_record": _SFI,
    "sfi_load_record": _SFI,
    "record_depth": _INDEX,
    "record_len": _whole(RECORD_LEN, RECORD_LEN),
    "record_pin_free": _flag,
    "record_ctr_base": _part(RecordBase, {"purchase": _whole(0, 1), "load": _whole(0, 1)}),
    "prove_seq_offset": _whole(-1, 1),
    "keyidx_purchase": _INDEX,
    "keyidx_load": _INDEX,
    "suite": _choice({name: name for name in SUITES}),
    "alg_ids": _octets,
    "ctr_warn": _COUNTER,
    "ctr_max": _COUNTER,
    "purse_cap_fen": _AMOUNT,
    "load_target_fen_max": _AMOUNT,
    "init_zero_ok": _flag,
    "grey_lock": _flag,
    "capp": _flag,
    "test_keys": _flag,
    "psam": _part(
        PsamProfile,
        {"levels": _whole(1, 2), "tid_file": _SFI, "tid_offset": _INDEX, "keyidx": _INDEX},
    ),
}
