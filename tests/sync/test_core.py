"""The terminal's sync core: each event of sync.md §5, one test each."""

import pytest

from protocols.wire.chain import Position, link
from protocols.wire.messages import Grant, Halt, Need, Reject
from sim.memory_lane import TERM, Lane, ack, welcome
from sync.core import (
    ACK_AFTER_PUBACK_MS,
    ACK_AFTER_SEND_MS,
    BRANCH_SEGMENTS_MAX,
    HELLO_ANSWER_MS,
    HELLO_EVERY_MS,
    RETRY_HOLD_MS,
    Alarm,
    AskStatus,
    Dial,
    Keep,
    KeepDseq,
    Phase,
    SendHello,
    SendSegment,
    SyncCore,
)


class Low:
    """Chance without chance: the upper end."""

    def uniform_ms(self, low_ms: int, high_ms: int) -> int:
        return high_ms


def lane_of(count: int) -> Lane:
    lane = Lane()
    for n in range(count):
        lane.append(b"r%d" % n)
    return lane


def core_of(lane: Lane, acked: int = 0) -> SyncCore:
    return SyncCore(lane, Low(), lane.at(acked))


def streaming(lane: Lane, acked: int = 0) -> SyncCore:
    core = core_of(lane, acked)
    assert core.connected(0) == [SendHello()]
    core.hello_sent(5)
    core.received(welcome(lane.at(acked)), 0)
    assert core.phase is Phase.STREAM
    return core


def test_no_segment_before_welcome() -> None:
    """Connected says hello and nothing else, however much waits."""
    lane = lane_of(300)
    core = core_of(lane)
    assert core.connected(0) == [SendHello()]
    assert core.appended(10) == []
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(0)), 20)
    assert sent == [
        Keep("welcome"),
        SendSegment(1, 100),
        SendSegment(101, 200),
        SendSegment(201, 300),
    ]


def test_replayed_welcome_is_ignored() -> None:
    """A welcome whose t1 is not that of the outstanding hello does nothing."""
    lane = lane_of(3)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    assert core.received(welcome(lane.at(0), t1=4), 0) == []
    assert core.phase is Phase.HELLO
    core.received(welcome(lane.at(0)), 0)
    assert core.received(welcome(lane.at(2)), 0) == []  # the same one again


def test_welcome_moves_acked_back() -> None:
    """A centre restored from backup gets everything again from where it stands."""
    lane = lane_of(50)
    core = core_of(lane, acked=40)
    core.connected(0)
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(10)), 0)
    assert core.acked == lane.at(10)
    assert SendSegment(11, 50) in sent


@pytest.mark.parametrize("how", ["welcome", "ack"])
def test_position_beyond_our_tip_is_rollback(how: str) -> None:
    """The centre knows more than we: our disk went back in time."""
    lane = lane_of(5)
    ahead = Position(1, 9, bytes(32))
    core = streaming(lane) if how == "ack" else core_of(lane)
    if how == "welcome":
        core.connected(0)
        core.hello_sent(5)
    actions = core.received(ack(ahead) if how == "ack" else welcome(ahead), 0)
    assert actions == [Keep(how), Alarm("JOURNAL_ROLLBACK"), SendHello(), SendSegment(1, 5)]
    assert core.phase is Phase.FORKED
    assert core.positions() == (lane.at(5), ahead)  # an acked above the tip: the centre fences
    assert core.acked == lane.at(0)


@pytest.mark.parametrize("how", ["welcome", "ack"])
def test_foreign_hash_is_fork(how: str) -> None:
    """Same seq, other hash: a clone wrote there. Nothing is acknowledged by it."""
    lane = lane_of(5)
    other = Position(1, 3, bytes(32))
    core = streaming(lane) if how == "ack" else core_of(lane)
    if how == "welcome":
        core.connected(0)
        core.hello_sent(5)
    actions = core.received(ack(other) if how == "ack" else welcome(other), 0)
    assert actions == [Keep(how), Alarm("JOURNAL_FORK"), SendHello(), SendSegment(1, 5)]
    assert core.fork_code == "JOURNAL_FORK"
    assert core.positions() == (lane.at(3), other)  # two hashes at one place
    core.hello_sent(7)
    assert SendHello() not in core.received(welcome(other, t1=7), 1)  # said once, then hourly
    assert core.received(ack(lane.at(5)), 1) == []  # no further ack counts while forked


