"""What people saw against what the books say: lost, duplicated, and chips against purse shadows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from protocols.card.files import CardInfo
from sim.card import SimCard
from sync.central import schema
from sync.central.engine import reading
from sync.central.posting import Code

SALES = (int(Code.SALE), int(Code.LATE), int(Code.DOUBT))


@dataclass(frozen=True, slots=True)
class Seen:
    """One sale that a till announced to a person."""

    till: str
    asn: bytes
    fen: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """lost: announced and not in the books; duplicated: in the books and never announced."""

    lost: tuple[Seen, ...]
    duplicated: tuple[Seen, ...]
    purses_off: tuple[str, ...]  # cards whose chip and shadow differ

    @property
    def clean(self) -> bool:
        """Whether every fen is accounted for."""
        return not (self.lost or self.duplicated or self.purses_off)


def booked(engine: Engine) -> Counter[Seen]:
    """Every sale in the books by till, card and amount."""
    transfer, terminal, card = schema.transfer, schema.terminal, schema.card
    query = (
        select(terminal.c.code, card.c.asn, transfer.c.fen)
        .join(terminal, terminal.c.id == transfer.c.terminal)
        .join(card, card.c.purse == transfer.c.debit)
        .where(transfer.c.code.in_(SALES))
    )
    with reading(engine) as connection:
        return Counter(Seen(row.code, row.asn, row.fen) for row in connection.execute(query))


def shadows(engine: Engine) -> dict[bytes, int]:
    """The centre's idea of each chip's balance, fen by ASN."""
    card, balance = schema.card, schema.balance
    query = select(card.c.asn, balance.c.fen).join(balance, balance.c.account == card.c.purse)
    with reading(engine) as connection:
        return {row.asn: row.fen for row in connection.execute(query)}


def compare(engine: Engine, seen: Sequence[Seen], cards: Sequence[SimCard]) -> Comparison:
    """Announced sales against posted ones, chips against shadows. Only after everything synced."""
    announced, posted = Counter(seen), booked(engine)
    shadow = shadows(engine)
    off = [
        f"{asn_of(card).hex()}: chip {card.balance_fen}, books {shadow.get(asn_of(card))}"
        for card in cards
        if shadow.get(asn_of(card)) != card.balance_fen
    ]
    return Comparison(
        tuple((announced - posted).elements()),
        tuple((posted - announced).elements()),
        tuple(off),
    )


def asn_of(card: SimCard) -> bytes:
    """The number a simulated card was issued with, read from its file 0015."""
    return CardInfo.decode(card.purse.info_raw, card.profile.info_layout).asn
