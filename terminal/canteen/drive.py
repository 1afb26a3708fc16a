"""Runs one card pipeline over the ports: asks out, answers in, no decision of its own.

Only the APDUs wait for an event; journal and SAM answer at once, so nothing else of the terminal
happens between the denylist test and the INTENT, nor between CAPTURE and the announcement.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware.errors import SamError
from firmware.ports import CardIo, Reply, SamPort, Trouble
from terminal.canteen.asks import (
    Answer,
    Append,
    Appended,
    Ask,
    AskSam,
    CardReply,
    CardTrouble,
    CheckMac2,
    Outcome,
    Reset,
    SamTrouble,
    Serve,
    Served,
    Tap,
    Transmit,
)
from terminal.ledger.store import Journal


class Drive:
    """At most one pipeline at a time; `serve` announces, `done` takes the outcome."""

    def __init__(
        self,
        cards: CardIo,
        sam: SamPort,
        journal: Journal,
        serve: Callable[[Serve], None],
        done: Callable[[Outcome], None],
    ) -> None:
        self._cards = cards
        self._sam = sam
        self._journal = journal
        self._serve = serve
        self._done = done
        self._tap: Tap | None = None
        self._token = 0

    @property
    def running(self) -> bool:
        """Whether a pipeline waits for its card."""
        return self._tap is not None

    def start(self, tap: Tap) -> None:
        """Begin. Raises JOURNAL_FAIL, as everything here does that writes."""
        assert self._tap is None, "one card at a time"
        self._tap = tap
        self._go(None)

    def drop(self) -> None:
        """Forget the pipeline: the journal failed, whatever was sent is in doubt at next boot."""
        if self._tap is not None:
            self._tap.close()
        self._tap = None

    def on_reply(self, reply: Reply) -> None:
        """A card's answer; one for an older token is nothing."""
        if self._tap is not None and reply.token == self._token:
            self._go(CardReply(reply.raw))

    def on_trouble(self, trouble: Trouble) -> None:
        """No answer from the card."""
        if self._tap is not None and trouble.token == self._token:
            self._go(CardTrouble(trouble.code, trouble.sent))

    def _go(self, answer: Answer) -> None:
        assert self._tap is not None, "started"
        while True:
            try:
                ask = self._tap.send(answer)
            except StopIteration as end:
                self._tap = None
                self._done(end.value)
                return
            if isinstance(ask, Transmit | Reset):
                self._send(ask)
                return
            answer = self._perform(ask)

    def _send(self, ask: Transmit | Reset) -> None:
        self._token += 1
        if isinstance(ask, Reset):
            self._cards.reset(self._token)
        else:
            self._cards.transmit(self._token, ask.apdu, ask.deadline_ms)

    def _perform(self, ask: Ask) -> Answer:
        if isinstance(ask, Append):
            record = self._journal.append(
                ask.kind, ref=ask.ref, inst=ask.inst, ctr=ask.ctr, fen=ask.fen, own=ask.own
            )
            return Appended(record.seq)
        if isinstance(ask, Serve):
            self._serve(ask)
            return Served()
        try:
            if isinstance(ask, AskSam):
                return self._sam.mac1(ask.ask)
            assert isinstance(ask, CheckMac2), ask
            return self._sam.check_mac2(ask.mac2)
        except SamError as fault:
            return SamTrouble(fault.code)
