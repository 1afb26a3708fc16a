"""One transaction or nothing: a fault between any two statements, locks, repeated acts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from protocols.wire.messages import Ack
from protocols.wire.record import Kind, own_of
from sync.central import verdicts, workers
from sync.central.engine import TRIES_MAX, in_transaction, open_engine
from sync.errors import BusyError, CentreDownError, IdemConflictError, InsufficientError

TABLES = [
    "lane",
    "batch",
    "segment",
    "transfer",
    "balance",
    "intent",
    "doubt",
    "suspense_item",
    "tac_result",
    "card_seen",
    "alarm",
    "outbox",
    "reversal",
    "list_taken",
    "operation",
    "quarantine",
    "card",
    "terminal",
]


class KilledError(RuntimeError):
    """The process is gone."""


class Fuse:
    """Stops the engine before its n-th statement from now on."""

    def __init__(self, engine: Any) -> None:
        self.left = -1
        self.seen = 0
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "commit", self._commit)

    def _before(self, *_: Any) -> None:
        self._count()

    def _commit(self, _: Any) -> None:
        self._count()

    def _count(self) -> None:
        self.seen += 1
        if self.left == 0:
            raise KilledError
        self.left -= 1


def state(campus: Any) -> dict[str, list[Any]]:
    return {name: sorted(map(repr, campus.rows(f"SELECT * FROM {name}"))) for name in TABLES}


def busy_segment(campus: Any) -> Any:
    """Records of every kind that writes: sale, doubt, unknown kind, reversal, list, alarm."""
    pen, chip, stranger = campus.terminal(), campus.card(), campus.card(known=False)
    pen.begin()
    _, capture = pen.sale(chip, 100)
    pen.sale(stranger, 50)
    campus.give(pen.segment())
    own = own_of(Kind.REVERSAL, operator=bytes(10), reason="void")
    pen.add(Kind.REVERSAL, ref=capture.seq, inst=chip.asn, fen=100, own=own)
    pen.add(Kind.POLICY, own=own_of(Kind.POLICY, list="cards", version=1))
    pen.add(Kind.ALARM, own=own_of(Kind.ALARM, code="X"))
    pen.add(Kind.METER, own=(1, 2, 3, 4))
    intent = pen.intent(chip, 70)
    own = own_of(Kind.DOUBT, reason="link")
    pen.add(Kind.DOUBT, ref=intent.seq, inst=chip.asn, ctr=1, fen=70, own=own)
    pen.intent(chip, 80)
    pen.sale(chip, 100)
    return pen


def test_a_fault_between_any_two_statements_leaves_nothing(campus: Any) -> None:
    """Kill before each statement and before COMMIT: the books are as before, then it posts once."""
    pen = busy_segment(campus)
    letter = pen.segment()
    fuse = Fuse(campus.engine)
    before = state(campus)
    stops = 0
    while True:
        fuse.left = stops
        try:
            answers = campus.centre.receive([letter])
        except KilledError:
            fuse.left = -1
            assert state(campus) == before, stops
            stops += 1
            continue
        fuse.left = -1
        break
    assert stops > 12
    assert [type(a) for a in campus.decode(answers)] == [Ack]
    assert campus.fen("merchant:north") == 150
    assert campus.value("SELECT count(*) FROM batch") == 2


def test_a_fault_inside_the_workers_leaves_nothing(campus: Any) -> None:
    """The same for the pass over posted batches and for the settlement of doubts."""
    pen = busy_segment(campus)
    campus.give(pen.segment())
    fuse = Fuse(campus.engine)
    before = state(campus)
    campus.clock.step(60)
    stops = 0
    while True:
        fuse.left = stops
        try:
            campus.centre.tick(hand_out=False)
        except KilledError:
            fuse.left = -1
            if state(campus) != before:
                before = state(campus)  # the pass is committed, the settlement is not
            campus.restart()
            stops += 1
            assert stops < 200
            continue
        fuse.left = -1
        break
    assert stops > 8
    assert campus.value("SELECT count(*) FROM tac_result") == 3


def test_the_ack_is_made_after_the_commit(campus: Any) -> None:
    """Guard M13: when COMMIT fails, `receive` returns nothing at all."""
    pen = busy_segment(campus)
    letter = pen.segment()
    fuse = Fuse(campus.engine)
    campus.centre.receive([letter])
    whole = fuse.seen
    pen.add(Kind.MARK)
    following = pen.segment()
    fuse.seen = 0
    fuse.left = 10**9

    def refuse(_: Any) -> None:
        raise KilledError

    event.listen(campus.engine, "commit", refuse)
    try:
        with pytest.raises(KilledError):
            campus.centre.receive([following])
    finally:
        event.remove(campus.engine, "commit", refuse)
    assert whole > 5
    assert [a.seq for a in campus.give(following)] == [len(pen.bodies)]


def test_a_lost_ack_is_repeated_from_the_lane(campus: Any) -> None:
    """A centre that dies between commit and publication acknowledges at its next start."""
    pen = busy_segment(campus)
    campus.centre.receive([pen.segment()])
    campus.restart()
    acks = [m for m in campus.decode(campus.centre.heads()) if isinstance(m, Ack)]
    assert [(a.seq, a.hash) for a in acks] == [(len(pen.bodies), pen.tip.hash)]


def test_a_locked_database_is_busy_and_nothing_else(campus: Any) -> None:
    """BUSY is never INSUFFICIENT, never a refusal; the same messages pass afterwards."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    letter = pen.segment()
    tries: list[int] = []
    campus.centre._pause = tries.append
    with campus.engine.connect() as other, other.begin():
        other.execute(text("UPDATE lane SET mark_us = mark_us"))
        with pytest.raises(BusyError) as caught:
            campus.centre.receive([letter])
    assert caught.value.code == "BUSY"
    assert tries == list(range(1, TRIES_MAX + 1))
    assert [type(a) for a in campus.give(letter)] == [Ack]
    assert campus.fen("merchant:north") == 100


