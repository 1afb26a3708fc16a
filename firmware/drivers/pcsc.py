"""Contact reader (or SAM slot) through PC/SC, by pyscard: imported when the reader opens.

One thread owns one reader and polls it by itself. T=0 rules of card.md §2: 61xx fetches the rest
with GET RESPONSE, 6Cxx sends the command again with the right Le, except for the money commands
52 and 54, which are never sent twice: there it is passed up and means in doubt. Traps: card.md §8.5.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firmware.base.clock import Clock, SystemClock
from firmware.errors import (
    CardGoneError,
    CardMuteError,
    LinkLostError,
    ReaderBusyError,
    ReaderDownError,
    ReaderError,
)
from firmware.ports import CardSession

POLL_S = 0.05
BOUNCE_US = 500_000  # a little more than the service takes to look again
MONEY = frozenset((0x52, 0x54))
PARTS_MAX = 16  # GET RESPONSE rounds of one answer

# winscard results (pcsclite.h), as unsigned 32 bit
NO_SMARTCARD, REMOVED, RESET = 0x8010000C, 0x80100069, 0x80100068
UNPOWERED, UNRESPONSIVE, NOT_TRANSACTED = 0x80100067, 0x80100066, 0x80100016
TIMEOUT, SHARING, PROTO_MISMATCH = 0x8010000A, 0x8010000B, 0x8010000F
GONE = frozenset((NO_SMARTCARD, REMOVED, RESET, UNPOWERED, UNRESPONSIVE, NOT_TRANSACTED))


@dataclass(frozen=True, slots=True)
class _Left:
    """The service's count of insertions when we let go, and when to stop trusting that count.

    pcscd looks at a slot every 0.4 s. Asked to power a card that left in between, it marks the
    slot empty behind the back of its own watch, and a card put back before the next look stays
    unseen for good. So after a loss we wait until the service has seen the card move, or for
    half a second if it never does (a card that is there but broken).
    """

    moves: int
    trust_us: int


class PcscReader:
    """CardReader over one named PC/SC slot; never chosen by index, the order is not stable."""

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self._api: Any = None
        self._context: Any = None
        self._slot = ""
        self._card: Any = None
        self._protocol = 0
        self._moves = 0
        self._left: _Left | None = None

    def open(self) -> None:
        """Connect to the service and find the slot whose name begins with ours."""
        from smartcard import scard

        self.close()
        self._api = scard
        result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if result != scard.SCARD_S_SUCCESS:
            raise ReaderDownError(reader=self._name, reason=scard.SCardGetErrorMessage(result))
        self._context = context
        result, names = scard.SCardListReaders(context, [])
        found = sorted(n for n in names or () if n.startswith(self._name))
        if not found:
            self._free()
            raise ReaderDownError(reader=self._name, reason="no such reader")
        self._slot = self._name if self._name in found else found[0]

    def close(self) -> None:
        """Power the card down, drop card and context."""
        if self._api is not None:
            self._let_go()
        self._free()

    def wait_card(self, timeout_ms: int) -> CardSession | None:
        """Poll the slot and power a card that is there. READER_DOWN if the service is gone."""
        due_us = self._clock.mono_us() + timeout_ms * 1000
        self._opened()
        self._let_go()
        while True:
            if self._card_ready() and self._connect():
                return CardSession(b"", self._atr(), "contact")
            if self._clock.mono_us() >= due_us:
                return None
            time.sleep(POLL_S)

    def transmit(self, apdu: bytes, deadline_ms: int) -> bytes:
        """Send one APDU once, by the T=0 rules. PC/SC has no deadline: a late answer is mute."""
        if self._card is None:
            raise ReaderBusyError(reason="no card connected")
        due_us = self._clock.mono_us() + deadline_ms * 1000
        raw = t0_exchange(self._send, apdu)
        if self._clock.mono_us() > due_us:
            self._let_go()
            raise CardMuteError(reason="answer after the deadline")
        return raw

    def present(self) -> bool:
        """Whether the connection still holds the same card; moves no card state."""
        if self._card is None:
            return False
        result, *_ = self._api.SCardStatus(self._card)
        if _code(result) == 0:
            return True
        self._let_go(lost=True)
        if _code(result) not in GONE:
            raise self._failure(result, sent=False)
        return False

    def reset(self) -> None:
        """Warm reset; a connection that is already broken is made anew."""
        api = self._opened()
        if self._card is not None:
            if self._restart(api.SCARD_RESET_CARD):
                return
            raise CardGoneError(step="reset")
        if not (self._card_ready() and self._connect()):
            raise CardGoneError(step="reset")

    def _send(self, apdu: bytes) -> bytes:
        result, answer = self._api.SCardTransmit(self._card, self._protocol, list(apdu))
        if _code(result) != 0:
            self._let_go(lost=True)
            raise self._failure(result, sent=True)
        if len(answer) < 2:
            self._let_go(lost=True)
            raise CardGoneError(reason="short answer", size=len(answer))
        return bytes(answer)

    def _failure(self, result: int, *, sent: bool) -> ReaderError:
        code, text = _code(result), self._api.SCardGetErrorMessage(result)
        if not sent:
            return ReaderDownError(reader=self._name, reason=text, result=code)
        if code in GONE:
            return CardGoneError(reason=text, result=code)
        if code == TIMEOUT:
            return CardMuteError(reason=text, result=code)
        return LinkLostError(reason=text, result=code)

    def _card_ready(self) -> bool:
        """A card is in, and it is safe to touch its power (see `_Left`)."""
        api = self._opened()
        result, states = api.SCardGetStatusChange(
            self._context, 0, [(self._slot, api.SCARD_STATE_UNAWARE)]
        )
        if _code(result) not in (0, TIMEOUT):
            raise self._failure(result, sent=False)
        state = states[0][1]
        if state & (api.SCARD_STATE_UNKNOWN | api.SCARD_STATE_UNAVAILABLE):
            raise ReaderDownError(reader=self._name, reason="reader unplugged")
        self._moves = state >> 16
        if not state & api.SCARD_STATE_PRESENT or state & api.SCARD_STATE_MUTE:
            return False
        left = self._left
        return left is None or self._fresh() or self._clock.mono_us() >= left.trust_us

    def _fresh(self) -> bool:
        """Whether the service itself saw the card come since we let go of the last one."""
        return self._left is not None and self._left.moves != self._moves

    def _connect(self) -> bool:
        """Take the card for ourselves; False while it is not ready or just left."""
        api = self._api
        result, card, protocol = api.SCardConnect(
            self._context, self._slot, api.SCARD_SHARE_EXCLUSIVE, self._protocols()
        )
        code = _code(result)
        if code == 0:
            self._card, self._protocol = card, protocol
            return self._fresh() or self._restart(api.SCARD_UNPOWER_CARD)
        if code in GONE or code in (SHARING, PROTO_MISMATCH):
            return False
        raise self._failure(result, sent=False)

    def _restart(self, how: int) -> bool:
        """Cold (UNPOWER) or warm (RESET) start of the connected card; False lets it go."""
        api = self._api
        result, protocol = api.SCardReconnect(
            self._card, api.SCARD_SHARE_EXCLUSIVE, self._protocols(), how
        )
        if _code(result) == 0:
            self._protocol = protocol
            return True
        self._let_go(lost=True)
        return False

    def _protocols(self) -> int:
        both: int = self._api.SCARD_PROTOCOL_T0 | self._api.SCARD_PROTOCOL_T1
        return both

    def _atr(self) -> bytes:
        _, _, _, _, atr = self._api.SCardStatus(self._card)
        return bytes(atr)

    def _let_go(self, *, lost: bool = False) -> None:
        """Disconnect explicitly: a forgotten handle resets the next owner's card.

        The card is left powered; the next connection starts it cold if it is still the same.
        """
        card, self._card = self._card, None
        if card is not None:
            self._api.SCardDisconnect(card, self._api.SCARD_LEAVE_CARD)
            wait_us = BOUNCE_US if lost else 0
            self._left = _Left(self._moves, self._clock.mono_us() + wait_us)

    def _free(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            self._api.SCardReleaseContext(context)

    def _opened(self) -> Any:
        if self._context is None:
            raise ReaderDownError(reader=self._name, reason="not open")
        return self._api


def t0_exchange(send: Callable[[bytes], bytes], apdu: bytes) -> bytes:
    """One APDU over a T=0 channel: GET RESPONSE after 61xx, one repeat with Le after 6Cxx.

    A money command (INS 52, 54) is sent once whatever it answers (card.md §1 rule 3, §2).
    """
    raw = send(apdu)
    if raw[-2] == 0x6C and len(raw) == 2 and apdu[1] not in MONEY:
        le = raw[-1:]
        raw = send(apdu[:-1] + le if _has_le(apdu) else apdu + le)
    body = b""
    for _ in range(PARTS_MAX):
        if raw[-2] != 0x61:
            return body + raw
        body += raw[:-2]
        raw = send(b"\x00\xc0\x00\x00" + raw[-1:])
    raise LinkLostError(reason="endless answer")


def _has_le(apdu: bytes) -> bool:
    return len(apdu) == 5 or (len(apdu) > 5 and len(apdu) == 6 + apdu[4])


def _code(result: int) -> int:
    """pyscard gives results as signed or unsigned; compare them as unsigned."""
    return result & 0xFFFFFFFF
