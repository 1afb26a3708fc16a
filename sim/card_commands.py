"""The command set of the simulated card: one function per instruction, refusing by the manual.

Each function takes the card's working memory and the parsed command and returns the next memory
with its answer; nothing here writes EEPROM (sim/card.py swaps the purse in as one piece).
Parsing is done here byte by byte, not with the product's own builders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from firmware.base.rng import Rng
from protocols.card.card_profile import CardProfile
from protocols.card.suite import (
    Suite,
    load_mac1_message,
    load_mac2_message,
    load_tac_message,
    purchase_mac1_message,
    purchase_tac_message,
    same_mac,
)
from protocols.money import Fen
from sim.card_memory import (
    PIN_TRIES,
    STAFF_FILE_LEN,
    UNBLOCK_TRIES,
    Block,
    CardKeys,
    Moved,
    Purse,
    credited,
    debited,
    is_offline,
)

OK = 0x9000
PURCHASE, LOAD = 0x06, 0x02
COUNTER_MAX = 65_535
SECURED = (0xD6, 0x1E, 0x18, 0x16)  # the only instructions that know secure messaging
KEY_VERSION, ALGORITHM = 0x01, 0x00


@dataclass(frozen=True, slots=True)
class Session:
    """An INITIALIZE waiting for its DEBIT or CREDIT."""

    load: bool
    fen: int
    tid: bytes
    rnd: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """Working memory during one command; `purse` and `moved` are what will be committed."""

    purse: Purse
    keys: CardKeys
    profile: CardProfile
    suite: Suite
    rng: Rng
    pin: bytes
    selected: bool = False
    pin_shown: bool = False
    session: Session | None = None
    challenge: bytes | None = None
    moved: Moved | None = None
    reply: bytes = b""

    def said(self, sw: int, body: bytes = b"") -> Work:
        """The same memory with this answer."""
        return replace(self, reply=body + sw.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A command taken apart; `le` is -1 when absent."""

    cla: int
    p1: int
    p2: int
    body: bytes
    le: int

    @property
    def p12(self) -> tuple[int, int]:
        """P1 and P2."""
        return self.p1, self.p2


def answer(work: Work, apdu: bytes) -> Work:
    """What the card makes of an APDU."""
    asked = _parse(apdu)
    if asked is None:
        return replace(work, session=None, challenge=None).said(0x6700)
    key = (asked.cla & ~0x04 if apdu[1] in SECURED else asked.cla, apdu[1])
    if key not in COMMANDS:
        known = any(cla == key[0] for cla, _ in COMMANDS)
        return replace(work, session=None).said(0x6D00 if known else 0x6E00)
    if work.purse.block is Block.CARD:
        return replace(work, session=None).said(0x6A81)
    if apdu[1] not in (0x52, 0x54):
        work = replace(work, session=None)
    kept = work.challenge
    done = COMMANDS[key](work, asked)
    return replace(done, challenge=None) if done.challenge is kept else done


def _parse(apdu: bytes) -> Asked | None:
    if len(apdu) < 5:
        return Asked(apdu[0], apdu[2], apdu[3], b"", -1) if len(apdu) == 4 else None
    cla, p1, p2, lc = apdu[0], apdu[2], apdu[3], apdu[4]
    if len(apdu) == 5:
        return Asked(cla, p1, p2, b"", lc)
    body, rest = apdu[5 : 5 + lc], apdu[5 + lc :]
    if lc == 0 or len(body) != lc or len(rest) > 1:
        return None
    return Asked(cla, p1, p2, body, rest[0] if rest else -1)


def _select(work: Work, asked: Asked) -> Work:
    fresh = replace(work, selected=False, pin_shown=False)
    if asked.p12 == (4, 0):
        if asked.body != work.profile.aid:
            return fresh.said(0x6A82)
        if work.purse.block is not Block.OPEN:
            return replace(fresh, selected=True).said(0x6A81)
        return replace(fresh, selected=True).said(OK, _fci(work))
    if asked.p12 != (0, 0):
        return work.said(0x6A86)
    if asked.body == b"\x3f\x00":
        return fresh.said(OK)
    inside = asked.body in (b"\x00\x15", b"\x00\x16", b"\x00\x18")
    return work.said(OK if inside and work.selected else 0x6A82)


