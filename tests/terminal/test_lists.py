"""Lists and the centre's word: believed only when a pinned key signed them."""

import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.errors import ListError, SignatureError
from protocols.wire import cbor
from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.cose import P256Signer, sign1
from protocols.wire.lists import delta_of, encode_set, head_of
from protocols.wire.messages import Ack, Grant, Halt, Welcome
from protocols.wire.record import Kind
from sim.till_folder import deliver
from sim.till_office import START_US, TERM, Office, RigInbox, asn, grant
from sim.till_rig import TillRig
from terminal.acks import CentreWord
from terminal.errors import IdentityError, ListFormError
from terminal.identity import Identity
from terminal.inbox import VALUE_BYTES_MAX, InboxFile
from terminal.lists import ListDesk

STRANGER = P256Signer(ec.derive_private_key(12_345, ec.SECP256R1()))


def _desk(office: Office) -> tuple[ListDesk, RigInbox]:
    return ListDesk(office.ring), RigInbox(office)


def test_versions_only_rise() -> None:
    """An equal or older version, or one below the journal's, is no offer."""
    office = Office()
    desk, inbox = _desk(office)
    office.publish_all()
    offers = desk.offer(inbox, {"policy": 2})
    assert sorted(offer.name for offer in offers) == ["cards", "operators", "tariff"]
    for offer in offers:
        desk.accept(offer)
    assert desk.offer(inbox, {}) == [] or [o.name for o in desk.offer(inbox, {})] == ["policy"]
    office.block(1, asn(1))
    assert [o.name for o in desk.offer(inbox, {}) if o.name == "cards"] == []
    office.block(2, asn(1))
    (newer,) = (o for o in desk.offer(inbox, {}) if o.name == "cards")
    desk.accept(newer)
    assert desk.current.holds(asn(1))


@pytest.mark.parametrize("what", ["head", "part", "digest", "name", "form"])
def test_what_does_not_verify_is_not_offered(what: str) -> None:
    """A stranger's head or part, another content, another name, a strange form: the old stays."""
    office = Office()
    desk, inbox = _desk(office)
    office.publish_all()
    content = encode_set({1})
    if what == "head":
        office.say("list_head:cards", head_of("cards", 2, content, 1), STRANGER)
        code = SignatureError.code
    elif what == "part":
        office.list_parts["cards"] = [sign1(b"\x80", STRANGER)]
        code = SignatureError.code
    elif what == "digest":
        office.say("list_head:cards", head_of("cards", 1, content, 1))
        code = ListError.code
    elif what == "name":
        office.say("list_head:cards", head_of("policy", 2, content, 1))
        code = ListFormError.code
    else:
        office.publish("policy", 3, cbor.dumps([1]))
        code = ListFormError.code
    name = "policy" if what == "form" else "cards"
    assert name not in [offer.name for offer in desk.offer(inbox, {})]
    assert desk.problems == {name: code}


def test_deltas_lead_a_stored_set_on() -> None:
    """Snapshot parts and signed deltas give the version of the head, or nothing."""
    office = Office()
    desk, inbox = _desk(office)
    office.block(1, asn(1))
    before, after = frozenset({int.from_bytes(asn(1), "big")}), frozenset({7, 9})
    delta = delta_of("cards", 1, before, after)
    office.list_deltas["cards"] = [sign1(delta.encode(), office.signer)]
    office.say("list_head:cards", head_of("cards", 2, encode_set(after), 2))
    (offer,) = desk.offer(inbox, {})
    assert (offer.version, offer.content.blocked) == (2, after)
    office.list_deltas["cards"] = [sign1(delta.encode(), STRANGER)]
    assert ListDesk(office.ring).offer(inbox, {}) == []


def test_a_list_in_use_is_in_the_journal_first(tmp_path: Path) -> None:
    """POLICY{list, version} once per version, also across restarts."""
    rig = TillRig(tmp_path)
    rig.office.block(2, asn(1))
    rig.poll()
    rig.reboot()
    seen = [(r.get("list"), r.get("version")) for kind, r in rig.records() if kind == Kind.POLICY]
    assert len(seen) == len(set(seen)) == 5
    assert ("cards", 2) in seen


def _word(office: Office) -> CentreWord:
    return CentreWord(TERM, office.ring)


def test_the_later_word_counts() -> None:
    """Ack and welcome: the one with the later centre time, though it moves back."""
    office = Office()
    inbox = RigInbox(office)
    office.ack(Position(1, 9, bytes(32)), START_US)
    position = Position(1, 4, bytes(32))
    office.say("welcome", Welcome(TERM, position, 0, 0, START_US + 5, 4, 2_000, 30, {}))
    word = _word(office).take(inbox)
    assert (word.acked, word.contact_us) == (position, START_US + 5)


@pytest.mark.parametrize("name", ["ack", "welcome", "halt", "grant"])
def test_a_stranger_says_nothing(name: str) -> None:
    """A message signed by another key, or for another terminal, is only a problem."""
    office = Office()
    messages = {
        "ack": Ack(TERM, 1, 1, bytes(32), START_US, 4),
        "welcome": Welcome(TERM, NOWHERE, 0, 0, START_US, 4, 2_000, 30, {}),
        "halt": Halt(TERM, 1, 1, "SYNC_FENCED"),
        "grant": grant(2),
    }
    office.say(name, messages[name], STRANGER)
    word = _word(office).take(RigInbox(office))
    assert (word.acked, word.halt, word.grant, word.contact_us) == (None, None, None, 0)
    assert word.problems == (f"{name}:WIRE_SIG",)
    office.say(name, messages[name])
    assert CentreWord("T0002", office.ring).take(RigInbox(office)).problems
    assert not _word(office).take(RigInbox(office)).problems


