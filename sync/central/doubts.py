"""Settles what was cut off: open doubts, and sales that wait for proof (card.md §6.3).

Per card: a certificate proves at once; a counter owned by another proved record disproves at once;
what only a counter, a balance or a record without a MAC can tell waits until every terminal has
told everything up to the card's next proved sighting. After 30 days without that sighting a doubt
closes in the holder's favour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from protocols.card.files import PurseRecord
from protocols.errors import CardRecordError
from protocols.wire import cbor, topics
from protocols.wire.cose import sign1
from protocols.wire.messages import Cmd
from protocols.wire.record import Record
from sync.central import accounts, archive, schema, suspense
from sync.central.accounts import AccountIds
from sync.central.continuity import Claimant, Ruling, Shown, Stretch, shown_of
from sync.central.continuity import settle as rule
from sync.central.ledger import add_rows, alarm_row, item_row
from sync.central.lists import Publisher, queue
from sync.central.mail import Outbound
from sync.central.office import last_batch
from sync.central.posting import Code, DoubtState, Item, Leg
from sync.central.rules import S_REVERSAL, S_TAC, S_TORN
from sync.central.suspense import LEG_DOUBT, Move
from sync.central.tac import TacDesk, TacResult, evidence_tac
from sync.central.verdicts import S_DUP, S_TAC_KEY, advance_chain, owner_row
from sync.central.watermarks import quiet_until_us

DAY_US = 86_400_000_000
COMMAND_DOUBT_DONE = 1  # body: [epoch, seq of the INTENT, DoubtState, via]
Key = tuple[int, int, int]
AnyRow = Row[tuple[object, ...]]

_doubt, _item, _seen = schema.doubt, schema.suspense_item, schema.card_seen
_intent, _card, _terminal = schema.intent, schema.card, schema.terminal
_DOUBTS = select(_doubt).where(_doubt.c.state == int(DoubtState.OPEN), _doubt.c.card.is_not(None))
_ITEMS = select(_item).where(
    _item.c.state == suspense.OPEN,
    _item.c.reason.in_((S_TAC, S_TAC_KEY)),
    _item.c.card.is_not(None),
    _item.c.depends_seq.is_(None),
)
_CHAIN = (
    select(_seen).where(_seen.c.card == bindparam("c"), _seen.c["class"] == 0).order_by(_seen.c.ctr)
)
_CARD = select(_card).where(_card.c.id == bindparam("c"))
_TERMINAL = select(_terminal.c.code, _terminal.c.merchant).where(_terminal.c.id == bindparam("t"))
_ABANDONED = select(_intent.c.abandoned).where(
    _intent.c.terminal == bindparam("t"),
    _intent.c.epoch == bindparam("e"),
    _intent.c.seq == bindparam("s"),
)
_DECIDE = (
    update(_doubt)
    .where(
        _doubt.c.terminal == bindparam("t"),
        _doubt.c.epoch == bindparam("e"),
        _doubt.c.seq == bindparam("s"),
        _doubt.c.state == int(DoubtState.OPEN),
    )
    .values(state=bindparam("to"), via=bindparam("how"), decided_batch=bindparam("after"))
)
_DECIDE_INTENT = (
    update(_intent)
    .where(
        _intent.c.terminal == bindparam("t"),
        _intent.c.epoch == bindparam("e"),
        _intent.c.seq == bindparam("s"),
    )
    .values(decided=bindparam("to"))
)
_tac, _sale = schema.tac_result, schema.suspense_item.alias("sale")
_loss = schema.suspense_item.alias("loss")
_REVERSALS = (
    select(_item, _tac.c.result, _sale.c.state.label("sale_state"), _sale.c.resolved_by.label("by"))
    .select_from(
        _item.outerjoin(
            _tac,
            and_(
                _tac.c.terminal == _item.c.terminal,
                _tac.c.epoch == _item.c.epoch,
                _tac.c.seq == _item.c.depends_seq,
            ),
        ).outerjoin(
            _sale,
            and_(
                _sale.c.terminal == _item.c.terminal,
                _sale.c.epoch == _item.c.epoch,
                _sale.c.seq == _item.c.depends_seq,
                _sale.c.reason.in_((S_TAC, S_TAC_KEY)),
            ),
        )
    )
    .where(
        _item.c.state == suspense.OPEN,
        _item.c.reason == S_REVERSAL,
        _item.c.depends_seq.is_not(None),
    )
)


@dataclass(slots=True)
class Claim:
    """A doubt or a parked sale with its INTENT, as something that may own a counter."""

    claimant: Claimant
    intent: Record
    doubt: AnyRow | None
    item: AnyRow | None
    record_key: Key  # of the record that would own the counter


@dataclass(slots=True)
class Case:
    """One card with its open claims."""

    card: AnyRow
    chain: list[AnyRow]
    claims: list[Claim] = field(default_factory=list)


class Settlement:
    """One look at everything open, in the caller's transaction."""

    def __init__(
        self, connection: Connection, tac: TacDesk, ids: AccountIds, publisher: Publisher
    ) -> None:
        self.connection = connection
        self.tac = tac
        self.fixed = ids.many(connection, (accounts.TAC, accounts.TORN))
        self.publisher = publisher
        self.told = False

    def case(self, case: Case, quiet_us: int, aged_us: int, now_us: int) -> None:
        """Settle what is decidable of one card."""
        open_claims: list[Claim] = []
        for claim in case.claims:
            if self._certified(claim):
                self._commit(case, claim, "tac", now_us)
            else:
                open_claims.append(claim)
        owned = {row.ctr for row in case.chain}
        waiting = []
        for claim in open_claims:
            if claim.claimant.ctr in owned or claim.claimant.ctr < case.card.first_ctr:
                self._void(claim, "owner", now_us)
            else:
                waiting.append(claim)
        for stretch, next_us in self._stretches(case, waiting):
            if next_us < quiet_us:
                self._rule(case, stretch, waiting, now_us)
        self._age(case, waiting, aged_us, now_us)

    def _certified(self, claim: Claim) -> bool:
        if claim.doubt is None or claim.doubt.evidence is None:
            return False
        found = evidence_tac(cbor.loads_own(claim.doubt.evidence))
        return self.tac.check(claim.intent, found) is TacResult.OK

    def _stretches(self, case: Case, waiting: Sequence[Claim]) -> list[tuple[Stretch, int]]:
        """Gaps between proved counters that somebody claims, with the next sighting's time."""
        found = []
        ctr, balance_fen = case.card.first_ctr, case.card.opening_fen
        for row in case.chain:
            claimed = any(ctr <= one.claimant.ctr < row.ctr for one in waiting)
            if claimed:
                prev = self._prev(row)
                stretch = Stretch(ctr, row.ctr - 1, balance_fen, row.before_fen, prev)
                found.append((stretch, row.event_us))
            ctr, balance_fen = row.ctr + 1, row.after_fen
        return found

    def _prev(self, row: AnyRow) -> Shown | None:
        key = (row.terminal, row.epoch)
        intent = archive.record_at(self.connection, key, row.intent_seq)
        raw = None if intent is None else intent.get("prev")
        try:
            return None if raw is None else shown_of(PurseRecord.decode(raw))
        except CardRecordError:
            return None

    def _rule(self, case: Case, stretch: Stretch, waiting: list[Claim], now_us: int) -> None:
        inside = [c for c in waiting if stretch.first <= c.claimant.ctr <= stretch.last]
        rulings = rule(stretch, [claim.claimant for claim in inside])
        torn: dict[int, list[Claim]] = defaultdict(list)
        for claim in inside:
            ruling = rulings.get(claim.claimant.key)
            if ruling is Ruling.COMMITTED:
                self._commit(case, claim, "counter", now_us)
            elif ruling is Ruling.VOID:
                self._void(claim, "counter", now_us)
            elif ruling is Ruling.TORN:
                torn[claim.claimant.ctr].append(claim)
            if ruling is not None:
                waiting.remove(claim)
        for claims in torn.values():
            self._torn(case, claims, now_us)

    def _commit(self, case: Case, claim: Claim, via: str, now_us: int) -> None:
        lane = claim.claimant.key[:2]
        offset_us = archive.offset_at(self.connection, lane, claim.intent.seq)
        event_us = claim.intent.wall_us + offset_us
        row = owner_row(case.card.id, claim.intent, claim.record_key, claim.intent.seq, event_us)
        if claim.claimant.ctr in {seen.ctr for seen in case.chain}:  # both certified: a clone
            facts = alarm_row(None, S_DUP, [list(claim.claimant.key), via], now_us)
            self.connection.execute(insert(schema.alarm), facts)
            self._void(claim, "owner", now_us)
            return
        add_rows(self.connection, "card_seen", [row])
        advance_chain(self.connection, [row])
        case.chain = list(self.connection.execute(_CHAIN, {"c": case.card.id}).all())
        if claim.item is not None:
            suspense.clear(self.connection, claim.item, proved=True, now_us=now_us)
            return
        target = self._target(case, claim)
        leg = Leg(LEG_DOUBT, case.card.purse, target, claim.intent.fen, Code.DOUBT)
        suspense.post_moves(self.connection, [Move(claim.claimant.key, leg)], now_us)
        self._decide(claim, DoubtState.COMMITTED, via, now_us)

    def _void(self, claim: Claim, via: str, now_us: int) -> None:
        if claim.item is not None:
            suspense.clear(self.connection, claim.item, proved=False, now_us=now_us)
        else:
            self._decide(claim, DoubtState.VOID, via, now_us)

    def _torn(self, case: Case, claims: list[Claim], now_us: int) -> None:
        """Exactly one of these debits happened; a person says whose sale it was."""
        parked = [claim for claim in claims if claim.item is not None]
        doubted = [claim for claim in claims if claim.item is None]
        for extra in parked[1:]:
            self._void(extra, "torn", now_us)
        for n, claim in enumerate(doubted):
            if parked or n:
                self._decide(claim, DoubtState.VOID, "torn", now_us)
                continue
            torn, fen = self.fixed[accounts.TORN], claim.intent.fen
            leg = Leg(LEG_DOUBT, case.card.purse, torn, fen, Code.TORN)
            suspense.post_moves(self.connection, [Move(claim.claimant.key, leg)], now_us)
            target = self._target(case, claim)
            item = Item(
                torn, S_TORN, fen, fen, target, case.card.purse, case.card.id, claim.claimant.ctr
            )
            rows = [item_row(claim.claimant.key, item, None, now_us)]
            add_rows(self.connection, "suspense_item", rows)
            self._decide(claim, DoubtState.COMMITTED, "torn", now_us)
        facts = [list(claim.claimant.key) for claim in claims]
        self.connection.execute(insert(schema.alarm), alarm_row(None, S_TORN, facts, now_us))

    def _age(self, case: Case, waiting: list[Claim], aged_us: int, now_us: int) -> None:
        highest = max((row.ctr for row in case.chain), default=-1)
        for claim in waiting:
            doubt = claim.doubt
            unseen = claim.claimant.ctr > highest
            if doubt is not None and unseen and doubt.opened_us < aged_us:
                self._decide(claim, DoubtState.AGED, "aged", now_us)

    def _target(self, case: Case, claim: Claim) -> int:
        terminal, epoch, seq = claim.claimant.key
        gone = self.connection.execute(_ABANDONED, {"t": terminal, "e": epoch, "s": seq}).scalar()
        if gone:
            return int(case.card.wallet)
        return int(self.connection.execute(_TERMINAL, {"t": terminal}).one().merchant)

    def _decide(self, claim: Claim, state: DoubtState, via: str, now_us: int) -> None:
        terminal, epoch, seq = claim.claimant.key
        at = {"t": terminal, "e": epoch, "s": seq, "to": int(state)}
        after = last_batch(self.connection)
        decided = self.connection.execute(_DECIDE, {**at, "how": via, "after": after})
        assert decided.rowcount == 1, claim.claimant.key
        self.connection.execute(_DECIDE_INTENT, at)
        self._tell(claim.claimant.key, state, via, now_us)

    def _tell(self, key: Key, state: DoubtState, via: str, now_us: int) -> None:
        """The decision as a signed command: the terminal closes its doubt with DOUBT_DONE."""
        code = self.connection.execute(_TERMINAL, {"t": key[0]}).one().code
        command = sha256(cbor.dumps(["doubt", *key])).digest()[:16]
        deadline_us = now_us + 30 * DAY_US
        body = [key[1], key[2], int(state), via]
        message = Cmd(code, command, COMMAND_DOUBT_DONE, deadline_us, body)
        cose = sign1(message.encode(), self.publisher.signer)
        row = {"id": command, "terminal": key[0], "kind": COMMAND_DOUBT_DONE, "cose": cose}
        self.connection.execute(
            insert(schema.command), row | {"deadline_us": deadline_us, "state": 0}
        )
        topic = topics.down(self.publisher.site, code, "cmd")
        queue(self.connection, [Outbound(topic, cose)])
        self.told = True