def _fci(work: Work) -> bytes:
    name = work.profile.aid
    inner = b"\x9f\x08\x01\x02"
    if work.profile.asn_from == "fci":
        info = work.purse.info_raw
        inner += b"\x9f\x0c" + bytes((len(info),)) + info
    body = b"\x84" + bytes((len(name),)) + name + b"\xa5" + bytes((len(inner),)) + inner
    return b"\x6f" + bytes((len(body),)) + body


def _usable(work: Work) -> int:
    """0, or the status word that stops every file and purse command."""
    if not work.selected:
        return 0x6985
    return 0x6A81 if work.purse.block is not Block.OPEN else 0


def _read_binary(work: Work, asked: Asked) -> Work:
    stop = _usable(work)
    files = {
        0x80 | work.profile.sfi_info: work.purse.info_raw,
        0x96: bytes(STAFF_FILE_LEN),
    }
    if stop or asked.body or asked.le < 0:
        return work.said(stop or 0x6700)
    if asked.p1 not in files:
        return work.said(0x6A82)
    rest = files[asked.p1][asked.p2 :]
    if not rest:
        return work.said(0x6B00)
    count = asked.le or len(rest)
    return work.said(0x6C00 | len(rest)) if count > len(rest) else work.said(OK, rest[:count])


def _update_binary(work: Work, asked: Asked) -> Work:
    stop = _usable(work)
    if stop or asked.p1 != 0x80 | work.profile.sfi_info:
        return work.said(stop or 0x6A82)
    if not asked.cla & 4:
        return work.said(0x6987)
    if not _secured(work, asked, 0xD6):
        return work.said(0x6988)
    content, old = asked.body[:-4], work.purse.info_raw
    if asked.p2 + len(content) > len(old):
        return work.said(0x6B00)
    new = old[: asked.p2] + content + old[asked.p2 + len(content) :]
    return replace(work, purse=replace(work.purse, info_raw=new)).said(OK)


def _read_record(work: Work, asked: Asked) -> Work:
    stop = _usable(work)
    rings = {work.profile.sfi_record: work.purse.ring}
    if work.profile.sfi_load_record is not None:
        rings[work.profile.sfi_load_record] = work.purse.load_ring
    if stop or asked.body or asked.le < 0:
        return work.said(stop or 0x6700)
    if asked.p2 & 7 != 4:
        return work.said(0x6A86)
    if asked.p2 >> 3 not in rings:
        return work.said(0x6A82)
    if not work.profile.record_pin_free and not work.pin_shown:
        return work.said(0x6982)
    ring = rings[asked.p2 >> 3]
    if not 1 <= asked.p1 <= len(ring):
        return work.said(0x6A83)
    record = ring[asked.p1 - 1]
    wrong_le = asked.le not in (0, len(record))
    return work.said(0x6C00 | len(record)) if wrong_le else work.said(OK, record)


def _verify(work: Work, asked: Asked) -> Work:
    if stop := _usable(work):
        return work.said(stop)
    if asked.p12 != (0, 0) or not 2 <= len(asked.body) <= 6:
        return work.said(0x6A86 if asked.p12 != (0, 0) else 0x6700)
    if work.purse.pin_tries == 0:
        return work.said(0x6983)
    if same_mac(asked.body, work.pin):
        purse = replace(work.purse, pin_tries=PIN_TRIES)
        return replace(work, purse=purse, pin_shown=True).said(OK)
    left = work.purse.pin_tries - 1
    purse = replace(work.purse, pin_tries=left)
    return replace(work, purse=purse, pin_shown=False).said(0x63C0 | left if left else 0x6983)


def _challenge(work: Work, asked: Asked) -> Work:
    if asked.body or asked.le not in (4, 8):
        return work.said(0x6700)
    rnd = work.rng.token(asked.le)
    return replace(work, challenge=rnd).said(OK, rnd)


