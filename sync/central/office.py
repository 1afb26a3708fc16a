"""Acts of the card office on terminals and cards; each inside one operation (ledger.md §5).

A card belongs to a bare holder with wallets from the first day; person data comes later and changes
no account (ledger.md §4).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, bindparam, func, insert, select, update

from protocols.wire import topics
from sync.central import accounts, schema
from sync.central.accounts import AccountKind
from sync.central.claims import Claim
from sync.central.ingest_core import KeyState, LaneState
from sync.central.operations import Operation
from sync.central.posting import Code, Leg
from sync.central.registry import TerminalState
from sync.errors import OfficeExistsError, OfficeStateError, OfficeUnknownError

ROLES = ("canteen", "shower", "gate", "power", "kiosk")
ASN_BYTES = 10
LAST_CTR = 65_535


class CardState(IntEnum):
    """State of a card (services.md §8); stored. Everything but ACTIVE is on the denylist."""

    ACTIVE = 0
    LOST = 1
    FROZEN = 2
    RETIRED = 3


@dataclass(frozen=True, slots=True)
class CardRow:
    """What an act on a card needs of its row."""

    id: int
    state: int
    purse: int


_card, _loss, _item = schema.card, schema.card_loss, schema.suspense_item
_terminal, _key, _lane = schema.terminal, schema.terminal_key, schema.lane
_LAST_BATCH = select(func.max(schema.batch.c.id))
_LOSS_ITEMS = select(_item.c.id, _item.c.account, _item.c.claim_fen, _item.c.card).where(
    _item.c.card == bindparam("c"),
    _item.c.reason == "POST_SUSPENSE_LOSS",
    _item.c.state == 0,
)


def last_batch(connection: Connection) -> int:
    """The newest posted batch: decisions are valid for what is posted after it."""
    return int(connection.execute(_LAST_BATCH).scalar() or 0)


def terminal_id(connection: Connection, code: str) -> int:
    """The key of a terminal's row. Raises OFFICE_UNKNOWN."""
    found = connection.scalar(select(_terminal.c.id).where(_terminal.c.code == code))
    if found is None:
        raise OfficeUnknownError(terminal=code)
    return int(found)


def create_terminal(
    connection: Connection,
    site: str,
    code: str,
    place: str,
    merchant: str,
    role: str,
    now_us: int,
) -> int:
    """The enrolment row of a new terminal; its claim follows. OFFICE_EXISTS, WIRE_TOPIC."""
    topics.check_term(code)
    if role not in ROLES:
        raise OfficeUnknownError(role=role)
    if connection.scalar(select(_terminal.c.id).where(_terminal.c.code == code)) is not None:
        raise OfficeExistsError(terminal=code)
    name = f"merchant:{merchant}"
    account = connection.scalar(
        select(schema.account.c.id).where(schema.account.c.code == name)
    ) or accounts.create(connection, name, AccountKind.MERCHANT)
    row = {"code": code, "site": site, "place": place, "merchant": account, "role": role}
    counters = {"generation": 0, "claim_tries": 0, "dseq": 0, "created_us": now_us}
    state = {"part": topics.partition_of(code), "state": int(TerminalState.NEW)}
    key = connection.execute(insert(_terminal), row | state | counters).inserted_primary_key
    assert key is not None, code
    return int(key[0])


def give_claim(connection: Connection, terminal: int, claim: Claim) -> None:
    """Replace a terminal's one-time code; the older one is void."""
    connection.execute(
        update(_terminal)
        .where(_terminal.c.id == terminal)
        .values(
            claim_ref=claim.ref,
            claim_hash=claim.hash,
            claim_until_us=claim.until_us,
            claim_tries=0,
        )
    )


def issue_card(
    operation: Operation,
    asn: bytes,
    opening_fen: int,
    key_version: int,
    first_ctr: int,
    holder: int | None,
) -> list[int]:
    """[card, holder, purse, wallet]; opening value from clearing:cash. Raises OFFICE_EXISTS."""
    connection = operation.connection
    if len(asn) != ASN_BYTES or not 0 <= first_ctr <= LAST_CTR or opening_fen < 0:
        raise OfficeUnknownError(asn=asn, opening_fen=opening_fen)
    if connection.scalar(select(_card.c.id).where(_card.c.asn == asn)) is not None:
        raise OfficeExistsError(asn=asn)
    wallet = 0
    if holder is None:
        holder, wallet = _new_holder(connection, operation.now_us)
    else:
        wallet = _wallet(connection, holder)
    purse = accounts.create(connection, f"purse:{asn.hex()}", AccountKind.PURSE, holder)
    row = {"asn": asn, "holder": holder, "purse": purse, "wallet": wallet, "state": 0}
    facts = {"key_version": key_version, "opening_fen": opening_fen, "first_ctr": first_ctr}
    when = {"issued_us": operation.now_us, "after_batch": last_batch(connection)}
    key = connection.execute(insert(_card), row | facts | when).inserted_primary_key
    assert key is not None, asn
    chain = {"card": key[0], "class": 0, "next_ctr": first_ctr, "balance_fen": opening_fen}
    connection.execute(insert(schema.card_chain), chain)
    if opening_fen:
        cash = accounts.AccountIds().get(connection, accounts.CASH)
        operation.transfer([Leg(0, cash, purse, opening_fen, Code.OPENING)])
    return [int(key[0]), holder, purse, wallet]


