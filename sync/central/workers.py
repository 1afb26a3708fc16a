"""Workers that follow the posted batches: certificates, counters, and what they leave open.

One pass reads the archive behind a cursor, checks every sale's TAC, lets proved sales own their
card counter, and moves what is not proved to suspense. `doubts` then settles what has become
decidable. Everything of a pass commits together with the cursor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection, Engine, bindparam, func, insert, select, update

from sync.central import doubts, schema, verdicts
from sync.central.accounts import AccountIds
from sync.central.engine import in_transaction, reading
from sync.central.lists import Publisher
from sync.central.tac import TacDesk

BATCHES_MAX = 200
RECORDS_MAX = 10_000  # of one pass: its cards and counters are bound variables of one statement
SETTLE_EVERY_US = 10_000_000
NAME = "follow"

_worker, _batch = schema.worker, schema.batch
_AT = select(_worker.c.batch).where(_worker.c.name == NAME)
_NEWEST = select(func.max(_batch.c.id))
_NEXT = (
    select(_batch.c.id, _batch.c.n_record)
    .where(_batch.c.id > bindparam("at"))
    .order_by(_batch.c.id)
    .limit(BATCHES_MAX)
)
_MOVE = update(_worker).where(_worker.c.name == NAME).values(batch=bindparam("to"))


class Limits(Protocol):
    """The figures workers need of the centre's settings."""

    @property
    def bad_tac_day_max(self) -> int:
        """BAD certificates of one terminal and day before its total is held."""

    @property
    def doubt_days(self) -> int:
        """Days without sight of the card after which a doubt closes as AGED."""


class Workers:
    """Runs passes when woken, and looks at open doubts from time to time."""

    def __init__(
        self,
        engine: Engine,
        tac: TacDesk,
        publisher: Publisher,
        limits: Limits,
        ids: AccountIds,
        pause: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._tac = tac
        self._publisher = publisher
        self._limits = limits
        self._ids = ids
        self._pause = pause
        self._awake = True
        self._settled_us = 0
        self._news = True  # posted since doubts were last looked at

    def wake(self) -> None:
        """A batch was posted."""
        self._awake = True
        self._news = True

    def turn(self, now_us: int) -> bool:
        """Catch up with the archive; whether something may have been queued for terminals."""
        queued = False
        while self._awake:
            more, denied = in_transaction(self._engine, self._pass(now_us), self._pause)
            self._awake = more
            queued = queued or denied
        if self._news and now_us - self._settled_us >= SETTLE_EVERY_US:
            self._settled_us = now_us
            self._news = False
            queued = in_transaction(self._engine, self._settle(now_us), self._pause) or queued
        return queued

    def settle_now(self, now_us: int) -> bool:
        """Look at every open doubt at once: before an audit, at the end of a simulation."""
        self.turn(now_us)
        self._settled_us = now_us
        return in_transaction(self._engine, self._settle(now_us), self._pause)

    def behind(self) -> int:
        """Batches posted and not yet followed."""
        with reading(self._engine) as connection:
            at = connection.execute(_AT).scalar() or 0
            return int(connection.execute(_NEWEST).scalar() or 0) - int(at)

    def _pass(self, now_us: int) -> Callable[[Connection], tuple[bool, bool]]:
        def once(connection: Connection) -> tuple[bool, bool]:
            at = connection.execute(_AT.with_for_update()).scalar()
            if at is None:
                connection.execute(insert(_worker), {"name": NAME, "batch": 0})
                at = 0
            newest = int(connection.execute(_NEWEST).scalar() or 0)
            upto = _reach(connection, at)
            denied = False
            if upto > at:
                judged = verdicts.judge_batches(
                    connection, (at, upto), self._tac, self._ids, now_us
                )
                verdicts.hold_totals(connection, judged.bad, self._limits.bad_tac_day_max, now_us)
                denied = self._deny(connection, now_us)
                connection.execute(_MOVE, {"to": upto})
            return upto < newest, denied

        return once

    def _settle(self, now_us: int) -> Callable[[Connection], bool]:
        def once(connection: Connection) -> bool:
            days = self._limits.doubt_days
            told = doubts.settle(connection, self._tac, self._ids, self._publisher, now_us, days)
            return self._deny(connection, now_us) or told

        return once

    def _deny(self, connection: Connection, now_us: int) -> bool:
        """Publish `cards` when a suspect card is not on it yet."""
        if not verdicts.undenied(connection):
            return False
        self._publisher.publish_cards(connection, now_us)
        return True


def _reach(connection: Connection, at: int) -> int:
    """The last batch of the pass behind batch `at`: one at least, where there is one."""
    records = 0
    for batch in connection.execute(_NEXT, {"at": at}).all():
        records += batch.n_record
        if records > RECORDS_MAX and records > batch.n_record:
            break
        at = batch.id
    return at