def _balance(work: Work, asked: Asked) -> Work:
    if stop := _usable(work):
        return work.said(stop)
    if asked.p12 != (0, 2) or asked.body:
        return work.said(0x6A86)
    if asked.le not in (0, 4):
        return work.said(0x6C04)
    return work.said(OK, work.purse.balance.to_bytes(4, "big"))


def _init(work: Work, asked: Asked) -> Work:
    if stop := _usable(work):
        return work.said(stop)
    if asked.p2 != 2 or asked.p1 not in (0, 1):
        return work.said(0x6A81 if asked.p12 == (3, 2) else 0x6A86)
    if len(asked.body) != 11 or asked.le not in (0, 0x0F if asked.p1 else 0x10):
        return work.said(0x6700)
    fen = int.from_bytes(asked.body[1:5], "big")
    tid = asked.body[5:]
    profile = work.profile
    if asked.body[0] != (profile.keyidx_purchase if asked.p1 else profile.keyidx_load):
        return work.said(0x9403)
    if fen == 0 and not profile.init_zero_ok:
        return work.said(0x6985)
    return _init_purchase(work, fen, tid) if asked.p1 else _init_load(work, fen, tid)


def _init_purchase(work: Work, fen: int, tid: bytes) -> Work:
    purse = work.purse
    if purse.offline >= COUNTER_MAX:
        return work.said(0x9402)
    if fen > purse.balance:
        return work.said(0x9401)
    rnd = work.rng.token(4)
    session = Session(False, fen, tid, rnd) if fen else None
    body = purse.balance.to_bytes(4, "big") + purse.offline.to_bytes(2, "big") + bytes(3)
    body += bytes((KEY_VERSION, ALGORITHM)) + rnd
    return replace(work, session=session).said(OK, body)


def _init_load(work: Work, fen: int, tid: bytes) -> Work:
    purse = work.purse
    if purse.online >= COUNTER_MAX:
        return work.said(0x9402)
    if fen == 0 or purse.balance + fen > work.profile.purse_cap_fen:
        return work.said(0x6985)
    rnd = work.rng.token(4)
    ses = work.suite.load_session(work.keys.dlk, rnd, purse.online)
    mac1 = work.suite.mac(ses, load_mac1_message(Fen(purse.balance), Fen(fen), LOAD, tid))
    body = purse.balance.to_bytes(4, "big") + purse.online.to_bytes(2, "big")
    body += bytes((KEY_VERSION, ALGORITHM)) + rnd + mac1
    return replace(work, session=Session(True, fen, tid, rnd)).said(OK, body)


def _debit(work: Work, asked: Asked) -> Work:
    session, purse = work.session, work.purse
    work = replace(work, session=None)
    if asked.p12 != (1, 0) or len(asked.body) != 15 or asked.le not in (0, 8):
        return work.said(0x6A86 if asked.p12 != (1, 0) else 0x6700)
    if session is None or session.load:
        return work.said(0x6985 if session is None else 0x6901)
    termseq = int.from_bytes(asked.body[:4], "big")
    date, time, mac1 = asked.body[4:8], asked.body[8:11], asked.body[11:]
    fen, tid, suite = Fen(session.fen), session.tid, work.suite
    ses = suite.purchase_session(work.keys.dpk, session.rnd, purse.offline, termseq)
    message = purchase_mac1_message(fen, PURCHASE, tid, date, time)
    if not same_mac(suite.mac1_purchase(ses, message), mac1):
        return work.said(0x9302)
    left = purse.balance - fen
    tac = suite.tac(work.keys.dtk, purchase_tac_message(fen, PURCHASE, tid, termseq, date, time))
    moved = Moved(PURCHASE, fen, purse.offline, tid, termseq, date, time, left, tac)
    mac2 = suite.mac2_purchase(ses, fen)
    purse = debited(purse, work.profile, moved, mac2)
    return replace(work, purse=purse, moved=moved).said(OK, tac + mac2)


