"""Accounts: codes, kinds, creation, and the ids that the hot path keeps in memory (ledger.md §4).

Every fen stands on exactly one account. Ids never change, so a cached id cannot go stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from sqlalchemy import Connection, bindparam, insert, select

from sync.central.schema import account, balance
from sync.errors import OfficeExistsError, OfficeUnknownError

OPEN = 0


class AccountKind(IntEnum):
    """What kind of place an account stands for; stored."""

    WALLET = 1
    PURSE = 2
    MERCHANT = 3
    CLEARING = 4
    SUSPENSE = 5
    LOSS = 6
    HOLD = 7
    OTHER = 8


TAC = "suspense:tac"
TORN = "suspense:torn"
DUP = "suspense:dup-counter"
UNKNOWN_CARD = "suspense:unknown-card"
POST_LOSS = "suspense:post-loss"
GAP = "suspense:gap"
KIND = "suspense:kind"
CASH = "clearing:cash"
LOST = "loss:school"

FIXED: tuple[tuple[str, AccountKind], ...] = (
    (TAC, AccountKind.SUSPENSE),
    (TORN, AccountKind.SUSPENSE),
    (DUP, AccountKind.SUSPENSE),
    (UNKNOWN_CARD, AccountKind.SUSPENSE),
    (POST_LOSS, AccountKind.SUSPENSE),
    (GAP, AccountKind.SUSPENSE),
    (KIND, AccountKind.SUSPENSE),  # items that post nothing
    ("suspense:code-overlap", AccountKind.SUSPENSE),
    ("suspense:phantom-code", AccountKind.SUSPENSE),
    ("suspense:channel", AccountKind.SUSPENSE),
    (CASH, AccountKind.CLEARING),
    ("clearing:bank", AccountKind.CLEARING),
    ("clearing:wechat", AccountKind.CLEARING),
    ("clearing:alipay", AccountKind.CLEARING),
    (LOST, AccountKind.LOSS),
    ("hold:reservation", AccountKind.HOLD),
    ("hold:paycode", AccountKind.HOLD),
    ("deposit:card", AccountKind.OTHER),
    ("override", AccountKind.OTHER),
)
GUARDED = {AccountKind.WALLET, AccountKind.HOLD}

_ADD = insert(account)
_ADD_BALANCE = insert(balance)
_BY_CODES = select(account.c.code, account.c.id).where(
    account.c.code.in_(bindparam("codes", expanding=True))
)


def create(connection: Connection, code: str, kind: AccountKind, holder: int | None = None) -> int:
    """A new account with balance 0; its id. The caller knows the code to be free."""
    guarded = kind in GUARDED
    row = {
        "code": code,
        "kind": int(kind),
        "holder": holder,
        "floor_fen": 0 if guarded else None,
        "guarded": int(guarded),
        "state": OPEN,
    }
    key = connection.execute(_ADD, row).inserted_primary_key
    assert key is not None, code
    connection.execute(_ADD_BALANCE, {"account": key[0], "fen": 0})
    return int(key[0])


def create_new(connection: Connection, code: str, kind: AccountKind) -> int:
    """As `create`, but the code may be taken. Raises OFFICE_EXISTS."""
    if connection.scalar(select(account.c.id).where(account.c.code == code)) is not None:
        raise OfficeExistsError(account=code)
    return create(connection, code, kind)


class AccountIds:
    """Ids by code, read once each."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def get(self, connection: Connection, code: str) -> int:
        """The id of an account. Raises OFFICE_UNKNOWN."""
        return self.many(connection, (code,))[code]

    def many(self, connection: Connection, codes: Iterable[str]) -> dict[str, int]:
        """Ids of several accounts. Raises OFFICE_UNKNOWN for the first that does not exist."""
        wanted = list(codes)
        missing = [code for code in wanted if code not in self._ids]
        if missing:
            found = connection.execute(_BY_CODES, {"codes": missing})
            self._ids.update({str(code): int(key) for code, key in found})
        for code in missing:
            if code not in self._ids:
                raise OfficeUnknownError(account=code)
        return {code: self._ids[code] for code in wanted}