def test_a_forked_branch_is_handed_over_once() -> None:
    """What the centre did not acknowledge goes to its quarantine, bounded, and is not repeated."""
    lane = lane_of(2_000)
    core = core_of(lane, acked=150)
    core.connected(0)
    core.hello_sent(5)
    actions = core.received(welcome(Position(1, 160, bytes(32))), 0)
    sent = [action for action in actions if isinstance(action, SendSegment)]
    assert sent[0] == SendSegment(151, 250)
    assert len(sent) == BRANCH_SEGMENTS_MAX
    core.connected(1)
    core.hello_sent(6)
    again = core.received(welcome(Position(1, 160, bytes(32)), t1=6), 1)
    assert not [action for action in again if isinstance(action, SendSegment)]


def test_old_ack_is_a_no_op_but_a_wrong_one_forks() -> None:
    """An ack at or below acked with our hash is nothing; with another hash it is a fork."""
    lane = lane_of(5)
    core = streaming(lane, acked=4)
    assert core.received(ack(lane.at(2)), 0) == []
    core.received(ack(Position(1, 2, bytes(32))), 0)
    assert core.phase is Phase.FORKED


def test_puback_acknowledges_nothing() -> None:
    """After every PUBACK the acked position stands where the centre put it (rule 1)."""
    lane = lane_of(10)
    core = streaming(lane)
    assert core.timer(1) == []
    assert core.puback(10, 50) == []
    assert core.acked == lane.at(0)
    assert core.deadline_ms() == 50 + ACK_AFTER_PUBACK_MS


def test_ack_timeout_says_hello_not_resend() -> None:
    """10 s after PUBACK or 30 s after sending: hello, and the welcome decides where to go on."""
    lane = lane_of(10)
    core = streaming(lane)
    assert core.timer(ACK_AFTER_SEND_MS - 1) == []
    assert core.timer(ACK_AFTER_SEND_MS) == [SendHello()]
    assert core.phase is Phase.HELLO
    core.hello_sent(6)
    assert core.received(welcome(lane.at(10), t1=6), ACK_AFTER_SEND_MS) == [Keep("welcome")]