def _new_holder(connection: Connection, now_us: int) -> tuple[int, int]:
    key = connection.execute(insert(schema.holder), {"created_us": now_us}).inserted_primary_key
    assert key is not None, now_us
    holder = int(key[0])
    wallet = accounts.create(connection, f"wallet:{holder}:cash", AccountKind.WALLET, holder)
    accounts.create(connection, f"wallet:{holder}:subsidy", AccountKind.WALLET, holder)
    return holder, wallet


def _wallet(connection: Connection, holder: int) -> int:
    code = f"wallet:{holder}:cash"
    found = connection.scalar(select(schema.account.c.id).where(schema.account.c.code == code))
    if found is None:
        raise OfficeUnknownError(holder=holder)
    return int(found)


def report_loss(operation: Operation, asn: bytes) -> int:
    """LOST from now on; the moment in µs. Idempotent. Raises OFFICE_UNKNOWN, OFFICE_STATE."""
    connection = operation.connection
    row = _card_row(connection, asn)
    if row.state == CardState.LOST:
        found = select(_loss.c.reported_us).where(
            _loss.c.card == row.id, _loss.c.lifted_us.is_(None)
        )
        return int(connection.execute(found).scalar_one())
    if row.state != CardState.ACTIVE:
        raise OfficeStateError(asn=asn, state=CardState(row.state).name)
    _set_card(connection, row.id, CardState.LOST)
    when = {"reported_us": operation.now_us, "after_batch": last_batch(connection)}
    connection.execute(insert(_loss), {"card": row.id, **when})
    return operation.now_us


def lift_loss(operation: Operation, asn: bytes) -> int:
    """ACTIVE again; debits since the report become the holder's. Returns the fen taken back."""
    connection = operation.connection
    row = _card_row(connection, asn)
    if row.state != CardState.LOST:
        raise OfficeStateError(asn=asn, state=CardState(row.state).name)
    _set_card(connection, row.id, CardState.ACTIVE)
    connection.execute(
        update(_loss)
        .where(_loss.c.card == row.id, _loss.c.lifted_us.is_(None))
        .values(lifted_us=operation.now_us, lifted_after_batch=last_batch(connection))
    )
    legs = []
    for n, item in enumerate(connection.execute(_LOSS_ITEMS, {"c": row.id}).all()):
        legs.append(Leg(n, row.purse, item.account, item.claim_fen, Code.LIFTED))
        close_item(operation, item.id)
    if legs:
        operation.transfer(legs)
    return sum(leg.fen for leg in legs)


def clear_suspect(operation: Operation, asn: bytes) -> None:
    """Take a card off the suspect list after inquiry. Raises OFFICE_UNKNOWN."""
    row = _card_row(operation.connection, asn)
    operation.connection.execute(update(_card).where(_card.c.id == row.id).values(suspect=0))


def close_item(operation: Operation, item: int) -> None:
    """Mark a suspense item resolved by this operation."""
    operation.connection.execute(
        update(_item)
        .where(_item.c.id == item)
        .values(state=1, resolved_us=operation.now_us, resolved_by=operation.seq)
    )


def revoke_terminal(connection: Connection, terminal: int) -> None:
    """No key of it is accepted any more, its lanes are fenced, its claim is void."""
    connection.execute(
        update(_terminal)
        .where(_terminal.c.id == terminal)
        .values(state=int(TerminalState.REVOKED), claim_hash=None, claim_ref=None)
    )
    connection.execute(
        update(_key).where(_key.c.terminal == terminal).values(state=int(KeyState.REVOKED))
    )
    connection.execute(
        update(_lane)
        .where(_lane.c.terminal == terminal, _lane.c.state == int(LaneState.OPEN))
        .values(state=int(LaneState.FENCED))
    )


def admit_tail_keys(connection: Connection, terminal: int) -> None:
    """Older keys may sign the tail of a reopened lane, and nothing else."""
    connection.execute(
        update(_key)
        .where(_key.c.terminal == terminal, _key.c.state == int(KeyState.REVOKED))
        .values(state=int(KeyState.TAIL))
    )


def _card_row(connection: Connection, asn: bytes) -> CardRow:
    row = connection.execute(
        select(_card.c.id, _card.c.state, _card.c.purse).where(_card.c.asn == asn)
    ).one_or_none()
    if row is None:
        raise OfficeUnknownError(asn=asn)
    return CardRow(*row)


def _set_card(connection: Connection, card: int, state: CardState) -> None:
    connection.execute(update(_card).where(_card.c.id == card).values(state=int(state)))