def test_a_missing_database_is_down(tmp_path: Any) -> None:
    """A database that cannot be opened is CENTRE_DOWN with its reason."""
    engine = open_engine(f"sqlite:///{tmp_path / 'none' / 'centre.db'}")
    with pytest.raises(CentreDownError):
        in_transaction(engine, lambda c: c.execute(text("SELECT 1")), lambda _: None)
    engine = open_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(CentreDownError):
        in_transaction(engine, lambda c: c.execute(text("SELECT 1")), lambda _: None)


def test_other_database_errors_are_not_hidden(engine: Any) -> None:
    """A bug in a statement is not called BUSY."""
    with pytest.raises(DBAPIError, match="no_such_table"):
        in_transaction(
            engine, lambda c: c.execute(text("SELECT * FROM no_such_table")), lambda _: None
        )


def test_the_same_idem_key_acts_once(campus: Any) -> None:
    """created and exists both mean done; another request under the key is a conflict."""
    idem, asn = campus.idem(), bytes(9) + b"\x77"
    first = campus.centre.issue_card(idem, "office", asn, 5_000)
    assert campus.centre.issue_card(idem, "office", asn, 5_000) == first
    with pytest.raises(IdemConflictError):
        campus.centre.issue_card(idem, "office", asn, 6_000)
    with pytest.raises(IdemConflictError):
        campus.centre.report_loss(idem, "office", asn)
    assert campus.fen("clearing:cash") == -5_000
    assert campus.value("SELECT count(*) FROM operation") == 1


def patiently(act: Any, *args: Any) -> None:
    """Again while the books are busy."""
    for _ in range(200):
        try:
            act(*args)
            return
        except BusyError:
            continue
    raise AssertionError("busy for ever")


def test_acts_in_parallel_add_up(campus: Any) -> None:
    """Four threads with engines of their own issue cards: none is lost, the books balance."""
    url = campus.engine.url.render_as_string(hide_password=False)
    if campus.engine.dialect.name == "sqlite":
        folder = campus.rows("PRAGMA database_list")[0][2]
        url = f"sqlite:///{folder}"
    faults: list[BaseException] = []

    def issue(n: int) -> None:
        other = type(campus)(open_engine(url), clock=campus.clock)
        other.rng = type(campus.rng)(n)
        try:
            for k in range(5):
                asn = bytes([n, k]).rjust(10, b"\x01")
                patiently(other.centre.issue_card, other.idem(), f"clerk{n}", asn, 100)
        except Exception as fault:  # noqa: BLE001  # shown to the test's own thread
            faults.append(fault)
        finally:
            other.engine.dispose()

    threads = [threading.Thread(target=issue, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert campus.fen("clearing:cash") == -2_000
    assert campus.value("SELECT count(*) FROM card") == 20


def test_a_guarded_account_does_not_fall_below_its_floor(campus: Any) -> None:
    """INSUFFICIENT leaves nothing behind, not even the operation row."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.capture(chip, pen.intent(chip, 500), None)
    campus.give(pen.segment())
    item = campus.value("SELECT id FROM suspense_item WHERE state = 0")
    holder = campus.value("SELECT holder FROM card")
    with campus.engine.begin() as connection:
        connection.execute(text("UPDATE suspense_item SET fen = -fen WHERE id = :i"), {"i": item})
    before = state(campus)
    with pytest.raises(InsufficientError):
        campus.centre.resolve_suspense(campus.idem(), ("a", "b"), item, f"wallet:{holder}:cash")
    assert state(campus) == before


def test_a_backlog_is_followed_in_bounded_passes(
    campus: Any, pens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week's batches at once: each pass reads so many records that its statements can be bound."""
    monkeypatch.setattr(workers, "RECORDS_MAX", 7)
    spans: list[tuple[int, int]] = []
    judge = verdicts.judge_batches

    def watched(connection: Any, span: tuple[int, int], *rest: Any) -> Any:
        spans.append(span)
        return judge(connection, span, *rest)

    monkeypatch.setattr(verdicts, "judge_batches", watched)
    chip = campus.card()
    for count in (2, 1, 1, 1, 5, 1):
        for _ in range(count):
            pens[0].sale(chip, 100)
        campus.give(pens[0].segment())
    first = campus.value("SELECT min(id) FROM batch")
    campus.work()
    assert [(a - first, b - first) for a, b in spans] == [(-1, 0), (0, 3), (3, 4), (4, 5)]
    assert campus.fen("merchant:north") == 1_100
    assert campus.value("SELECT count(*) FROM tac_result WHERE result = 0") == 11


def test_a_fault_does_not_tell_what_was_bound(campus: Any) -> None:
    """The text of a database fault may reach a log: it holds no card number and no claim."""
    secret = "6222666677778888"
    with pytest.raises(DBAPIError) as caught, campus.engine.begin() as connection:
        connection.execute(text("INSERT INTO nowhere (code) VALUES (:c)"), {"c": secret})
    assert "INSERT INTO nowhere" in str(caught.value)
    assert secret not in str(caught.value)
