"""Physical keys as session events; in menu mode a digit is a price key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware.ports import Key
from terminal.canteen.moves import (
    Back,
    Cancel,
    Digits,
    Dot,
    Enter,
    Event,
    Menu,
    Mode,
    Session,
    ShiftKey,
    VoidKey,
)

if TYPE_CHECKING:
    from terminal.canteen.till import Ports

_PLAIN: dict[str, Event] = {
    ".": Dot(),
    "BACK": Back(),
    "ENTER": Enter(),
    "YES": Enter(),
    "CANCEL": Cancel(),
    "NO": Cancel(),
    "SHIFT": ShiftKey(),
}


def key_event(key: Key, session: Session, ports: Ports) -> Event | None:
    """The event of a key in this mode, None for a key the till does not have."""
    if key.name.isdigit():
        return _digit(key.name, session, ports)
    if key.name == "VOID":
        return VoidKey(ports.journal.state.last_sale)
    return _PLAIN.get(key.name)


def _digit(name: str, session: Session, ports: Ports) -> Event:
    if session.mode is not Mode.MENU:
        return Digits(name)
    tariff = ports.news.desk.current.tariff
    price = None if tariff is None else tariff.price(name)
    return Menu(name, None if price is None else price.fen)
