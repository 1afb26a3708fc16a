"""The centre as terminals see it: messages in, commits, messages out. No thread, no socket.

`receive` returns only after its transaction has committed, so whoever acknowledges afterwards can
never acknowledge what may still be lost (faults.md M04, M13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, bindparam, delete, select

from firmware.base.clock import Clock
from firmware.base.rng import Rng
from protocols.errors import FrameError
from protocols.wire import cose, topics
from protocols.wire.messages import Ack, Down, Halt, Hello, Need, Reject, Request
from sync.central import hello as hellos
from sync.central import ingest_core as core
from sync.central import schema
from sync.central.acts import Acts, Desk, Settings
from sync.central.engine import in_transaction, no_pause, reading
from sync.central.hello import Greeting, Window
from sync.central.ingest import Bad, Ingest, Outcome, Taken
from sync.central.ingest_core import Arrival, Lane
from sync.central.mail import Inbound, Outbound
from sync.central.tac import TacDesk
from sync.central.workers import Workers
from sync.errors import BadTopicError, SyncError

NEED_EVERY_US = 2_000_000
LAG_SLOW_MS = 5_000
FLUSH_SLOW_MS = 30_000
HEAD_EVERY_US = 10_000_000
OUTBOX_MAX = 200  # rows handed out per tick

_outbox = schema.outbox
_WAITING = select(_outbox).order_by(_outbox.c.id).limit(OUTBOX_MAX)
_SENT = delete(_outbox).where(_outbox.c.id <= bindparam("last"))


class Centre(Acts):
    """Ingest, welcome, lists, workers; and every office act of `Acts`."""

    def __init__(
        self,
        engine: Engine,
        desk: Desk,
        clock: Clock,
        rng: Rng,
        tac: TacDesk,
        settings: Settings | None = None,
        pause: Callable[[int], None] = no_pause,
    ) -> None:
        super().__init__(engine, desk, clock, rng, settings, pause)
        self._ingest = Ingest(self._ids, self._need_due)
        self._offsets = hellos.Offsets()
        self._needs_us: dict[int, int] = {}
        self._heads_us: dict[str, int] = {}
        self._lag_ms = 0
        self._handed = 0
        self._polled_us = 0
        self.workers = Workers(engine, tac, self._publisher, self.settings, self._ids, pause)

    # --- messages -----------------------------------------------------------------------------

    def receive(self, messages: Sequence[Inbound], *, lag_ms: int = 0) -> list[Outbound]:
        """Take in messages in order, commit, and return the answers.

        `lag_ms` is how long the oldest has waited: above 5 s the window narrows. Raises BUSY or
        CENTRE_DOWN with nothing kept: the caller gives the same messages again.
        """
        self._lag_ms = lag_ms
        now_us = self._clock.wall_us()
        sorted_in = _Sorted()
        for message in messages:
            self._sort(message, sorted_in)
        if not sorted_in:
            return []

        def once(connection: Connection) -> tuple[Taken, list[Greeting]]:
            taken = self._ingest.take(connection, sorted_in.arrivals, sorted_in.bad, now_us)
            greeted = [self._greet(connection, *one, now_us) for one in sorted_in.hellos]
            return taken, greeted

        taken, greetings = in_transaction(self.engine, once, self._pause)
        if taken.batch is not None:
            self.workers.wake()
        out = self._answers(taken.outcomes, now_us)
        for greeting, (_, enrolled) in zip(greetings, sorted_in.hellos, strict=True):
            out += self._greeting(greeting, enrolled, now_us)
        for request in sorted_in.requests:
            out += self._request(request, now_us)
        return out

    def tick(self, *, hand_out: bool = True) -> list[Outbound]:
        """Workers, then what the outbox holds; cheap when there is nothing to do.

        `hand_out` is False while there is nobody to publish to: the outbox waits then. What the tick before handed out is taken as published: a publication that was lost is
        repeated by `heads` or after the terminal's next hello.
        """
        now_us = self._clock.wall_us()
        if self.workers.turn(now_us):
            self._fresh = True
        polled = now_us - self._polled_us >= self.settings.poll_ms * 1_000
        if not hand_out or not (self._fresh or polled):
            return []
        self._fresh = False
        self._polled_us = now_us
        return self._take_outbox()

    def heads(self) -> list[Outbound]:
        """At start and after a reconnect: list heads and deltas, every lane's acknowledgement."""
        now_us = self._clock.wall_us()
        with reading(self.engine) as connection:
            out = self._publisher.heads(connection)
            rows = connection.execute(_OPEN_LANES).all()
        for row in rows:
            ack = Ack(row.code, row.epoch, row.next_seq - 1, row.tip_h, now_us, self._credit())
            out.append(self._signed(ack))
        return [Outbound(topics.centre_state(self.desk.site), b"ready", retain=True), *out]

    # --- sorting: rows 1-4 --------------------------------------------------------------------

    def _sort(self, message: Inbound, into: _Sorted) -> None:
        try:
            topic = topics.parse_up(message.topic)
        except FrameError:
            into.bad.append(Bad(message.topic, message.payload, "SYNC_BAD_TOPIC", None, False))
            return
        if topic.leaf == "journal":
            self._sort_segment(message, topic, into)
        elif topic.leaf in ("hello", "req"):
            self._sort_signed(message, topic, into)
        # `state` and `event` are for display: no fact of the journal is inferred from them

    def _sort_segment(self, message: Inbound, topic: topics.UpTopic, into: _Sorted) -> None:
        enrolled = self.registry.get(topic.term)
        terminal = None if enrolled is None else enrolled.terminal
        place: tuple[int | None, int | None, int | None] = (None, None, None)
        answered = True
        try:
            signed, segment = core.opened(message.payload)
            place = (segment.epoch, segment.first, segment.last)
            answered = False
            enrolled = core.check_topic(topic, enrolled, segment)
            answered = True
            enrolled = self.registry.get(topic.term, signed.kid) or enrolled
            key = core.check_signature(signed, enrolled)
            hashes, records = core.chained(segment)
        except SyncError as fault:
            bad = Bad(message.topic, message.payload, fault.code, terminal, answered, *place)
            into.bad.append(bad)
            return
        tail = key.state is core.KeyState.TAIL
        arrival = Arrival(enrolled, message.payload, message.topic, tail, segment, hashes, records)
        into.arrivals.append(arrival)

    def _sort_signed(self, message: Inbound, topic: topics.UpTopic, into: _Sorted) -> None:
        enrolled = self.registry.get(topic.term)
        try:
            signed = cose.open1(message.payload)
            enrolled = self.registry.get(topic.term, signed.kid)
            known = None if enrolled is None else (enrolled.site, enrolled.part)
            if enrolled is None or known != (topic.site, topic.part):
                raise BadTopicError(topic=message.topic)
            core.check_signature(signed, enrolled)
            into.signed(topic, signed.payload, enrolled)
        except (SyncError, FrameError) as fault:
            code = fault.code if isinstance(fault, SyncError) else "SYNC_BAD_FORM"
            terminal = None if enrolled is None else enrolled.terminal
            into.bad.append(Bad(message.topic, message.payload, code, terminal, False))

    # --- answers ------------------------------------------------------------------------------

    def _answers(self, outcomes: Sequence[Outcome], now_us: int) -> list[Outbound]:
        acked: dict[tuple[int, int], tuple[str, Lane]] = {}
        answers: list[Down] = []
        for outcome in outcomes:
            if isinstance(outcome.message, Bad):
                answers += _bad_answer(outcome)
                continue
            enrolled, lane = outcome.message.enrolled, outcome.lane
            if lane is not None and isinstance(outcome.verdict, core.Post | core.Again):
                acked[lane.terminal, lane.epoch] = (enrolled.code, lane)
            elif outcome.dseq is not None:
                answers.append(_answer(outcome, outcome.message, outcome.dseq))
                if isinstance(outcome.verdict, core.Missing):
                    self._needs_us[enrolled.terminal] = now_us
        for code, lane in acked.values():
            seq = lane.next_seq - 1
            answers.append(Ack(code, lane.epoch, seq, lane.tip_h, now_us, self._credit()))
        return [self._signed(answer) for answer in answers]

    def _greet(
        self, connection: Connection, hello: Hello, enrolled: core.Enrolled, received_us: int
    ) -> Greeting:
        flush_ms = self.settings.flush_ms if self._lag_ms <= LAG_SLOW_MS else FLUSH_SLOW_MS
        window = Window(self._credit(), flush_ms, self.settings.spread_s)
        offset_us = self._offsets.learn(enrolled.terminal, hello, received_us)
        times = (received_us, max(received_us, self._clock.wall_us()))
        return hellos.greet(connection, hello, enrolled, window, offset_us, times, self._publisher)

    def _greeting(self, greeting: Greeting, enrolled: core.Enrolled, now_us: int) -> list[Outbound]:
        out = [self._signed(answer) for answer in greeting.answers]
        topic = topics.down(self.desk.site, enrolled.code, "cmd")
        out += [Outbound(topic, command) for command in greeting.commands]
        due = [n for n in greeting.behind if now_us - self._heads_us.get(n, 0) >= HEAD_EVERY_US]
        if due:
            self._heads_us.update(dict.fromkeys(due, now_us))
            wanted = {topics.list_head(self.desk.site, name) for name in due}
            with reading(self.engine) as connection:
                heads = self._publisher.heads(connection)
            out += [head for head in heads if head.topic in wanted]
        return out

    def _request(self, request: Request, now_us: int) -> list[Outbound]:
        """Online requests; one that is late or unknown is dropped."""
        body = request.body
        fits = type(body) is list and len(body) == 2 and type(body[0]) is str
        if request.what != "list" or not fits or request.deadline_us < now_us:
            return []
        with reading(self.engine) as connection:
            return self._publisher.parts(connection, request.term, body[0], body[1])

    def _take_outbox(self) -> list[Outbound]:
        def once(connection: Connection) -> list[Outbound]:
            if self._handed:
                connection.execute(_SENT, {"last": self._handed})
            rows = connection.execute(_WAITING).all()
            self._handed = rows[-1].id if rows else 0  # an empty table starts again at 1
            self._fresh = self._fresh or len(rows) == OUTBOX_MAX
            return [Outbound(row.topic, row.payload, retain=bool(row.retain)) for row in rows]

        with reading(self.engine) as connection:
            if connection.execute(_ANY).first() is None:
                return []
        return in_transaction(self.engine, once, self._pause)

    def _need_due(self, terminal: int) -> bool:
        last_us = self._needs_us.get(terminal)
        return last_us is None or self._clock.wall_us() - last_us >= NEED_EVERY_US

    def _credit(self) -> int:
        return self.settings.credit if self._lag_ms <= LAG_SLOW_MS else 1


