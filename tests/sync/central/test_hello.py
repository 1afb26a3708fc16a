"""Hello and what follows it: position, clock, window, grants, commands, lists, old copies of a disk."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.wire import topics
from protocols.wire.chain import Position
from protocols.wire.cose import sign1
from protocols.wire.lists import apply_delta, decode_set, join_parts
from protocols.wire.messages import (
    Cmd,
    Grant,
    Halt,
    ListDelta,
    ListHead,
    ListPart,
    Need,
    Request,
    Welcome,
)
from protocols.wire.record import Kind, own_of
from sync.central.lists import DELTAS_KEPT
from sync.central.mail import Letter
from sync.errors import OfficeStateError, TwoPersonsError


@pytest.fixture
def pen(campus: Any) -> Any:
    found = campus.terminal()
    found.begin()
    found.chip = campus.card()
    found.sale(found.chip, 100)
    campus.give(found.segment())
    return found


def test_welcome_names_the_committed_position(campus: Any, pen: Any) -> None:
    """The only rewind pointer: (epoch, seq, hash) of the lane, and the three times."""
    pen.sale(pen.chip, 100)
    answers = campus.give(pen.hello(t1_us=5))
    assert [type(a) for a in answers] == [Welcome]
    welcome = answers[0]
    assert welcome.pos == Position(1, 4, pen.hashes[4])
    assert (welcome.t1_us, welcome.t2_us) == (5, campus.clock.now_us)
    assert welcome.t3_us >= welcome.t2_us
    assert (welcome.credit, welcome.flush_ms, welcome.spread_s) == (4, 2_000, 30)


def test_a_new_terminal_is_welcomed_at_zero(campus: Any) -> None:
    """seq 0 with h(0): nothing yet."""
    pen = campus.terminal("T0007", seed=70)
    pen.begin()
    assert campus.give(pen.hello())[0].pos == Position(1, 0, pen.hashes[0])


def test_a_forged_hello_is_not_answered(campus: Any, pen: Any) -> None:
    """Another key, another name, or rubbish: kept, no answer."""
    other = campus.terminal("T0002", seed=200)
    wrong_key = Letter(pen.topic("hello"), other.hello(term="T0001").payload)
    wrong_name = Letter(pen.topic("hello"), pen.hello(term="T0002").payload)
    assert campus.give(wrong_key, wrong_name, Letter(pen.topic("hello"), b"x")) == []
    codes = [row.code for row in campus.rows("SELECT code FROM quarantine ORDER BY id")]
    assert codes == ["SYNC_BAD_SIG", "SYNC_BAD_TOPIC", "SYNC_BAD_FORM"]


def test_backpressure_narrows_the_window(campus: Any, pen: Any) -> None:
    """Over 5 s of backlog: credit 1, flush 30 s; below it the usual figures again."""
    slow = campus.give(pen.hello(), lag_ms=6_000)[0]
    assert (slow.credit, slow.flush_ms) == (1, 30_000)
    pen.add(Kind.MARK)
    assert campus.give(pen.segment(), lag_ms=6_000)[0].credit == 1
    assert campus.give(pen.hello())[0].credit == 4


def test_another_hash_below_the_cursor_is_a_fork(campus: Any, pen: Any) -> None:
    """I6: a hello that names another record 2 fences the lane and is halted."""
    answers = campus.give(pen.hello(tip=Position(1, 2, bytes(32))))
    assert [type(a) for a in answers] == [Welcome, Halt]
    assert campus.value("SELECT state FROM lane") == 1
    assert campus.value("SELECT code FROM fork") == "JOURNAL_FORK"


def test_an_old_copy_of_the_disk_is_fenced_at_its_hello(campus: Any, pen: Any) -> None:
    """A boot the archive has never seen, with a tip behind it: restored from backup."""
    old = Position(1, 3, pen.hashes[3])
    answers = campus.give(pen.hello(tip=old, boot=b"newboot!"))
    assert [type(a) for a in answers] == [Welcome, Halt]
    assert tuple(campus.rows("SELECT seq, code FROM fork")[0]) == (4, "JOURNAL_ROLLBACK")


def test_an_old_copy_that_never_booted_is_fenced(campus: Any, pen: Any) -> None:
    """I6: the till refuses before its BOOT; a hello with acked above its tip fences the lane."""
    old, told = Position(1, 3, pen.hashes[3]), Position(1, 4, pen.hashes[4])
    answers = campus.give(pen.hello(tip=old, acked=told))
    assert [type(a) for a in answers] == [Welcome, Halt]
    assert tuple(campus.rows("SELECT seq, code FROM fork")[0]) == (4, "JOURNAL_ROLLBACK")


def test_a_terminal_that_was_told_of_more_than_it_holds_is_fenced(campus: Any, pen: Any) -> None:
    """Forked, it says both positions: an acknowledged one above its own tip."""
    told = {"tip": Position(1, 2, pen.hashes[2]), "acked": Position(1, 4, pen.hashes[4])}
    assert [type(a) for a in campus.give(pen.hello(**told))] == [Welcome, Halt]
    assert tuple(campus.rows("SELECT seq, code FROM fork")[0]) == (3, "JOURNAL_ROLLBACK")


def test_a_delayed_hello_fences_nobody(campus: Any, pen: Any) -> None:
    """The same tip under a known boot, or before any BOOT record, is only late."""
    old = Position(1, 3, pen.hashes[3])
    for boot in (pen.boot_id, bytes(8)):
        assert [type(a) for a in campus.give(pen.hello(tip=old, boot=boot))] == [Welcome]
    assert campus.value("SELECT state FROM lane") == 0


def test_dseq_continues_above_what_the_terminal_saw(campus: Any, pen: Any) -> None:
    """A centre restored from backup does not send answers that are ignored as replays."""
    campus.give(pen.hello(dseq=500))
    for _ in range(2):
        pen.sale(pen.chip, 100)
    answers = campus.give(pen.segment(7, 8))
    assert [(type(a), a.dseq) for a in answers] == [(Need, 501)]


def test_a_terminal_of_the_old_epoch_hears_the_grant_again(campus: Any, pen: Any) -> None:
    """Grants are repeated with a new dseq after every hello until the terminal follows."""
    campus.give(pen.hello(tip=Position(1, 2, bytes(32))))
    campus.centre.fork_resolve(campus.idem(), ("a", "b"), "T0001")
    first = next(m for m in campus.work() if isinstance(m, Grant))
    answers = campus.give(pen.hello())
    grants = [a for a in answers if isinstance(a, Grant)]
    assert [(g.epoch, g.prev, g.h0) for g in grants] == [(2, first.prev, first.h0)]
    assert grants[0].dseq > first.dseq
    assert grants[0].hw0_us == first.hw0_us


def test_fork_resolve_needs_a_fence_and_two_persons(campus: Any, pen: Any) -> None:
    """Nobody opens an epoch alone, nor for a healthy lane."""
    with pytest.raises(OfficeStateError):
        campus.centre.fork_resolve(campus.idem(), ("a", "b"), "T0001")
    campus.give(pen.hello(tip=Position(1, 2, bytes(32))))
    for persons in (("a", "a"), ("a", ""), ("", "b")):
        with pytest.raises(TwoPersonsError):
            campus.centre.fork_resolve(campus.idem(), persons, "T0001")


def test_open_intents_of_the_old_epoch_become_doubts(campus: Any, pen: Any) -> None:
    """A new epoch starts with no rights: what was open belongs to the centre."""
    pen.intent(pen.chip, 300)
    campus.give(pen.segment())
    campus.give(pen.hello(tip=Position(1, 2, bytes(32))))
    campus.centre.fork_resolve(campus.idem(), ("a", "b"), "T0001")
    assert [tuple(r) for r in campus.rows("SELECT seq, fen, state FROM doubt")] == [(5, 300, 0)]


def test_clock_offset_is_the_least_of_a_boot(campus: Any, pen: Any) -> None:
    """A hello is only ever delayed: a late one does not shift event days."""
    now_us = campus.clock.now_us
    campus.give(pen.hello(t1_us=now_us - 3_600_000_000))
    campus.give(pen.hello(t1_us=now_us - 1_000_000))
    assert campus.value("SELECT clock_offset_us FROM lane") == 0
    fast = {"t1_us": now_us + 7_200_000_000, "boot": pen.boot_id}
    campus.give(pen.hello(**fast))
    assert campus.value("SELECT clock_offset_us FROM lane") == -7_200_000_000


def test_event_days_use_the_corrected_time(campus: Any, pen: Any) -> None:
    """The raw time stays in event_us; a clock that is suspect counts as the day of receipt."""
    day_us = 86_400_000_000
    campus.give(pen.hello(t1_us=campus.clock.now_us + 3 * day_us))
    ahead_us = campus.clock.now_us + 3 * day_us
    intent = pen.intent(pen.chip, 50)
    tac = pen.chip.tac(intent)
    pen.chip.paid(50)
    own = own_of(Kind.CAPTURE, tac=tac)
    facts = {"ref": intent.seq, "inst": pen.chip.asn, "ctr": 1, "fen": 50, "own": own}
    pen.add(Kind.CAPTURE, wall_us=ahead_us, **facts)
    intent = pen.intent(pen.chip, 60)
    own = own_of(Kind.CAPTURE, tac=pen.chip.tac(intent))
    facts = {"ref": intent.seq, "inst": pen.chip.asn, "ctr": 2, "fen": 60, "own": own}
    pen.add(Kind.CAPTURE, wall_us=1, flags=1, **facts)
    campus.give(pen.segment())
    rows = campus.rows("SELECT event_us, event_day FROM transfer WHERE seq > 4 ORDER BY seq")
    today = campus.value("SELECT event_day FROM transfer WHERE seq = 4 AND terminal = 1")
    assert [tuple(row) for row in rows] == [(ahead_us, today), (1, today)]
    mark_us = campus.value("SELECT mark_us FROM lane")
    assert mark_us == campus.clock.now_us  # never ahead of the centre


# --- commands ---------------------------------------------------------------------------------


def test_a_command_is_repeated_until_its_record_arrives(campus: Any, pen: Any) -> None:
    """Kept and re-sent after each hello; CMD ends that, CMD_DONE brings the result."""
    idem = campus.idem()
    campus.centre.command(idem, "office", "T0001", 5, ["x"], campus.clock.now_us + 10**9)
    sent = [m for m in campus.work() if isinstance(m, Cmd)]
    assert [(c.id, c.kind, c.body) for c in sent] == [(idem, 5, ["x"])]
    assert [type(a) for a in campus.give(pen.hello())] == [Welcome, Cmd]
    own = own_of(Kind.CMD, command_id=idem, command_kind=5)
    cmd = pen.add(Kind.CMD, own=own)
    campus.give(pen.segment())
    assert [type(a) for a in campus.give(pen.hello())] == [Welcome]
    pen.add(Kind.CMD_DONE, ref=cmd.seq, own=own_of(Kind.CMD_DONE, result="ok"))
    campus.give(pen.segment())
    assert campus.value("SELECT result FROM command") == "ok"


# --- lists ------------------------------------------------------------------------------------


def test_lists_are_published_with_their_parts(campus: Any, pen: Any) -> None:
    """Head on its retained topic; parts on request; sha256 joins them; versions go +1."""
    content = bytes(70_000)
    centre = campus.centre
    assert centre.publish_list(campus.idem(), "office", "tariff", content) == 1
    out = centre.tick()
    assert [(o.topic, o.retain) for o in out] == [("cc/v1/s1/dn/all/list/tariff/head", True)]
    head = campus.decode(out)[0]
    body = ["tariff", 1]
    ask = Request("T0001", bytes(16), campus.clock.now_us + 5_000_000, "list", body)
    letter = Letter(pen.topic("req"), sign1(ask.encode(), pen.key))
    raw = centre.receive([letter])
    assert {o.topic for o in raw} == {"cc/v1/s1/dn/T0001/list/tariff/part"}
    parts = campus.decode(raw)
    assert [type(p) for p in parts] == [ListPart] * 3
    assert join_parts(head, parts) == content
    assert centre.publish_list(campus.idem(), "office", "tariff", b"two") == 2
    assert [m.version for m in campus.give(letter)] == [2]  # the head, for a version gone by


def test_late_and_unknown_requests_are_dropped(campus: Any, pen: Any) -> None:
    """Past its deadline, of an unknown kind, of a bad form, for a list that is not there."""
    now_us = campus.clock.now_us
    for deadline_us, what, body in (
        (now_us - 1, "list", ["cards", 1]),
        (now_us + 1, "other", ["cards", 1]),
        (now_us + 1, "list", "cards"),
        (now_us + 1, "list", ["nolist", 1]),
    ):
        ask = Request("T0001", bytes(16), deadline_us, what, body)
        letter = Letter(pen.topic("req"), sign1(ask.encode(), pen.key))
        assert campus.give(letter) == []


def test_cards_go_out_as_deltas(campus: Any, pen: Any) -> None:
    """Loss and lift: each version's delta leads from the one before it to the set in force."""
    centre = campus.centre
    chips = [campus.card() for _ in range(3)]
    centre.publish_cards(campus.idem(), "office")
    for chip in chips:
        centre.report_loss(campus.idem(), "office", chip.asn)
    assert centre.report_loss(campus.idem(), "office", chips[0].asn) == 5
    centre.lift_loss(campus.idem(), "office", chips[1].asn)
    blocked: frozenset[int] = frozenset()
    version = 1
    for message in campus.work():
        if isinstance(message, ListDelta):
            blocked = apply_delta(blocked, version, message)
            version = message.version
    assert version == 6
    assert blocked == {int.from_bytes(c.asn, "big") for c in (chips[0], chips[2])}
    content = campus.value("SELECT content FROM list_version WHERE version = 6")
    assert decode_set(bytes(content)) == blocked
    assert campus.value("SELECT count(*) FROM list_version WHERE content IS NOT NULL") == 1