def test_hellos_back_off_while_nobody_answers() -> None:
    """10 s, 20 s, 40 s … 5 min: a dead centre is not buried in hellos; a welcome starts afresh."""
    lane = lane_of(1)
    core = core_of(lane)
    assert core.connected(0) == [SendHello()]
    now, waits = 0, []
    for _ in range(8):
        due = core.deadline_ms()
        assert due is not None
        assert core.timer(due) == [SendHello()]
        waits.append((due - now) // 1000)
        now = due
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    core.hello_sent(7)
    core.received(welcome(lane.at(1), t1=7), now)
    assert core.timer(now + HELLO_EVERY_MS) == [SendHello()]
    assert core.deadline_ms() == now + HELLO_EVERY_MS + 10_000


def test_window_is_the_credit() -> None:
    """At most `credit` unacknowledged segments; an ack opens the window again."""
    lane = lane_of(500)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    sent = core.received(welcome(lane.at(0), credit=2), 0)
    assert [a for a in sent if isinstance(a, SendSegment)] == [
        SendSegment(1, 100),
        SendSegment(101, 200),
    ]
    assert core.received(ack(lane.at(100), credit=1), 1) == [Keep("ack")]
    assert core.received(ack(lane.at(200), credit=1), 2) == [Keep("ack"), SendSegment(201, 300)]


def test_flush_waits_then_sends() -> None:
    """Fewer than 100 records go when flush_ms has passed since the oldest."""
    lane = lane_of(1)
    core = streaming(lane, acked=1)
    lane.append(b"new")
    assert core.appended(10_000) == []
    assert core.deadline_ms() == 12_000
    assert core.timer(12_000) == [SendSegment(2, 2)]


def test_need_rewinds_only_on_our_hash() -> None:
    """`need` rewinds when its prev is ours, forks when not, and is ignored when replayed."""
    lane = lane_of(10)
    core = streaming(lane)
    need = Need(TERM, 1, 3, 4, lane.hashes[3])
    assert core.received(need, 0) == [KeepDseq(3), SendSegment(4, 10)]
    assert core.received(need, 0) == []
    core.received(Need(TERM, 1, 4, 4, bytes(32)), 0)
    assert core.phase is Phase.FORKED


def test_need_beyond_tip_forks() -> None:
    """A `need` from behind our tip cannot be ours."""
    lane = lane_of(3)
    core = streaming(lane)
    core.received(Need(TERM, 1, 1, 9, bytes(32)), 0)
    assert core.phase is Phase.FORKED


def test_reject_holds_and_retries_hourly() -> None:
    """HOLD keeps trading, retries with a hello after an hour, and an ack ends it."""
    lane = lane_of(3)
    core = streaming(lane)
    stale = Reject(TERM, 1, 1, 0, 0, "SYNC_BAD_SIG")
    assert core.received(stale, 0) == [KeepDseq(1)]
    reject = Reject(TERM, 1, 2, 1, 3, "SYNC_BAD_SIG")
    assert core.received(reject, 0) == [KeepDseq(2), Keep("reject"), Alarm("SYNC_BAD_SIG")]
    assert core.phase is Phase.HOLD
    assert core.timer(RETRY_HOLD_MS) == [SendHello()]
    core.received(ack(lane.at(3)), 0)
    assert core.phase is Phase.STREAM


def test_halt_and_grant() -> None:
    """halt is kept for the terminal; a grant of a newer epoch too, an older one is not."""
    lane = lane_of(3)
    core = streaming(lane)
    halt = Halt(TERM, 1, 1, "SYNC_FENCED")
    assert core.received(halt, 0) == [KeepDseq(1), Keep("halt"), Alarm("SYNC_FENCED")]
    grant = Grant(TERM, 2, 2, lane.at(3), bytes(32), 0)
    assert core.received(grant, 0) == [KeepDseq(2), Keep("grant")]
    assert core.received(Grant(TERM, 3, 1, lane.at(3), bytes(32), 0), 0) == [KeepDseq(3)]


def test_new_epoch_starts_from_zero() -> None:
    """When the terminal opened its new epoch the core says hello with it, and sends from 1."""
    lane = lane_of(3)
    core = streaming(lane)
    lane.epoch, lane.hashes = 2, [bytes(32), link(bytes(32), b"EPOCH")]
    assert core.appended(0) == [SendHello()]
    assert core.acked == Position(2, 0, bytes(32))
    core.hello_sent(7)
    assert SendSegment(1, 1) in core.received(welcome(lane.at(0), t1=7), 0)


def test_welcome_of_another_epoch_is_ignored() -> None:
    """A position of another epoch says nothing about this journal."""
    lane = lane_of(3)
    core = core_of(lane)
    core.connected(0)
    core.hello_sent(5)
    assert core.received(welcome(Position(2, 0, bytes(32))), 0) == []


def test_backoff_grows_and_resets() -> None:
    """Full jitter up to 300 s; a minute connected starts again at 1 s; 5 refusals ask /status."""
    core = core_of(lane_of(1))
    delays = [core.disconnected(0) for _ in range(12)]
    assert [a[0] for a in delays[:3]] == [Dial(1_000), Dial(2_000), Dial(4_000)]
    assert delays[-1] == [Dial(300_000)]
    core.connected(0)
    assert core.disconnected(60_000) == [Dial(1_000)]
    asked = [AskStatus() in core.disconnected(0, refused=True) for _ in range(6)]
    assert asked == [False, False, False, False, True, False]


def test_no_hello_answer_says_hello_again() -> None:
    """A lost welcome costs ten seconds."""
    core = core_of(lane_of(1))
    core.connected(0)
    assert core.deadline_ms() == HELLO_ANSWER_MS
    assert core.timer(HELLO_ANSWER_MS) == [SendHello()]


def test_a_refusal_told_twice_is_one() -> None:
    """The client reports a refused session as refused and then as lost: five still ask /status."""
    core = core_of(lane_of(1))
    asked = []
    for _ in range(5):
        asked.append(AskStatus() in core.disconnected(0, refused=True))
        asked.append(AskStatus() in core.disconnected(0))
    assert [n for n, one in enumerate(asked) if one] == [8]
    core.disconnected(0, refused=True)
    core.connected(0)
    assert not any(AskStatus() in core.disconnected(0, refused=True) for _ in range(4))
