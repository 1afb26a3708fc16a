"""What a person wants to see of the books at a glance, and the books as plain text.

The text is beancount's: an independent accounting tool can recompute every balance from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Select, Table, func, select

from protocols.money import format_yuan
from sync.central import schema
from sync.central.engine import reading
from sync.central.posting import Code, DoubtState

_SALES = (int(Code.SALE), int(Code.LATE), int(Code.UNKNOWN_CARD), int(Code.DOUBT))


@dataclass(frozen=True, slots=True)
class TerminalLine:
    """One terminal: what the centre has from it."""

    code: str
    place: str
    epoch: int
    records: int
    lane: int
    mark_us: int
    sales: int
    sales_fen: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and balances of the whole centre."""

    terminals: tuple[TerminalLine, ...]
    balances: dict[str, int]  # every account but purses and wallets, fen
    purses_fen: int
    wallets_fen: int
    cards: int
    batches: int
    transfers: int
    open_doubts: int
    resolved_doubts: int
    open_items: int
    open_items_fen: int
    quarantined: int
    forks: int
    alarms: int


def summary(engine: Engine) -> Summary:
    """One snapshot."""
    with reading(engine) as connection:
        grouped = _balances(connection)
        item, doubt = schema.suspense_item, schema.doubt
        still = doubt.c.state == int(DoubtState.OPEN)
        return Summary(
            terminals=tuple(_terminals(connection)),
            balances={k: v for k, v in grouped.items() if k not in ("purse", "wallet")},
            purses_fen=grouped.get("purse", 0),
            wallets_fen=grouped.get("wallet", 0),
            cards=_count(connection, schema.card),
            batches=_count(connection, schema.batch),
            transfers=_count(connection, schema.transfer),
            open_doubts=_scalar(connection, select(func.count()).where(still)),
            resolved_doubts=_scalar(connection, select(func.count()).where(~still)),
            open_items=_scalar(connection, select(func.count()).where(item.c.state == 0)),
            open_items_fen=sum(
                abs(fen) for fen in connection.scalars(select(item.c.fen).where(item.c.state == 0))
            ),
            quarantined=_count(connection, schema.quarantine),
            forks=_count(connection, schema.fork),
            alarms=_count(connection, schema.alarm),
        )


def _balances(connection: Connection) -> dict[str, int]:
    """Fen by account; purses and wallets as one line each."""
    found: dict[str, int] = {}
    account, balance = schema.account, schema.balance
    rows = connection.execute(
        select(account.c.code, balance.c.fen).join(balance, balance.c.account == account.c.id)
    )
    for code, fen in rows:
        lead = code.split(":", 1)[0]
        name = lead if lead in ("purse", "wallet") else code
        found[name] = found.get(name, 0) + fen
    return {name: fen for name, fen in sorted(found.items()) if fen or name in ("purse", "wallet")}


def _terminals(connection: Connection) -> Iterator[TerminalLine]:
    terminal, lane, transfer = schema.terminal, schema.lane, schema.transfer
    rows = connection.execute(
        select(transfer.c.terminal, transfer.c.fen).where(
            transfer.c.terminal != 0, transfer.c.code.in_(_SALES)
        )
    )
    sales: dict[int, tuple[int, int]] = {}
    for key, fen in rows:
        count, total = sales.get(key, (0, 0))
        sales[key] = (count + 1, total + fen)
    ordered = (
        select(terminal.c.id, terminal.c.code, terminal.c.place, lane)
        .join(lane, lane.c.terminal == terminal.c.id)
        .order_by(terminal.c.code, lane.c.epoch)
    )
    for row in connection.execute(ordered):
        count, total = sales.get(row.id, (0, 0))
        yield TerminalLine(
            row.code,
            row.place,
            row.epoch,
            row.next_seq - 1,
            row.state,
            row.mark_us,
            count,
            total,
        )


def beancount(engine: Engine) -> Iterator[str]:
    """Every transfer as beancount text, line by line; one commodity, CNY."""
    account, transfer = schema.account, schema.transfer
    with reading(engine) as connection:
        names = {row.id: _named(row.code) for row in connection.execute(select(account))}
        for name in sorted(set(names.values())):
            yield f"1970-01-01 open {name} CNY"
        ordered = select(transfer).order_by(
            transfer.c.day, transfer.c.terminal, transfer.c.epoch, transfer.c.seq, transfer.c.leg
        )
        for row in connection.execute(ordered):
            day = f"{row.day // 10_000:04d}-{row.day // 100 % 100:02d}-{row.day % 100:02d}"
            key = f"{row.terminal}/{row.epoch}/{row.seq}/{row.leg}"
            yield f'{day} * "{Code(row.code).name} {key}"'
            yield f"  {names[row.debit]}  -{format_yuan(row.fen)} CNY"
            yield f"  {names[row.credit]}  {format_yuan(row.fen)} CNY"


def _named(code: str) -> str:
    """An account code as beancount wants it: `purse:ASN` becomes `Liabilities:Purse:ASN`."""
    parts = [part[:1].upper() + part[1:] for part in code.replace("_", "-").split(":")]
    return ":".join(["Liabilities", *parts])


def _count(connection: Connection, table: Table) -> int:
    return _scalar(connection, select(func.count()).select_from(table))


def _scalar(connection: Connection, query: Select[int]) -> int:
    return int(connection.execute(query).scalar_one())