def test_only_the_last_deltas_stay_retained(campus: Any, pen: Any) -> None:
    """The broker keeps 50; the oldest is cleared by an empty payload."""
    for _ in range(DELTAS_KEPT + 2):
        campus.centre.publish_cards(campus.idem(), "office")
    out = campus.centre.tick()
    cleared = [o.topic for o in out if o.payload == b""]
    assert cleared == [topics.list_delta("s1", "cards", n) for n in (1, 2)]
    heads = campus.decode(campus.centre.heads())
    assert sum(isinstance(m, ListDelta) for m in heads) == DELTAS_KEPT
    assert [m.version for m in heads if isinstance(m, ListHead)] == [DELTAS_KEPT + 2]


def test_a_terminal_behind_gets_the_head_again(campus: Any, pen: Any) -> None:
    """Retained data is a cache: a hello with an older version is answered with the head."""
    campus.centre.publish_cards(campus.idem(), "office")
    campus.work()
    answers = campus.give(pen.hello())
    assert [type(a) for a in answers] == [Welcome, ListHead]
    assert answers[0].lists == {"cards": 1}
    assert [type(a) for a in campus.give(pen.hello())] == [Welcome]  # not at every hello
    assert [type(a) for a in campus.give(pen.hello(lists={"cards": 1}))] == [Welcome]


