"""What people do at the centre: every act with an idem key, one transaction, one `operation` row.

`Acts` is the half of the facade that offices, the command line and the demo call; `centre.Centre`
adds the half that terminals talk to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select, update

from firmware.base.clock import Clock
from firmware.base.rng import Rng
from protocols.wire import topics
from protocols.wire.cose import Signer, sign1
from protocols.wire.messages import Cmd, Down, Halt
from sync.central import claims, lanes, lists, office, schema, suspense
from sync.central.accounts import AccountIds
from sync.central.engine import in_transaction, no_pause
from sync.central.ingest import next_dseq
from sync.central.ingest_core import LaneState
from sync.central.lists import Publisher, queue
from sync.central.mail import Outbound
from sync.central.operations import Operation, operate, two_persons
from sync.central.registry import Registry, TerminalState
from sync.errors import OfficeStateError, TwoPersonsError


@dataclass(frozen=True, slots=True)
class Desk:
    """Who this centre is: campus and site, the key that signs now, the keys terminals pin."""

    campus: str
    site: str
    signer: Signer
    centre_keys: tuple[bytes, ...]  # SPKI, current first


@dataclass(frozen=True, slots=True)
class Settings:
    """Figures an operator may change; the defaults are the documents'."""

    credit: int = 4
    flush_ms: int = 2_000
    spread_s: int = 30
    two_person_fen: int = 10_000
    bad_tac_day_max: int = 3
    doubt_days: int = 30
    poll_ms: int = 1_000  # how often `tick` looks for what other processes queued
    claim_cost: claims.Cost = field(default_factory=claims.Cost)


