"""What a simulated purse card keeps: keys, files, and the state that changes as one piece.

`Purse` is immutable: a command builds the next one and the card swaps it in, so balance, counter,
record and proof change together or not at all, at every tear (card.md §10).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from protocols.card.card_profile import CardProfile
from protocols.card.files import CardInfo, InfoLayout, PurseRecord
from protocols.card.purse import TxType
from protocols.card.suite import Suite
from protocols.money import Fen

PIN_TRIES = 3
UNBLOCK_TRIES = 3
STAFF_FILE_LEN = 39


@dataclass(frozen=True, slots=True)
class Masters:
    """Issuer masters of one key version: purchase, load, TAC, application maintenance."""

    mpk: bytes
    mlk: bytes
    mtk: bytes
    mamk: bytes

    def __repr__(self) -> str:
        return "Masters(***)"


@dataclass(frozen=True, slots=True)
class CardKeys:
    """The card's own keys; no command gives them out."""

    dpk: bytes
    dlk: bytes
    dtk: bytes
    damk: bytes

    @classmethod
    def diversify(cls, masters: Masters, suite: Suite, asn: bytes) -> CardKeys:
        """The keys of the card with that ASN (10 bytes)."""
        made = (masters.mpk, masters.mlk, masters.mtk, masters.mamk)
        return cls(*(suite.diversify(mk, asn[-8:]) for mk in made))

    def __repr__(self) -> str:
        return "CardKeys(***)"


class Block(Enum):
    """How far the application or the card is closed."""

    OPEN = "open"
    APPLICATION = "application"
    LOCKED = "locked"
    CARD = "card"


@dataclass(frozen=True, slots=True)
class Proof:
    """The one transaction of its class that PROVE can still speak of."""

    type: int
    seq: int
    mac: bytes
    tac: bytes


@dataclass(frozen=True, slots=True)
class Purse:
    """Everything in EEPROM that a command may change."""

    balance: int
    offline: int = 0
    online: int = 0
    ring: tuple[bytes, ...] = ()
    load_ring: tuple[bytes, ...] = ()
    offline_proof: Proof | None = None
    online_proof: Proof | None = None
    block: Block = Block.OPEN
    pin_tries: int = PIN_TRIES
    unblock_tries: int = UNBLOCK_TRIES
    info_raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Moved:
    """One committed movement of money, for auditors: what the chip did, whatever anyone heard."""

    type: int
    fen: Fen
    ctr: int
    tid: bytes
    termseq: int | None
    date: bytes
    time: bytes
    balance: int
    tac: bytes


def debited(purse: Purse, profile: CardProfile, moved: Moved, mac2: bytes) -> Purse:
    """The purse after a purchase."""
    record = _record(moved, profile.record_ctr_base.purchase)
    seq = moved.ctr + profile.prove_seq_offset
    return replace(
        purse,
        balance=moved.balance,
        offline=moved.ctr + 1,
        ring=(record, *purse.ring)[: profile.record_depth],
        offline_proof=Proof(moved.type, seq & 0xFFFF, mac2, moved.tac),
    )


def credited(purse: Purse, profile: CardProfile, moved: Moved, mac2: bytes) -> Purse:
    """The purse after a load; its record goes to the shared ring, or to the city's own."""
    record = _record(moved, profile.record_ctr_base.load)
    seq = moved.ctr + profile.prove_seq_offset
    own = profile.sfi_load_record is not None
    ring, loads = purse.ring, purse.load_ring
    return replace(
        purse,
        balance=moved.balance,
        online=moved.ctr + 1,
        ring=ring if own else (record, *ring)[: profile.record_depth],
        load_ring=(record, *loads)[: profile.record_depth] if own else loads,
        online_proof=Proof(moved.type, seq & 0xFFFF, mac2, moved.tac),
    )


def _record(moved: Moved, base: int) -> bytes:
    record = PurseRecord(
        ctr=(moved.ctr + base) & 0xFFFF,
        overdraft=0,
        fen=moved.fen,
        type=moved.type,
        tid=moved.tid,
        date=moved.date,
        time=moved.time,
    )
    return record.encode()


def info_file(asn: bytes, layout: InfoLayout, start: str, expiry: str, *, enabled: bool) -> bytes:
    """Content of 0015 for a card of ours."""
    info = CardInfo(
        issuer=bytes.fromhex("1111222233330006"),
        app_type=(1 if layout is InfoLayout.MOHURD else 3) if enabled else 0,
        version=1,
        asn=asn,
        start=start,
        expiry=expiry,
        fci=bytes.fromhex("5566"),
        layout=layout,
        interop=bytes(2) if layout is InfoLayout.MOHURD else b"",
    )
    return info.encode()


def is_offline(type: int) -> bool:
    """Whether PROVE of this type asks for the offline class."""
    return type in (TxType.CASH, TxType.PURCHASE_ED, TxType.PURCHASE, TxType.CAPP_PURCHASE)