def _credit(work: Work, asked: Asked) -> Work:
    session, purse = work.session, work.purse
    work = replace(work, session=None)
    if asked.p12 != (0, 0) or len(asked.body) != 11 or asked.le not in (0, 4):
        return work.said(0x6A86 if asked.p12 != (0, 0) else 0x6700)
    if session is None or not session.load:
        return work.said(0x6985 if session is None else 0x6901)
    date, time, mac2 = asked.body[:4], asked.body[4:7], asked.body[7:]
    fen, tid, suite = Fen(session.fen), session.tid, work.suite
    ses = suite.load_session(work.keys.dlk, session.rnd, purse.online)
    if not same_mac(suite.mac(ses, load_mac2_message(fen, LOAD, tid, date, time)), mac2):
        return work.said(0x9302)
    after = purse.balance + fen
    message = load_tac_message(Fen(after), purse.online, fen, LOAD, tid, date + time)
    tac = suite.tac(work.keys.dtk, message)
    moved = Moved(LOAD, fen, purse.online, tid, None, date, time, after, tac)
    purse = credited(purse, work.profile, moved, mac2)
    return replace(work, purse=purse, moved=moved).said(OK, tac)


def _prove(work: Work, asked: Asked) -> Work:
    if stop := _usable(work):
        return work.said(stop)
    if asked.p1 != 0 or len(asked.body) != 2 or asked.le not in (0, 8):
        return work.said(0x6A86 if asked.p1 else 0x6700)
    purse = work.purse
    proof = purse.offline_proof if is_offline(asked.p2) else purse.online_proof
    seq = int.from_bytes(asked.body, "big")
    if proof is None or (proof.type, proof.seq) != (asked.p2, seq):
        return work.said(0x9406)
    return work.said(OK, proof.mac + proof.tac)


def _secured(work: Work, asked: Asked, ins: int) -> bool:
    """Whether the command's MAC is right under the maintenance key and the last challenge."""
    if work.challenge is None or len(asked.body) < 4:
        return False
    content, mac = asked.body[:-4], asked.body[-4:]
    head = bytes((asked.cla, ins, asked.p1, asked.p2, len(asked.body)))
    return same_mac(work.suite.sm_mac(work.keys.damk, work.challenge, head + content), mac)


def _app_block(work: Work, asked: Asked) -> Work:
    if not work.selected or not asked.cla & 4:
        return work.said(0x6985 if asked.cla & 4 else 0x6987)
    if asked.p1 or asked.p2 > 1:
        return work.said(0x6A86)
    if not _secured(work, asked, 0x1E):
        return work.said(0x6988)
    to = Block.LOCKED if asked.p2 else Block.APPLICATION
    return replace(work, purse=replace(work.purse, block=to)).said(OK)


def _app_unblock(work: Work, asked: Asked) -> Work:
    purse = work.purse
    if purse.block is Block.LOCKED:
        return work.said(0x9303)
    if not work.selected or purse.block is not Block.APPLICATION:
        return work.said(0x6985)
    if _secured(work, asked, 0x18):
        purse = replace(purse, block=Block.OPEN, unblock_tries=UNBLOCK_TRIES)
        return replace(work, purse=purse).said(OK)
    left = purse.unblock_tries - 1
    block = Block.APPLICATION if left else Block.LOCKED
    purse = replace(purse, unblock_tries=left, block=block)
    return replace(work, purse=purse).said(0x6988 if left else 0x9303)


def _card_block(work: Work, asked: Asked) -> Work:
    if not asked.cla & 4 or not _secured(work, asked, 0x16):
        return work.said(0x6988 if asked.cla & 4 else 0x6987)
    return replace(work, purse=replace(work.purse, block=Block.CARD)).said(OK)


COMMANDS: dict[tuple[int, int], Callable[[Work, Asked], Work]] = {
    (0x00, 0xA4): _select,
    (0x00, 0xB0): _read_binary,
    (0x00, 0xD6): _update_binary,
    (0x00, 0xB2): _read_record,
    (0x00, 0x20): _verify,
    (0x00, 0x84): _challenge,
    (0x80, 0x5C): _balance,
    (0x80, 0x50): _init,
    (0x80, 0x54): _debit,
    (0x80, 0x52): _credit,
    (0x80, 0x5A): _prove,
    (0x80, 0x1E): _app_block,
    (0x80, 0x18): _app_unblock,
    (0x80, 0x16): _card_block,
}
"""By class (secure-messaging bit removed) and instruction."""
