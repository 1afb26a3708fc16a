"""POST /status: the centre's signed word on this terminal, asked when the broker keeps refusing it.

TLS 1.3 gives a refused client no reason, so the reason comes over the other port (sync.md §5).
"""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from pathlib import Path

from firmware.base.clock import Clock
from protocols.errors import FrameError
from protocols.wire import cbor
from protocols.wire.cose import KeyRing, Signer, sign1

TIMEOUT_S = 10
ANSWER_BYTES_MAX = 4_096


class StatusCall:
    """Implements `sync.device.daemon.StatusDesk` over HTTPS."""

    def __init__(
        self, url: str, ca: Path, signer: Signer, centre: KeyRing, term: str, clock: Clock
    ) -> None:
        self._url = url
        self._ca = ca
        self._signer = signer
        self._centre = centre
        self._term = term
        self._clock = clock

    def ask(self) -> str | None:
        """The reason code the centre gives, `ENROLLED` when all is well, None when unreachable."""
        t1_us = self._clock.wall_us()
        body = sign1(cbor.dumps([1, self._term, t1_us]), self._signer)
        if not self._url.startswith("https://"):
            return None
        ask = urllib.request.Request(f"{self._url}/status", body)  # noqa: S310  # https, checked above
        try:
            context = ssl.create_default_context(cafile=str(self._ca))
            with urllib.request.urlopen(ask, timeout=TIMEOUT_S, context=context) as reply:  # noqa: S310
                raw = reply.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException):
            return None
        return self.judge(raw, t1_us)

    def judge(self, raw: bytes, t1_us: int) -> str | None:
        """What a signed answer says; None for one that is unsigned, foreign or replayed."""
        try:
            told = cbor.loads(self._centre.open(raw))
        except FrameError:
            return None
        if type(told) is not dict or (told.get("term"), told.get("t1")) != (self._term, t1_us):
            return None
        reason, state = told.get("reason"), told.get("state")
        if type(reason) is str:
            return reason
        return state.upper() if type(state) is str else None
