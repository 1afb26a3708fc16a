"""Between the session and the card pipeline: the order that goes in, the event that comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from terminal.canteen.asks import (
    CutOff,
    Identified,
    InDoubt,
    Order,
    OtherCard,
    Outcome,
    Paid,
    Refused,
    Withheld,
)
from terminal.canteen.moves import (
    CardRead,
    Event,
    Session,
    StartTap,
    TapCut,
    TapDoubt,
    TapOther,
    TapPaid,
    TapRefused,
    TapWithheld,
)

if TYPE_CHECKING:
    from terminal.canteen.till import Ports

UID_BYTES_MAX = 10  # ISO 14443: three cascade levels; what a reader tells beyond is no UID


def order_of(action: StartTap, session: Session, ports: Ports) -> Order:
    """The order of a tap; `sale` is [id, mode, digest, lines, tariff version] of INTENT."""
    tariff = ports.news.desk.current.versions.get("tariff")
    sale = (ports.journal.tip.seq, session.mode.value, None, None, tariff)
    return Order(action.fen, sale, action.uid[:UID_BYTES_MAX], action.hold)


def event_of(outcome: Outcome, rights: frozenset[str], *, held: bool) -> Event:
    """What an outcome means to the session; `held`: the sale in doubt is still unsettled."""
    match outcome:
        case Paid(_, fen, after, _, recovered):
            return TapPaid(fen, after, recovered)
        case Refused(code):
            return TapRefused(code, held)
        case CutOff(code):
            return TapCut(code, held)
        case InDoubt(intent, asn):
            return TapDoubt(intent, asn)
        case OtherCard():
            return TapOther()
        case Withheld(code):
            return TapWithheld(code)
        case Identified(asn):
            return CardRead(asn, rights)
