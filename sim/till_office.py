"""The centre's pen for terminals without a centre: signed lists, acks, grants, halts, commands.

Also the numbers that such a terminal shares with its rig: names, keys of a development campus, time.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from protocols.wire import cbor
from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.cose import KeyRing, P256Signer, sign1
from protocols.wire.lists import encode_set, head_of, parts_of
from protocols.wire.messages import Ack, Cmd, Grant, Halt, Message
from sim.card_memory import Masters
from sim.seeded import SeededRng

TERM = "T0001"
START_US = 1_772_416_800_000_000  # 2026-03-02 10:00 on campus
OPERATOR = bytes.fromhex("00009900000000000001")
MASTERS = Masters(*(bytes([n]) * 16 for n in (0x11, 0x22, 0x33, 0x44)))
TID = bytes.fromhex("000000000101")
POLICY: dict[str, Any] = {
    "per_sale_fen": 20_000,
    "per_day_fen": 50_000,
    "per_meal_count": None,
    "offline_fen": 1_000_000,
    "offline_card_day_fen": 30_000,
    "offline_h": 72,
    "pin_above_fen": 10_000,
    "list_age_h": 48,
}


class Office:
    """The centre's pen: signs acks, grants, halts and lists into an inbox."""

    def __init__(self, seed: int = 7) -> None:
        key = ec.derive_private_key(
            int.from_bytes(SeededRng(seed).token(30), "big"), ec.SECP256R1()
        )
        self.signer = P256Signer(key)
        self.ring = KeyRing([self.signer.spki])
        self.messages: dict[str, bytes] = {}
        self.list_parts: dict[str, list[bytes]] = {}
        self.list_deltas: dict[str, list[bytes]] = {}
        self.orders: list[tuple[bytes, bytes]] = []
        self.writes = 0

    # Inbox, as the till reads it

    def kept(self, name: str) -> bytes | None:
        """The signed message under a name."""
        return self.messages.get(name)

    def parts(self, name: str) -> list[bytes]:
        """The signed parts of a list."""
        return self.list_parts.get(name, [])

    def deltas(self, name: str) -> list[bytes]:
        """The signed deltas of a list."""
        return self.list_deltas.get(name, [])

    def commands(self) -> list[tuple[bytes, bytes]]:
        """Commands as (id, signed message)."""
        return list(self.orders)

    # what the centre does

    def say(self, name: str, message: Message, signer: P256Signer | None = None) -> None:
        """Put a message where the daemon would put it."""
        self.messages[name] = sign1(message.encode(), signer or self.signer)
        self.writes += 1

    def publish(self, name: str, version: int, content: bytes, count: int = 0) -> None:
        """A whole list version."""
        self.say(f"list_head:{name}", head_of(name, version, content, count))
        self.list_parts[name] = [
            sign1(part.encode(), self.signer) for part in parts_of(name, version, content)
        ]

    def block(self, version: int, *asns: bytes) -> None:
        """The denylist at a version."""
        numbers = {int.from_bytes(asn, "big") for asn in asns}
        self.publish("cards", version, encode_set(numbers), len(numbers))

    def publish_all(self, policy: dict[str, Any] | None = None) -> None:
        """Version 1 of every list: nobody blocked, one operator, the rig's policy, two prices."""
        self.block(1)
        rights = ["shift", "void", "override"]
        self.publish("operators", 1, cbor.dumps([[OPERATOR, "王师傅", None, rights]]), 1)
        self.publish("policy", 1, cbor.dumps(POLICY if policy is None else policy), 1)
        prices = {"1": ["米饭", 100], "2": ["套餐", 1_250]}
        self.publish("tariff", 1, cbor.dumps({"prices": prices}), 2)

    def ack(self, position: Position, at_us: int) -> None:
        """A signed acknowledgement."""
        said = Ack(TERM, position.epoch, position.seq, position.hash, at_us, 4)
        self.say("ack", said)

    def order(
        self, name: bytes, kind: int, body: Any, deadline_us: int, signer: P256Signer | None = None
    ) -> None:
        """A signed command."""
        message = Cmd(TERM, name, kind, deadline_us, body)
        self.orders.append((name, sign1(message.encode(), signer or self.signer)))
        self.writes += 1

    def halt(self, epoch: int, code: str = "SYNC_FENCED") -> None:
        """A signed halt."""
        self.say("halt", Halt(TERM, epoch, 9, code))


class RigInbox:
    """Inbox over an Office; `changed` as a data_version would say it."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._seen = -1

    def changed(self) -> bool:
        """Whether the office wrote since."""
        seen, self._seen = self._seen, self._office.writes
        return seen != self._seen

    def kept(self, name: str) -> bytes | None:
        """The signed message under a name."""
        return self._office.kept(name)

    def parts(self, name: str) -> list[bytes]:
        """The signed parts of a list."""
        return self._office.parts(name)

    def deltas(self, name: str) -> list[bytes]:
        """The signed deltas of a list."""
        return self._office.deltas(name)

    def commands(self) -> list[tuple[bytes, bytes]]:
        """Commands as (id, signed message)."""
        return self._office.commands()


def grant(epoch: int = 1, prev: Position = NOWHERE, hw0_us: int = START_US - 1_000_000) -> Grant:
    """A grant as the centre would make it."""
    return Grant(TERM, epoch, epoch, prev, genesis(TERM, epoch, prev), hw0_us)


def asn(number: int) -> bytes:
    """A card number of ten BCD bytes."""
    return bytes.fromhex(f"{number:020d}")