def test_a_restored_centre_continues_above_the_terminals(campus: Any, pen: Any) -> None:
    """A version that terminals hold and the centre lost is overtaken, not repeated."""
    campus.centre.publish_cards(campus.idem(), "office")
    answers = campus.give(pen.hello(lists={"cards": 41}))
    assert answers[0].lists == {"cards": 42}
    assert campus.give(pen.hello(lists={"cards": 2**60}))[0].lists == {"cards": 42}


def test_policy_records_say_what_is_in_force(campus: Any, pen: Any) -> None:
    """POLICY{list, version} is the terminal's acknowledgement of a list."""
    for version in (1, 2):
        pen.add(Kind.POLICY, own=own_of(Kind.POLICY, list="cards", version=version))
        campus.give(pen.segment())
    assert [tuple(r) for r in campus.rows("SELECT name, version FROM list_taken")] == [("cards", 2)]


def test_the_outbox_waits_while_nobody_can_be_told(campus: Any, pen: Any) -> None:
    """`hand_out=False` keeps it; what was handed out is deleted by the next tick."""
    campus.centre.publish_cards(campus.idem(), "office")
    assert campus.centre.tick(hand_out=False) == []
    assert len(campus.centre.tick()) == 1
    assert campus.value("SELECT count(*) FROM outbox") == 1
    campus.clock.step(2)
    assert campus.centre.tick() == []
    assert campus.value("SELECT count(*) FROM outbox") == 0
    campus.centre.publish_cards(campus.idem(), "office")
    assert len(campus.centre.tick()) == 2  # delta and head


def test_what_another_process_queued_is_found(campus: Any, pen: Any, another: Any) -> None:
    """Office acts of another process reach the terminals within a second."""
    campus.centre.tick()
    another().centre.publish_cards(campus.idem(), "office")
    campus.clock.step(1.1)
    assert [type(m) for m in campus.decode(campus.centre.tick())] == [ListHead]