def test_a_grant_must_fit_its_past() -> None:
    """h0 that does not recompute is no grant."""
    office = Office()
    office.say("grant", Grant(TERM, 2, 2, NOWHERE, genesis(TERM, 3, NOWHERE), START_US))
    word = _word(office).take(RigInbox(office))
    assert word.grant is None
    assert word.problems == ("grant:FRAME_BAD",)


def test_the_daemon_word_alone_prunes_nothing(tmp_path: Path) -> None:
    """An ack the daemon made up, right hash and all, acknowledges nothing (M31)."""
    rig = TillRig(tmp_path)
    tip = rig.journal.tip
    rig.office.say("ack", Ack(TERM, tip.epoch, tip.seq, tip.hash, START_US, 4), STRANGER)
    rig.poll()
    assert rig.journal.acked.seq == 0
    rig.office.ack(tip, START_US)
    rig.poll()
    assert rig.journal.acked == tip


def test_sync_db_as_the_daemon_writes_it(tmp_path: Path) -> None:
    """The file may be missing, appears, changes; every message comes back as stored."""
    inbox = InboxFile(tmp_path / "sync.db")
    assert not inbox.changed()
    assert inbox.kept("ack") is None
    assert inbox.parts("cards") == []
    office = Office()
    office.publish_all()
    office.ack(Position(1, 1, bytes(32)), START_US)
    deliver(tmp_path, office)
    assert inbox.changed()
    assert not inbox.changed()
    assert inbox.kept("ack") == office.messages["ack"]
    assert inbox.parts("tariff") == office.list_parts["tariff"]
    assert inbox.deltas("cards") == []
    office.block(2, asn(1))
    deliver(tmp_path, office)
    assert inbox.changed()
    (offer,) = (o for o in ListDesk(office.ring).offer(inbox, {}) if o.name == "cards")
    assert offer.version == 2
    inbox.close()
    (tmp_path / "sync.db").write_bytes(b"no database at all" * 100)
    assert InboxFile(tmp_path / "sync.db").kept("ack") is None


@pytest.mark.parametrize("spoil", ["missing", "form", "grant", "keys"])
def test_identity_that_does_not_fit(tmp_path: Path, spoil: str) -> None:
    """No file, no CBOR, a grant of a stranger, keys that are none: IDENTITY."""
    office = Office()
    content = {
        "site": "s1",
        "terminal": TERM,
        "centre_keys": [b"x"] if spoil == "keys" else [office.signer.spki],
        "grant": sign1(grant().encode(), STRANGER if spoil == "grant" else office.signer),
    }
    raw = b"\xff" if spoil == "form" else cbor.dumps(content)
    if spoil != "missing":
        (tmp_path / "enrol.cbor").write_bytes(raw)
    with pytest.raises(IdentityError):
        Identity.load(tmp_path)


@pytest.mark.parametrize("value", ["text", 7, 10**12, 0.5, None, bytes(VALUE_BYTES_MAX + 1)])
def test_values_of_another_type_are_no_news(tmp_path: Path, value: object) -> None:
    """A daemon that writes what it should not cannot end the terminal, nor fill its memory."""
    writer = sqlite3.connect(tmp_path / "sync.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    for table in (
        "kept(name, v)",
        "list_part(name, version, idx, cose)",
        "list_delta(name, version, cose)",
        "cmd(id, cose, received_us)",
    ):
        writer.execute(f"CREATE TABLE {table}")
    writer.execute("INSERT INTO kept VALUES ('ack', ?)", (value,))
    writer.execute("INSERT INTO list_part VALUES ('cards', 1, 0, ?)", (value,))
    writer.execute("INSERT INTO list_delta VALUES ('cards', 2, ?)", (value,))
    writer.execute("INSERT INTO cmd VALUES (?1, ?1, ?1)", (value,))
    inbox = InboxFile(tmp_path / "sync.db")
    assert inbox.changed()
    assert inbox.kept("ack") is None
    assert (inbox.parts("cards"), inbox.deltas("cards"), inbox.commands()) == ([], [], [])
    writer.close()
    inbox.close()


def test_sync_db_deleted_and_made_again(tmp_path: Path) -> None:
    """A daemon that starts over with a new file is heard: the old one is not read for ever."""
    office = Office()
    office.ack(Position(1, 1, bytes(32)), START_US)
    deliver(tmp_path, office)
    inbox = InboxFile(tmp_path / "sync.db")
    assert inbox.changed()
    for name in ("sync.db", "sync.db-wal", "sync.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert not inbox.changed()
    office.ack(Position(1, 2, bytes(32)), START_US + 1)
    deliver(tmp_path, office)
    assert inbox.changed()
    assert inbox.kept("ack") == office.messages["ack"]
    assert not inbox.changed()
    inbox.close()
