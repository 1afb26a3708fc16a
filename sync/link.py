"""The only module that speaks MQTT: one paho adapter for a terminal, one for the centre.

Callbacks only put events on a bounded queue and never raise (an exception there kills paho's loop
thread); one thread of the owner takes them. Terminals use clean sessions and dial by command of the
sync core; the centre has a persistent session and acknowledges by hand, after its commit.
"""

from __future__ import annotations

import contextlib
import queue
import ssl
import threading
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

QUEUE_MAX = 4_096
CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 40  # half-open links are noticed within 60 s
INFLIGHT_MAX = 20


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one MQTT identity."""

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens and who we are there."""

    host: str
    port: int
    client_id: str
    tls: TlsFiles


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is up."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is down; `refused` when the broker or TLS said no."""

    refused: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message; `mid` and `qos` are what `ack` wants."""

    topic: str
    payload: bytes
    mid: int = 0
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class PubAcked:
    """The broker has the message published under this number. It means nothing about money."""

    mid: int


LinkEvent = Connected | Lost | Inbound | PubAcked


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


class _Client:
    """What both ends share: a paho client whose callbacks feed one bounded queue."""

    def __init__(self, broker: Broker, *, clean: bool) -> None:
        self._broker = broker
        self._clean = clean
        self._filters: tuple[str, ...] = ()
        self._events: queue.Queue[LinkEvent] = queue.Queue(QUEUE_MAX)
        self._overflow = threading.Event()
        self._client: mqtt.Client | None = None

    def _make(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.client_id,
            clean_session=self._clean,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=not self._clean,
            manual_ack=not self._clean,
        )
        client.tls_set_context(_tls_context(self._broker.tls))
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(INFLIGHT_MAX)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _put(self, event: LinkEvent) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:  # overflow rule: the owner drops the session and starts afresh
            self._overflow.set()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _props: Any
    ) -> None:
        if reason.is_failure:
            self._put(Lost(True, str(reason)))
            return
        for topic in self._filters:
            client.subscribe(topic, qos=1)
        self._put(Connected())

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _props: Any
    ) -> None:
        self._put(Lost(False, str(reason)))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._put(
            Inbound(message.topic, bytes(message.payload), message.mid, message.qos, message.retain)
        )

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, _reason: Any, _props: Any
    ) -> None:
        self._put(PubAcked(mid))

    def close(self) -> None:
        """End the session cleanly."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None


class TerminalLink(_Client):
    """A terminal's session: one fresh client per dial."""

    def __init__(self, broker: Broker, filters: tuple[str, ...], will_topic: str) -> None:
        super().__init__(broker, clean=True)
        self._filters = filters
        self._will_topic = will_topic

    def dial(self) -> None:
        """Connect once; the outcome arrives as Connected or Lost."""
        self.close()
        self._overflow.clear()
        client = self._make()
        client.will_set(self._will_topic, b"offline", qos=1, retain=True)
        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            self._put(Lost(isinstance(exc, ssl.SSLError), str(exc)))
            return
        client.loop_start()
        self._client = client

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Publish at QoS 1; the number that PubAcked will carry, or None when it cannot go now."""
        if self._client is None:
            return None
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        return sent.mid if sent.rc == mqtt.MQTT_ERR_SUCCESS else None

    def take(self, timeout_ms: int) -> LinkEvent | None:
        """The next event, or None after the time."""
        if self._overflow.is_set():
            self.close()
            self._overflow.clear()
            return Lost(False, "QUEUE_FULL")
        try:
            return (
                self._events.get(timeout=timeout_ms / 1000)
                if timeout_ms
                else (self._events.get_nowait())
            )
        except queue.Empty:
            return None


class CentralLink(_Client):
    """The centre's session: persistent, manual acknowledgement, reconnects by itself."""

    def __init__(self, broker: Broker, filters: tuple[str, ...]) -> None:
        super().__init__(broker, clean=False)
        self._filters = filters

    def start(self) -> None:
        """Begin to connect, and keep trying, until `close`."""
        client = self._make()
        client.reconnect_delay_set(1, 8)
        client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        client.loop_start()
        self._client = client

    def take(self, count_max: int, timeout_ms: int) -> list[LinkEvent]:
        """Up to `count_max` events; waits at most `timeout_ms` for the first."""
        found: list[LinkEvent] = []
        try:
            found.append(self._events.get(timeout=timeout_ms / 1000))
            while len(found) < count_max:
                found.append(self._events.get_nowait())
        except queue.Empty:
            pass
        if self._overflow.is_set():  # what was dropped is unacknowledged: the broker repeats it
            self._overflow.clear()
            if self._client is not None:
                with contextlib.suppress(OSError):  # broker gone too: paho's thread goes on trying
                    self._client.reconnect()
        return found

    def ack(self, messages: list[Inbound]) -> None:
        """MQTT acknowledgement, in arrival order, after the transaction that took them."""
        if self._client is None:
            return
        for message in messages:
            self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        """Publish; False when the session is down (the caller's outbox keeps it)."""
        if self._client is None or not self._client.is_connected():
            return False
        return self._client.publish(topic, payload, qos, retain).rc == mqtt.MQTT_ERR_SUCCESS
