"""Audit checks that need only accounts, transfers and their small tables."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, select

from sync.central import schema
from sync.central.accounts import AccountKind
from sync.central.posting import Code

Finding = tuple[list[str], str]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account with its balance."""

    id: int
    code: str
    fen: int


ITEM_AGE_MAX_US = 30 * 86_400_000_000

_account, _balance, _transfer = schema.account, schema.balance, schema.transfer
_item, _terminal, _hold, _card = schema.suspense_item, schema.terminal, schema.hold, schema.card


def total(column: ColumnElement[int]) -> ColumnElement[int]:
    """A sum as BIGINT: PostgreSQL's own sum(bigint) is NUMERIC (ledger.md §2)."""
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def by_account(connection: Connection) -> dict[int, int]:
    """Σ credit − Σ debit of every account that has a transfer."""
    found: dict[int, int] = {}
    for side, sign in ((_transfer.c.credit, 1), (_transfer.c.debit, -1)):
        for account, fen in connection.execute(select(side, total(_transfer.c.fen)).group_by(side)):
            found[account] = found.get(account, 0) + sign * int(fen)
    return found


def balances(connection: Connection) -> Finding:
    """C1: every balance is the sum of its transfers, and all of them sum to 0."""
    summed = by_account(connection)
    rows = connection.execute(
        select(_account.c.id, _account.c.code, _balance.c.fen).outerjoin(
            _balance, _balance.c.account == _account.c.id
        )
    ).all()
    wrong = [
        f"{row.code}: balance {row.fen} fen, transfers {summed.get(row.id, 0)}"
        for row in rows
        if row.fen != summed.get(row.id, 0)
    ]
    known = {row.id for row in rows}
    wrong += [f"transfer on unknown account {key}" for key in summed.keys() - known]
    whole = sum(row.fen or 0 for row in rows)
    if whole:
        wrong.append(f"sum of all balances is {whole} fen")
    return wrong, f"{len(rows)} accounts, sum 0"


def floors(connection: Connection) -> Finding:
    """C4: no guarded account below its floor."""
    rows = connection.execute(
        select(_account.c.code, _balance.c.fen, _account.c.floor_fen)
        .join(_balance, _balance.c.account == _account.c.id)
        .where(_account.c.floor_fen.is_not(None), _balance.c.fen < _account.c.floor_fen)
    )
    wrong = [f"{row.code}: {row.fen} fen, floor {row.floor_fen}" for row in rows]
    count = connection.execute(select(func.count()).where(_account.c.guarded == 1)).scalar_one()
    return wrong, f"{count} guarded accounts"


def holds(connection: Connection) -> Finding:
    """C5: open holds are the hold accounts' balances; a finished one keeps nothing."""
    left = total(_hold.c.fen - _hold.c.captured_fen)
    open_fen = {
        row[0]: int(row[1])
        for row in connection.execute(
            select(_hold.c.account, left).where(_hold.c.state.in_((0, 1))).group_by(_hold.c.account)
        )
    }
    wrong = [
        f"{row.code}: {row.fen} fen, open holds {open_fen.get(row.id, 0)}"
        for row in _of_kind(connection, AccountKind.HOLD)
        if row.fen != open_fen.get(row.id, 0)
    ]
    beyond = select(_hold.c.id).where(_hold.c.captured_fen > _hold.c.fen)
    wrong += [f"hold {key.hex()}: captured above held" for key in connection.scalars(beyond)]
    return wrong, f"{len(open_fen)} hold accounts in use"


def loads(connection: Connection) -> Finding:
    """C7: no load has been authorised yet, so no fen may be in transit."""
    return _no_account(connection, "load-transit:%", "no loads yet")


def prepaid(connection: Connection) -> Finding:
    """C8: no shower has posted yet, so no fen may be prepaid."""
    return _no_account(connection, "prepaid:%", "no showers yet")


def _no_account(connection: Connection, pattern: str, seen: str) -> Finding:
    rows = connection.execute(
        select(_account.c.code, _balance.c.fen)
        .join(_balance, _balance.c.account == _account.c.id)
        .where(_account.c.code.like(pattern), _balance.c.fen != 0)
    )
    return [f"{row.code}: {row.fen} fen" for row in rows], seen


