"""Versioned lists: content, version, signed head, parts and delta in one transaction (sync.md §7).

Versions go strictly +1, except over a version that terminals already hold (a centre restored from
backup continues above them). The last 50 deltas of `cards` stay retained at the broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from protocols.wire import cbor, topics
from protocols.wire.cose import Signer, sign1
from protocols.wire.lists import asn_number, decode_set, delta_of, encode_set, head_of, parts_of
from sync.central import schema
from sync.central.mail import Outbound

CARDS = "cards"
DELTAS_KEPT = 50
AHEAD_MAX = 1_000  # how far a terminal's version may stand above ours and still be believed

_v = schema.list_version
_NEWEST = select(_v.c.name, func.max(_v.c.version)).group_by(_v.c.name)
_CURRENT = (
    select(_v.c.version, _v.c.content, _v.c.n_item)
    .where(_v.c.name == bindparam("n"))
    .order_by(_v.c.version.desc())
    .limit(1)
)
_BLOCKED = select(schema.card.c.asn).where(
    or_(schema.card.c.state != 0, schema.card.c.suspect != 0)
)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who signs and where it is published."""

    site: str
    signer: Signer

    def publish(
        self,
        connection: Connection,
        name: str,
        content: bytes,
        count: int,
        now_us: int,
        above: int = 0,
    ) -> int:
        """Store a new version and queue its delta and head; the version.

        `above` is a version that terminals are known to hold already.
        """
        topics.check_list(name)
        found = connection.execute(_CURRENT, {"n": name}).one_or_none()
        base = 0 if found is None else int(found.version)
        version = max(base, above) + 1
        head = sign1(head_of(name, version, content, count).encode(), self.signer)
        delta = None
        if name == CARDS and found is not None and version == base + 1:
            before, after = decode_set(found.content), decode_set(content)
            delta = sign1(delta_of(name, base, before, after).encode(), self.signer)
        self._store(connection, name, version, content, count, head, delta, now_us)
        self._queue(connection, name, version, head, delta)
        return version

    def publish_cards(self, connection: Connection, now_us: int, above: int = 0) -> int:
        """Publish the blocked cards as they stand in the database."""
        numbers = [asn_number(asn) for asn in connection.scalars(_BLOCKED)]
        return self.publish(connection, CARDS, encode_set(numbers), len(numbers), now_us, above)

    def overtake(self, connection: Connection, held: Mapping[str, int], now_us: int) -> None:
        """Publish again above versions that a terminal holds and we do not know."""
        ours = versions(connection)
        for name, version in held.items():
            if name in ours and ours[name] < version <= ours[name] + AHEAD_MAX:
                row = connection.execute(_CURRENT, {"n": name}).one()
                self.publish(connection, name, row.content, row.n_item, now_us, above=version)

    def heads(self, connection: Connection) -> list[Outbound]:
        """Everything retained: the last deltas and the head of every list."""
        found: list[Outbound] = []
        for name, version in versions(connection).items():
            rows = connection.execute(
                select(_v.c.version, _v.c.head, _v.c.delta)
                .where(_v.c.name == name, _v.c.version > version - DELTAS_KEPT)
                .order_by(_v.c.version)
            ).all()
            for row in rows:
                if row.delta is not None:
                    topic = topics.list_delta(self.site, name, row.version)
                    found.append(Outbound(topic, row.delta, retain=True))
            found.append(Outbound(topics.list_head(self.site, name), rows[-1].head, retain=True))
        return found

    def parts(self, connection: Connection, term: str, name: str, version: int) -> list[Outbound]:
        """The snapshot's parts for one terminal; for a version not in force, the head."""
        newest = versions(connection).get(name)
        if newest is None:
            return []
        if newest != version:
            heads = self.heads(connection)
            return [out for out in heads if out.topic == topics.list_head(self.site, name)]
        part = schema.list_part
        rows = select(part.c.cose).where(part.c.name == name, part.c.version == version)
        topic = topics.list_part(self.site, term, name)
        ordered = connection.scalars(rows.order_by(part.c.idx))
        return [Outbound(topic, cose) for cose in ordered]

    def _store(
        self,
        connection: Connection,
        name: str,
        version: int,
        content: bytes,
        count: int,
        head: bytes,
        delta: bytes | None,
        now_us: int,
    ) -> None:
        promised = head_of(name, version, content, count)
        connection.execute(update(_v).where(_v.c.name == name).values(content=None))
        row = {"name": name, "version": version, "sha256": promised.sha256, "n_item": count}
        signed = {"size": len(content), "content": content, "head": head, "delta": delta}
        connection.execute(insert(_v), row | signed | {"at_us": now_us})
        part = schema.list_part
        connection.execute(delete(part).where(part.c.name == name))
        rows = [
            {
                "name": name,
                "version": version,
                "idx": piece.index,
                "cose": sign1(piece.encode(), self.signer),
            }
            for piece in parts_of(name, version, content)
        ]
        connection.execute(insert(part), rows)

    def _queue(
        self, connection: Connection, name: str, version: int, head: bytes, delta: bytes | None
    ) -> None:
        out: list[Outbound] = []
        if delta is not None:
            out.append(Outbound(topics.list_delta(self.site, name, version), delta, retain=True))
            if version > DELTAS_KEPT:  # an empty retained payload clears the oldest at the broker
                old = topics.list_delta(self.site, name, version - DELTAS_KEPT)
                out.append(Outbound(old, b"", retain=True))
        out.append(Outbound(topics.list_head(self.site, name), head, retain=True))
        queue(connection, out)


def queue(connection: Connection, out: Sequence[Outbound]) -> None:
    """Put messages into the outbox of the caller's transaction."""
    rows = [{"topic": one.topic, "payload": one.payload, "retain": int(one.retain)} for one in out]
    if rows:
        connection.execute(insert(schema.outbox), rows)


def versions(connection: Connection) -> dict[str, int]:
    """The newest version of every list."""
    return {str(name): int(version) for name, version in connection.execute(_NEWEST)}


def encode_operators(rows: Sequence[tuple[bytes, str, str | None, Sequence[str]]]) -> bytes:
    """The `operators` list: [[asn, name, argon2 PIN or null, rights]…], sorted by card."""
    return cbor.dumps([[asn, name, pin, list(rights)] for asn, name, pin, rights in sorted(rows)])
