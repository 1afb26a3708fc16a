"""Enrolment and status, without the web around them (sync.md §10).

A try is counted before it is judged, so that parallel guesses cannot share one. A device that
enrols in the place of another gets the next key generation and the next epoch; the older lane is
fenced where it stands, and a tail from the old disk needs two persons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from firmware.base.clock import Clock
from protocols.errors import FrameError
from protocols.wire import cbor, cose
from protocols.wire.cose import Signer, sign1
from sync.central import ca, claims, lanes, schema
from sync.central.acts import Acts
from sync.central.engine import in_transaction, reading
from sync.central.ingest_core import KeyState, LaneState
from sync.central.registry import TerminalState
from sync.errors import (
    EnrolCodeError,
    EnrolExpiredError,
    EnrolFormError,
    EnrolTriesError,
)

_terminal, _key, _lane = schema.terminal, schema.terminal_key, schema.lane
_NEWEST = (  # without the row lock of ingest: a question must not wait for a posting
    select(_lane.c.epoch, _lane.c.state)
    .where(_lane.c.terminal == bindparam("t"))
    .order_by(_lane.c.epoch.desc())
    .limit(1)
)
_COUNT_TRY = (
    update(_terminal)
    .where(_terminal.c.claim_ref == bindparam("ref"))
    .values(claim_tries=_terminal.c.claim_tries + 1)
    .returning(
        _terminal.c.id,
        _terminal.c.claim_hash,
        _terminal.c.claim_until_us,
        _terminal.c.claim_tries,
    )
)
_BY_KID = (
    select(_key.c.spki, _key.c.state.label("key_state"), _terminal)
    .join(_terminal, _terminal.c.id == _key.c.terminal)
    .where(_key.c.kid == bindparam("kid"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where terminals find broker and centre."""

    broker_host: str
    broker_port: int


