"""What the centre is given and what it gives back; the MQTT adapter's own types fit these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Inbound(Protocol):
    """A message as it arrived."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def payload(self) -> bytes:
        """Its bytes."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A plain Inbound, for callers without MQTT."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Outbound:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