def settle(
    connection: Connection,
    tac: TacDesk,
    ids: AccountIds,
    publisher: Publisher,
    now_us: int,
    doubt_days: int,
) -> bool:
    """Look at every open doubt and parked sale once; whether a terminal was told something."""
    work = Settlement(connection, tac, ids, publisher)
    quiet_us = quiet_until_us(connection)
    aged_us = now_us - doubt_days * DAY_US
    for case in _cases(connection):
        work.case(case, quiet_us, aged_us, now_us)
    _settle_reversals(connection, ids, now_us)
    return work.told


def _cases(connection: Connection) -> list[Case]:
    claims: dict[int, list[Claim]] = defaultdict(list)
    for row in connection.execute(_DOUBTS).all():
        intent = archive.record_at(connection, (row.terminal, row.epoch), row.seq)
        if intent is not None:
            key = (row.terminal, row.epoch, row.seq)
            claims[row.card].append(Claim(_claimant(key, intent), intent, row, None, key))
    for row in connection.execute(_ITEMS).all():
        intent = archive.record_at(connection, (row.terminal, row.epoch), row.intent_seq)
        if intent is not None:
            key = (row.terminal, row.epoch, row.intent_seq)
            record_key = (row.terminal, row.epoch, row.seq)
            claimant = _claimant(key, intent)
            claims[row.card].append(Claim(claimant, intent, None, row, record_key))
    cases = []
    for card, found in sorted(claims.items()):
        row = connection.execute(_CARD, {"c": card}).one()
        chain = list(connection.execute(_CHAIN, {"c": card}).all())
        cases.append(Case(row, chain, found))
    return cases


def _claimant(key: Key, intent: Record) -> Claimant:
    names = ("type", "tid", "date", "time")
    parts = [intent.get(name) for name in names]
    shown = None if None in parts else Shown(intent.fen, *parts)
    assert intent.ctr is not None, key
    return Claimant(key, intent.ctr, intent.fen, intent.get("purse_before"), shown)


def _settle_reversals(connection: Connection, ids: AccountIds, now_us: int) -> None:
    """A refund follows its sale: proved, to the wallet; disproved, back to the merchant."""
    for row in connection.execute(_REVERSALS).all():
        proved = row.result == TacResult.OK or (
            row.sale_state == suspense.CLEARED and row.by is None
        )
        if proved:
            suspense.clear(connection, row, proved=True, now_us=now_us)
        elif row.sale_state == suspense.RETURNED:
            suspense.clear(connection, row, proved=False, now_us=now_us)