_ANY = select(_outbox.c.id).limit(1)
_OPEN_LANES = (
    select(schema.terminal.c.code, schema.lane)
    .join(schema.lane, schema.lane.c.terminal == schema.terminal.c.id)
    .where(schema.lane.c.state == int(core.LaneState.OPEN), schema.lane.c.next_seq > 1)
    .order_by(schema.lane.c.terminal, schema.lane.c.epoch)
)


class _Sorted:
    """Messages of one call, by what happens to them."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.bad: list[Bad] = []
        self.hellos: list[tuple[Hello, core.Enrolled]] = []
        self.requests: list[Request] = []

    def __bool__(self) -> bool:
        return bool(self.arrivals or self.bad or self.hellos or self.requests)

    def signed(self, topic: topics.UpTopic, payload: bytes, enrolled: core.Enrolled) -> None:
        """File a verified hello or request. Raises WIRE_FORM, SYNC_BAD_TOPIC."""
        if topic.leaf == "hello":
            hello = Hello.decode(payload)
            self._same(hello.term, topic)
            self.hellos.append((hello, enrolled))
        else:
            request = Request.decode(payload)
            self._same(request.term, topic)
            self.requests.append(request)

    def _same(self, term: str, topic: topics.UpTopic) -> None:
        if term != topic.term:
            raise BadTopicError(term=term, topic=topic.term)


def _bad_answer(outcome: Outcome) -> list[Down]:
    """The reject of rows 1, 3 and 4; nothing where there is nobody to tell."""
    bad, lane = outcome.message, outcome.lane
    assert isinstance(bad, Bad), bad
    if outcome.dseq is None:
        return []
    term = topics.parse_up(bad.topic).term
    if bad.epoch is None or bad.first is None or bad.last is None:
        assert lane is not None, bad.topic
        return [Reject(term, lane.epoch, outcome.dseq, lane.next_seq, lane.next_seq, bad.code)]
    return [Reject(term, bad.epoch, outcome.dseq, bad.first, bad.last, bad.code)]


def _answer(outcome: Outcome, arrival: Arrival, dseq: int) -> Down:
    """The answer to a segment that was not posted."""
    term, epoch = arrival.enrolled.code, arrival.segment.epoch
    match outcome.verdict:
        case core.Missing(start, prev):
            return Need(term, epoch, dseq, start, prev)
        case core.Halted(code):
            return Halt(term, epoch, dseq, code)
        case core.Forked():
            return Halt(term, epoch, dseq, "JOURNAL_FORK")
        case core.Refused(code):
            return Reject(term, epoch, dseq, arrival.segment.first, arrival.segment.last, code)
        case other:
            raise AssertionError(other)