class Enroller:
    """Admits terminals with a claim code; tells a terminal how it stands."""

    def __init__(
        self,
        acts: Acts,
        authority: ca.Authority,
        place: Place,
        clock: Clock,
        enrolled: Callable[[], None],
    ) -> None:
        self._acts = acts
        self._authority = authority
        self._place = place
        self._clock = clock
        self._enrolled = enrolled  # the broker's user file must follow

    def admit(self, code: str, csr_der: bytes) -> dict[str, object]:
        """The answer of /enrol. Raises ENROL_CSR, ENROL_CODE, ENROL_EXPIRED, ENROL_TRIES."""
        key = ca.public_key_of(csr_der)
        terminal = self._check_claim(claims.normal(code))
        now_us = self._clock.wall_us()

        def once(connection: Connection) -> dict[str, object]:
            return self._issue(connection, terminal, key, now_us)

        answer = in_transaction(self._acts.engine, once, lambda _: None)
        self._acts.registry.forget(str(answer["terminal"]))
        self._enrolled()
        return answer

    def status(self, raw: bytes) -> bytes:
        """Signed [1, term, t1_us] in, signed {term, t1, state, epoch, reason} out. ENROL_FORM."""
        try:
            signed = cose.open1(raw, 4_096)
            version, term, t1_us = cbor.loads(signed.payload)
        except (FrameError, ValueError, TypeError) as fault:
            raise EnrolFormError(reason="form") from fault
        with reading(self._acts.engine) as connection:
            row = connection.execute(_BY_KID, {"kid": signed.kid}).one_or_none()
            if row is None or (version, row.code) != (1, term):
                raise EnrolFormError(reason="unknown key")
            lane = connection.execute(_NEWEST, {"t": row.id}).one_or_none()
        try:
            cose.verify(signed, cose.load_spki(row.spki))
        except FrameError as fault:
            raise EnrolFormError(reason="signature") from fault
        state, reason = _state_of(row, None if lane is None else LaneState(lane.state))
        epoch = 0 if lane is None else lane.epoch
        told = {"term": term, "t1": t1_us, "state": state, "epoch": epoch, "reason": reason}
        return sign1(cbor.dumps(told), self._signer)

    @property
    def _signer(self) -> Signer:
        return self._acts.desk.signer

    def _check_claim(self, code: str) -> int:
        """The terminal a code belongs to; every try on an existing row counts."""
        if len(code) != claims.LENGTH or not claims.ALPHABET_SET.issuperset(code):
            raise EnrolCodeError(reason="form")
        ref = code[: claims.REF_LENGTH]

        def count(connection: Connection) -> Row[tuple[object, ...]] | None:
            return connection.execute(_COUNT_TRY, {"ref": ref}).one_or_none()

        row = in_transaction(self._acts.engine, count, lambda _: None)
        if row is None:
            raise EnrolCodeError(reason="unknown")
        if row.claim_tries > claims.TRIES_MAX:
            raise EnrolTriesError(tries=claims.TRIES_MAX)
        if row.claim_until_us < self._clock.wall_us():
            raise EnrolExpiredError(until_us=row.claim_until_us)
        if not claims.fits(row.claim_hash, code, self._acts.settings.claim_cost):
            raise EnrolCodeError(reason="wrong", tries=row.claim_tries)
        return int(row.id)

    def _issue(
        self, connection: Connection, terminal: int, key: ca.Public, now_us: int
    ) -> dict[str, object]:
        row = connection.execute(
            select(_terminal).where(_terminal.c.id == terminal).with_for_update()
        ).one()
        if row.claim_hash is None:  # used in the same moment by somebody else
            raise EnrolCodeError(reason="used")
        generation = row.generation + 1
        pem = self._authority.terminal(row.code, generation, key, now_us)
        register_key(connection, terminal, generation, cose.spki_of(key), pem)
        grant = lanes.grant_epoch(connection, terminal, row.code, now_us, LaneState.FENCED)
        desk = self._acts.desk
        return {
            "site": row.site,
            "terminal": row.code,
            "partition": row.part,
            "cert_pem": pem.decode("ascii"),
            "ca_pem": self._authority.root_pem.decode("ascii"),
            "broker_host": self._place.broker_host,
            "broker_port": self._place.broker_port,
            "centre_keys": list(desk.centre_keys),
            "campus": desk.campus,
            "grant": sign1(grant.encode(), self._signer),
        }


def register_key(
    connection: Connection, terminal: int, generation: int, spki: bytes, cert_pem: bytes
) -> None:
    """The device key in force from now on; older ones are revoked and the claim is spent."""
    connection.execute(
        update(_key).where(_key.c.terminal == terminal).values(state=int(KeyState.REVOKED))
    )
    row = {"kid": cose.kid_of(spki), "terminal": terminal, "spki": spki}
    held = connection.execute(select(_key.c.kid).where(_key.c.kid == row["kid"])).first()
    if held is not None:
        raise EnrolCodeError(reason="key in use")
    facts = {"generation": generation, "state": int(KeyState.ACTIVE)}
    life = {"cert_pem": cert_pem.decode("ascii"), "until_us": ca.until_us(cert_pem)}
    connection.execute(insert(_key), row | facts | life)
    connection.execute(
        update(_terminal)
        .where(_terminal.c.id == terminal)
        .values(
            state=int(TerminalState.ENROLLED),
            generation=generation,
            claim_hash=None,
            claim_ref=None,
        )
    )


def _state_of(row: Row[tuple[object, ...]], lane: LaneState | None) -> tuple[str, str | None]:
    """(state, reason code) of a terminal for its /status."""
    if row.state == TerminalState.REVOKED:
        return "revoked", "SYNC_FENCED"
    if row.key_state != KeyState.ACTIVE:
        return "replaced", "SYNC_BAD_SIG"
    if lane is not LaneState.OPEN:
        return "fenced", "JOURNAL_FORK"
    return "enrolled", None