def reversals(connection: Connection) -> Finding:
    """C9: every reversal names one sale, once, and does not exceed it."""
    table, orig, back = schema.reversal, _transfer.alias("orig"), _transfer.alias("back")
    rows = connection.execute(
        select(table, orig.c.fen.label("sold"), back.c.fen.label("returned"), orig.c.code)
        .outerjoin(
            orig,
            (orig.c.terminal == table.c.orig_terminal)
            & (orig.c.epoch == table.c.orig_epoch)
            & (orig.c.seq == table.c.orig_seq)
            & (orig.c.leg == table.c.orig_leg),
        )
        .outerjoin(
            back,
            (back.c.terminal == table.c.terminal)
            & (back.c.epoch == table.c.epoch)
            & (back.c.seq == table.c.seq)
            & (back.c.leg == 0),
        )
    ).all()
    wrong = [
        f"reversal {row.terminal}/{row.epoch}/{row.seq}: {row.returned} of {row.sold} fen"
        for row in rows
        if row.sold is None
        or row.returned is None
        or row.returned > row.sold
        or row.code == Code.REVERSAL
    ]
    named = {(row.terminal, row.epoch, row.seq) for row in rows}
    posted = connection.execute(
        select(_transfer.c.terminal, _transfer.c.epoch, _transfer.c.seq).where(
            _transfer.c.code == int(Code.REVERSAL)
        )
    )
    wrong += [
        f"transfer {tuple(key)} reverses no sale" for key in posted if tuple(key) not in named
    ]
    return wrong, f"{len(rows)} reversals"


def clearing(connection: Connection) -> Finding:
    """C10: cash is what cards were issued with; no channel has a statement yet, so the rest is 0."""
    issued = int(connection.execute(select(total(_card.c.opening_fen))).scalar_one())
    expected = {"clearing:cash": -issued}
    resolved = _resolutions(connection)
    wrong = [
        f"{row.code}: {row.fen} fen, issued {expected.get(row.code, 0)}"
        for row in _of_kind(connection, AccountKind.CLEARING)
        if row.fen != expected.get(row.code, 0) + resolved.get(row.id, 0)
    ]
    return wrong, f"{issued} fen of opening value issued for cash; no channels yet"


def _resolutions(connection: Connection) -> dict[int, int]:
    """What persons moved between suspense and an account, by account."""
    found: dict[int, int] = {}
    rows = connection.execute(select(_transfer).where(_transfer.c.code == int(Code.RESOLVED)))
    for row in rows:
        found[row.credit] = found.get(row.credit, 0) + row.fen
        found[row.debit] = found.get(row.debit, 0) - row.fen
    return found


def merchants(connection: Connection) -> Finding:
    """C11: a merchant's balance is the sum of its own terminals' transfers and of the office's."""
    pairs = connection.execute(select(_terminal.c.id, _terminal.c.merchant)).all()
    owner = {row.id: row.merchant for row in pairs}
    rows = _of_kind(connection, AccountKind.MERCHANT)
    names = {row.id: row.code for row in rows}
    sums = dict.fromkeys(names, 0)
    wrong = []
    for side, sign in ((_transfer.c.credit, 1), (_transfer.c.debit, -1)):
        grouped = (
            select(side, _transfer.c.terminal, total(_transfer.c.fen))
            .where(side.in_(select(_account.c.id).where(_is(AccountKind.MERCHANT))))
            .group_by(side, _transfer.c.terminal)
        )
        for account, terminal, fen in connection.execute(grouped):
            sums[account] += sign * int(fen)
            if terminal and owner.get(terminal) != account:
                wrong.append(f"{names[account]}: {fen} fen by terminal {terminal}, not its own")
    wrong += [
        f"{row.code}: balance {row.fen} fen, terminals {sums[row.id]}"
        for row in rows
        if row.fen != sums[row.id]
    ]
    return wrong, f"{len(rows)} merchants, {len(owner)} terminals; no day is sealed yet"


def suspense(connection: Connection, now_us: int | None) -> Finding:
    """C12: each suspense account is the sum of its open items, and none is too old."""
    sums = {
        row[0]: int(row[1])
        for row in connection.execute(
            select(_item.c.account, total(_item.c.fen))
            .where(_item.c.state == 0)
            .group_by(_item.c.account)
        )
    }
    wrong = [
        f"{row.code}: {row.fen} fen, open items {sums.get(row.id, 0)}"
        for row in _of_kind(connection, AccountKind.SUSPENSE)
        if row.fen != sums.get(row.id, 0)
    ]
    count = connection.execute(select(func.count()).where(_item.c.state == 0)).scalar_one()
    if now_us is not None:
        old = select(_item.c.id, _item.c.reason, _item.c.claim_fen).where(
            _item.c.state == 0, _item.c.opened_us < now_us - ITEM_AGE_MAX_US
        )
        wrong += [
            f"item {row.id} {row.reason} {row.claim_fen} fen: older than 30 days"
            for row in connection.execute(old)
        ]
    return wrong, f"{count} open items"


def _is(kind: AccountKind) -> ColumnElement[bool]:
    return _account.c.kind == int(kind)


def _of_kind(connection: Connection, kind: AccountKind) -> list[AccountRow]:
    rows = connection.execute(
        select(_account.c.id, _account.c.code, func.coalesce(_balance.c.fen, 0))
        .outerjoin(_balance, _balance.c.account == _account.c.id)
        .where(_is(kind))
    )
    return [AccountRow(*row) for row in rows]
