"""A plain MQTT client for contract tests: does what it is told, also what it may not."""

from __future__ import annotations

import queue
import ssl
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from sim.pki import Identity

WAIT_S = 8.0


class Peer:
    """One MQTT 3.1.1 session over mTLS; messages and outcomes on queues."""

    def __init__(
        self,
        port: int,
        ca: Path,
        identity: Identity | None,
        client_id: str,
        *,
        clean: bool = True,
        manual_ack: bool = False,
        will: tuple[str, bytes, bool] | None = None,
        username: str | None = None,
    ) -> None:
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._outcome: queue.Queue[str] = queue.Queue()
        self.lost: queue.Queue[str] = queue.Queue()
        self.pubacks: queue.Queue[int] = queue.Queue()
        self.subacks: queue.Queue[list[Any]] = queue.Queue()
        self._port = port
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        context = ssl.create_default_context(cafile=str(ca))
        context.check_hostname = True
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        self.client.tls_set_context(context)
        if username is not None:
            self.client.username_pw_set(username, "x")
        if will is not None:
            self.client.will_set(will[0], will[1], qos=1, retain=will[2])
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *a: self.lost.put(str(a[3]))
        self.client.on_message = lambda _c, _d, message: self.messages.put(message)
        self.client.on_publish = lambda _c, _d, mid, *_: self.pubacks.put(mid)
        self.client.on_subscribe = lambda _c, _d, _m, codes, _p: self.subacks.put(codes)

    def _on_connect(self, _c: Any, _d: Any, _f: Any, reason: Any, _p: Any) -> None:
        self._outcome.put("refused" if reason.is_failure else "ok")

    def connect(self) -> bool:
        """Whether the broker let us in."""
        try:
            self.client.connect("localhost", self._port, 30)
        except (OSError, ssl.SSLError):
            return False
        self.client.loop_start()
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                return self._outcome.get(timeout=0.05) == "ok"
            except queue.Empty:
                if not self.lost.empty():
                    return False
        return False

    def subscribe(self, topic: str) -> list[Any]:
        """Subscribe at QoS 1; the codes of the SUBACK."""
        self.client.subscribe(topic, qos=1)
        return self.subacks.get(timeout=WAIT_S)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish and, at QoS 1, wait for the PUBACK or the loss of the session."""
        self.client.publish(topic, payload, qos=qos, retain=retain)
        until = time.monotonic() + WAIT_S
        while qos and time.monotonic() < until and self.lost.empty():
            try:
                self.pubacks.get(timeout=0.05)
                return
            except queue.Empty:
                continue

    def received(self, count: int, limit_s: float = WAIT_S) -> list[tuple[str, bytes]]:
        """Up to `count` messages within the time."""
        found: list[tuple[str, bytes]] = []
        until = time.monotonic() + limit_s
        while len(found) < count and time.monotonic() < until:
            try:
                message = self.messages.get(timeout=0.05)
            except queue.Empty:
                continue
            found.append((message.topic, bytes(message.payload)))
        return found

    def drop(self) -> None:
        """Lose the socket without DISCONNECT: the broker publishes the Will."""
        sock = self.client.socket()
        if sock is not None:
            sock.close()
        self.client.loop_stop()

    def close(self) -> None:
        """DISCONNECT."""
        self.client.disconnect()
        self.client.loop_stop()