class Acts:
    """Office acts; also holds what both halves of the facade share."""

    def __init__(
        self,
        engine: Engine,
        desk: Desk,
        clock: Clock,
        rng: Rng,
        settings: Settings | None = None,
        pause: Callable[[int], None] = no_pause,
    ) -> None:
        self.engine = engine
        self.desk = desk
        self.settings = settings or Settings()
        self.registry = Registry(engine)
        self._clock = clock
        self._rng = rng
        self._pause = pause
        self._ids = AccountIds()
        self._publisher = Publisher(desk.site, desk.signer)
        self._fresh = True  # the outbox may hold something

    # --- terminals ----------------------------------------------------------------------------

    def create_terminal(
        self,
        idem: bytes,
        actor: str,
        code: str,
        *,
        place: str,
        merchant: str,
        role: str = "canteen",
    ) -> str:
        """The one-time claim code of a new terminal; asked again, a new code voids the old.

        Raises OFFICE_EXISTS, OFFICE_STATE (enrolled meanwhile), WIRE_TOPIC, IDEM_CONFLICT.
        """
        request = ["create_terminal", code, place, merchant, role]

        def act(operation: Operation) -> int:
            return office.create_terminal(
                operation.connection,
                self.desk.site,
                code,
                place,
                merchant,
                role,
                operation.now_us,
            )

        return self._claim(idem, actor, request, act)

    def replace_terminal(self, idem: bytes, actor: str, code: str) -> str:
        """A claim code for a new device in the place of an enrolled one (sync.md §10 step 5).

        The old device keeps its lane until the new one enrols. Raises OFFICE_UNKNOWN.
        """

        def act(operation: Operation) -> int:
            terminal = office.terminal_id(operation.connection, code)
            row = schema.terminal
            operation.connection.execute(
                update(row).where(row.c.id == terminal).values(state=int(TerminalState.NEW))
            )
            return terminal

        claim = self._claim(idem, actor, ["replace_terminal", code], act)
        self.registry.forget(code)
        return claim

    def revoke_terminal(self, idem: bytes, actor: str, code: str, reason: str) -> None:
        """Stolen or gone for good: keys, lanes and broker user end here. OFFICE_UNKNOWN."""

        def act(operation: Operation) -> None:
            connection = operation.connection
            terminal = office.terminal_id(connection, code)
            lane = lanes.newest(connection, terminal)
            office.revoke_terminal(connection, terminal)
            if lane is not None:
                dseq = next_dseq(connection, terminal)
                self._send(connection, Halt(code, lane.epoch, dseq, "SYNC_FENCED"))

        self._operate(idem, actor, ["revoke_terminal", code, reason], act)
        self.registry.forget(code)

    def fork_resolve(self, idem: bytes, persons: tuple[str, str], code: str) -> int:
        """A new epoch for a fenced terminal, behind the last record that the centre holds.

        Both branches stay as evidence; debits that only the other branch saw show as gaps of their
        cards. Raises OFFICE_STATE (not fenced), OFFICE_TWO_PERSONS.
        """

        def act(operation: Operation) -> int:
            connection = operation.connection
            terminal = office.terminal_id(connection, code)
            lane = lanes.newest(connection, terminal)
            if lane is None or lane.state is not LaneState.FENCED:
                raise OfficeStateError(terminal=code, state="not fenced")
            grant = lanes.grant_epoch(
                connection, terminal, code, operation.now_us, LaneState.CLOSED
            )
            fork = schema.fork
            connection.execute(
                update(fork)
                .where(fork.c.terminal == terminal, fork.c.resolved_by.is_(None))
                .values(resolved_by=operation.seq)
            )
            self._send(connection, grant)
            return grant.epoch

        return int(self._operate(idem, two_persons(*persons), ["fork_resolve", code], act))

    def lane_reopen(self, idem: bytes, persons: tuple[str, str], code: str, epoch: int) -> None:
        """Admit the tail of a lane that was left fenced or closed. OFFICE_STATE, _TWO_PERSONS."""

        def act(operation: Operation) -> None:
            terminal = office.terminal_id(operation.connection, code)
            lanes.reopen(operation.connection, terminal, epoch, operation.now_us)
            office.admit_tail_keys(operation.connection, terminal)

        self._operate(idem, two_persons(*persons), ["lane_reopen", code, epoch], act)
        self.registry.forget(code)

    def close_lane(self, idem: bytes, persons: tuple[str, str], code: str, epoch: int) -> None:
        """Nothing more will come from this lane: watermarks stop waiting for it. OFFICE_STATE."""

        def act(operation: Operation) -> None:
            terminal = office.terminal_id(operation.connection, code)
            lanes.close(operation.connection, terminal, epoch, operation.now_us)

        self._operate(idem, two_persons(*persons), ["close_lane", code, epoch], act)

    def command(
        self, idem: bytes, actor: str, code: str, kind: int, body: Any, deadline_us: int
    ) -> None:
        """A signed command, sent now and after every hello until its CMD record arrives."""

        def act(operation: Operation) -> None:
            terminal = office.terminal_id(operation.connection, code)
            self._command(operation.connection, terminal, code, idem, kind, body, deadline_us)

        self._operate(idem, actor, ["command", code, kind, body, deadline_us], act)

    # --- cards --------------------------------------------------------------------------------

    def issue_card(
        self,
        idem: bytes,
        actor: str,
        asn: bytes,
        opening_fen: int,
        *,
        key_version: int = 1,
        first_ctr: int = 0,
        holder: int | None = None,
    ) -> tuple[int, int]:
        """(card, holder): a card for a bare holder, opening value from clearing:cash.

        Raises OFFICE_EXISTS, OFFICE_UNKNOWN (holder), IDEM_CONFLICT.
        """
        request = ["issue_card", asn, opening_fen, key_version, first_ctr, holder]

        def act(operation: Operation) -> list[int]:
            return office.issue_card(operation, asn, opening_fen, key_version, first_ctr, holder)

        found = self._operate(idem, actor, request, act)
        return int(found[0]), int(found[1])

    def report_loss(self, idem: bytes, actor: str, asn: bytes) -> int:
        """The card is LOST and a new `cards` version is on its way; that version."""

        def act(operation: Operation) -> int:
            office.report_loss(operation, asn)
            return self._publisher.publish_cards(operation.connection, operation.now_us)

        return int(self._operate(idem, actor, ["report_loss", asn], act))

    def lift_loss(self, idem: bytes, actor: str, asn: bytes) -> int:
        """The card is ACTIVE again; the new `cards` version. OFFICE_STATE."""

        def act(operation: Operation) -> int:
            office.lift_loss(operation, asn)
            return self._publisher.publish_cards(operation.connection, operation.now_us)

        return int(self._operate(idem, actor, ["lift_loss", asn], act))

    def clear_suspect(self, idem: bytes, actor: str, asn: bytes) -> int:
        """A suspect card is cleared after inquiry; the new `cards` version."""

        def act(operation: Operation) -> int:
            office.clear_suspect(operation, asn)
            return self._publisher.publish_cards(operation.connection, operation.now_us)

        return int(self._operate(idem, actor, ["clear_suspect", asn], act))

    # --- lists and money ----------------------------------------------------------------------

    def publish_list(
        self, idem: bytes, actor: str, name: str, content: bytes, count: int = 1
    ) -> int:
        """A new version of `operators`, `policy`, `tariff` …; `cards` comes from the books only."""
        assert name != lists.CARDS, "cards are published by acts on cards"

        def act(operation: Operation) -> int:
            connection, now_us = operation.connection, operation.now_us
            return self._publisher.publish(connection, name, content, count, now_us)

        return int(self._operate(idem, actor, ["publish_list", name, content, count], act))

    def publish_operators(
        self,
        idem: bytes,
        actor: str,
        operators: Sequence[tuple[bytes, str, str | None, Sequence[str]]],
    ) -> int:
        """The `operators` list from (asn, name, argon2 PIN or None, rights) rows; its version."""
        content = lists.encode_operators(operators)
        return self.publish_list(idem, actor, "operators", content, len(operators))

    def publish_cards(self, idem: bytes, actor: str) -> int:
        """The denylist as the books have it; its version. The first one is empty."""

        def act(operation: Operation) -> int:
            return self._publisher.publish_cards(operation.connection, operation.now_us)

        return int(self._operate(idem, actor, ["publish_cards"], act))

    def resolve_suspense(
        self, idem: bytes, persons: tuple[str, str | None], item: int, account: str
    ) -> int:
        """Clear an open item to an account; fen moved. A second person above two_person_fen.

        Raises OFFICE_UNKNOWN, OFFICE_STATE, OFFICE_TWO_PERSONS, INSUFFICIENT.
        """
        first, second = persons
        actor = first if second is None else two_persons(first, second)

        def act(operation: Operation) -> int:
            target = self._ids.get(operation.connection, account)
            fen = suspense.resolve(operation, item, target)
            if abs(fen) > self.settings.two_person_fen and second is None:
                raise TwoPersonsError(item=item, fen=fen)
            return fen

        return int(self._operate(idem, actor, ["resolve_suspense", item, account], act))

    # --- shared -------------------------------------------------------------------------------

    def _operate(
        self, idem: bytes, actor: str, request: Sequence[Any], act: Callable[[Operation], Any]
    ) -> Any:
        now_us = self._clock.wall_us()

        def once(connection: Connection) -> Any:
            return operate(connection, idem, actor, request, now_us, act)

        result = in_transaction(self.engine, once, self._pause)
        self._fresh = True
        return result

    def _claim(
        self, idem: bytes, actor: str, request: Sequence[Any], act: Callable[[Operation], int]
    ) -> str:
        now_us = self._clock.wall_us()

        def once(connection: Connection) -> str:
            terminal = int(operate(connection, idem, actor, request, now_us, act))
            row = schema.terminal
            state = connection.scalar(select(row.c.state).where(row.c.id == terminal))
            if state != TerminalState.NEW:
                raise OfficeStateError(terminal=terminal, state="enrolled")
            claim = claims.make(self._rng, self.settings.claim_cost, now_us)
            while connection.scalar(select(row.c.id).where(row.c.claim_ref == claim.ref)):
                claim = claims.make(self._rng, self.settings.claim_cost, now_us)
            office.give_claim(connection, terminal, claim)
            return claim.text

        return in_transaction(self.engine, once, self._pause)

    def _command(
        self,
        connection: Connection,
        terminal: int,
        code: str,
        key: bytes,
        kind: int,
        body: Any,
        deadline_us: int,
    ) -> None:
        cose = sign1(Cmd(code, key, kind, deadline_us, body).encode(), self.desk.signer)
        row = {"id": key, "terminal": terminal, "kind": kind, "deadline_us": deadline_us}
        connection.execute(schema.command.insert(), row | {"cose": cose, "state": 0})
        queue(connection, [Outbound(topics.down(self.desk.site, code, "cmd"), cose)])

    def _send(self, connection: Connection, message: Down) -> None:
        """Queue a signed answer for one terminal in the caller's transaction."""
        queue(connection, [self._signed(message)])

    def _signed(self, message: Down) -> Outbound:
        term = getattr(message, "term", None)
        assert isinstance(term, str), message
        topic = topics.down(self.desk.site, term, "ack")
        return Outbound(topic, sign1(message.encode(), self.desk.signer))
