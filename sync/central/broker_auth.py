"""Who may do what at the broker, as text for nats-server and for Mosquitto (sync.md §8).

NATS maps a certificate's subject to a user and pins site and partition; Mosquitto can only pin the
terminal's name, the rest is row 2 of sync.md §6. Nothing here is trusted with money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from sync.central import schema
from sync.central.ingest_core import KeyState
from sync.central.registry import TerminalState


@dataclass(frozen=True, slots=True)
class User:
    """A terminal as the broker knows it: one line for each key generation in force."""

    code: str
    part: int
    generation: int


_terminal, _key = schema.terminal, schema.terminal_key
_USERS = (
    select(_terminal.c.code, _terminal.c.part, _key.c.generation)
    .join(_key, _key.c.terminal == _terminal.c.id)
    .where(
        _key.c.state == int(KeyState.ACTIVE),
        _terminal.c.state.in_((int(TerminalState.ENROLLED), int(TerminalState.NEW))),
    )
    .order_by(_terminal.c.code, _key.c.generation)
)


def users(connection: Connection) -> list[User]:
    """The terminals that may connect; a revoked one is not among them."""
    return [User(*row) for row in connection.execute(_USERS)]


def nats_users(campus: str, site: str, services: Sequence[str], found: Sequence[User]) -> str:
    """`broker-users.conf`: the authorization block that nats-server includes."""
    lines = ["authorization { users: ["]
    up = f"cc.v1.{site}.up"
    for name in services:
        lines += _nats(
            f"CN={name},O={campus}", [f"cc.v1.{site}.dn.>"], [up, f"{up}.>", "$MQTT.sub.>"]
        )
    for user in found:
        own = f"cc.v1.{site}.dn.{user.code}"
        everyone = f"cc.v1.{site}.dn.all"
        lines += _nats(
            f"CN={user.code},OU=g{user.generation},O={campus}",
            [f"{up}.p{user.part:02d}.{user.code}.>"],
            [own, f"{own}.>", everyone, f"{everyone}.>", "$MQTT.sub.>"],
        )
    return "\n".join([*lines, "] }", ""])


def _nats(subject: str, publish: Sequence[str], subscribe: Sequence[str]) -> list[str]:
    def listed(subjects: Sequence[str]) -> str:
        return ", ".join(f'"{one}"' for one in subjects)

    return [
        f'  {{ user: "{subject}", allowed_connection_types: ["MQTT"], permissions: {{',
        f"      publish:   {{ allow: [{listed(publish)}] }}",
        f"      subscribe: {{ allow: [{listed(subscribe)}] }} }} }}",
    ]


def mosquitto_acl(site: str, services: Sequence[str]) -> str:
    """The `acl` file of Mosquitto: patterns for terminals, one block per service."""
    lines = [
        "pattern write cc/v1/+/up/+/%u/#",
        "pattern read  cc/v1/+/dn/%u/#",
        "pattern read  cc/v1/+/dn/all/#",
    ]
    for name in services:
        lines += [
            f"user {name}",
            f"topic read  cc/v1/{site}/up/#",
            f"topic write cc/v1/{site}/dn/#",
        ]
    return "\n".join([*lines, ""])
