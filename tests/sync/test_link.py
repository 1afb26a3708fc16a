"""The centre's MQTT adapter where no broker is needed."""

from typing import cast

import paho.mqtt.client as mqtt

from sync.link import Broker, CentralLink, TlsFiles


class Unreachable:
    """A paho client whose broker is gone."""

    def __init__(self) -> None:
        self.tries = 0

    def reconnect(self) -> None:
        """Refused."""
        self.tries += 1
        raise ConnectionRefusedError


def test_overflow_while_the_broker_is_gone() -> None:
    """A full queue drops the session; that the broker is gone as well does not end the centre."""
    link = CentralLink(Broker("127.0.0.1", 1, "central-w1", TlsFiles("", "", "")), ())
    client = Unreachable()
    link._client = cast(mqtt.Client, client)
    link._overflow.set()
    assert link.take(20, 1) == []
    assert client.tries == 1
    assert link.take(20, 1) == []
    assert client.tries == 1
