"""The purse's commands and answers, one builder and one codec each.

Nothing here sends anything or decides anything; `definite_refusal` is the one table that says
which answers of a money command prove that no money moved (card.md §5.4). Codecs of command
bodies serve card simulators and decoders. Spec: card.md §2 (FMCOS 2.0 manual, chapters 7 to 9).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from protocols.card.apdu import SW, Command
from protocols.card.layout import Layout, cut, uint
from protocols.card.suite import MAC_LEN, Suite, xor
from protocols.errors import CardAnswerError
from protocols.money import Fen, fen

CLAUSE = "card.md §2"
RECORD_LE = 0x17


class Purse(IntEnum):
    """P2 of purse commands: ED 电子存折 or EP 电子钱包."""

    ED = 1
    EP = 2


class TxType(IntEnum):
    """Transaction types we meet; offline and online ones count separately."""

    LOAD_ED = 0x01
    LOAD_EP = 0x02
    UNLOAD = 0x03
    CASH = 0x04
    PURCHASE_ED = 0x05
    PURCHASE = 0x06
    OVERDRAFT = 0x07
    CAPP_PURCHASE = 0x09


class Auth(IntEnum):
    """P1 of INTERNAL AUTHENTICATE."""

    ENCRYPT = 0
    DECRYPT = 1
    MAC = 2


_INIT_ASK: Layout = (("keyidx", 1), ("fen", 4), ("tid", 6))
_PURCHASE_INIT: Layout = (
    ("balance", 4),
    ("offseq", 2),
    ("overdraft", 3),
    ("keyver", 1),
    ("alg", 1),
    ("rnd", 4),
)
_LOAD_INIT: Layout = (
    ("balance", 4),
    ("onlseq", 2),
    ("keyver", 1),
    ("alg", 1),
    ("rnd", 4),
    ("mac1", 4),
)
_DEBIT_ASK: Layout = (("termseq", 4), ("date", 4), ("time", 3), ("mac1", 4))
_CREDIT_ASK: Layout = (("date", 4), ("time", 3), ("mac2", 4))


@dataclass(frozen=True, slots=True)
class InitAsk:
    """Body of INITIALIZE FOR PURCHASE, LOAD and CAPP PURCHASE: keyidx1 amt4 tid6."""

    keyidx: int
    fen: Fen
    tid: bytes

    def encode(self) -> bytes:
        """11 bytes."""
        assert len(self.tid) == 6, self.tid
        return bytes((self.keyidx,)) + self.fen.to_bytes(4, "big") + self.tid

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        keyidx, amount, tid = cut(raw, _INIT_ASK, CardAnswerError, CLAUSE)
        return cls(keyidx[0], fen(uint(amount)), tid)


@dataclass(frozen=True, slots=True)
class PurchaseInit:
    """Answer of INITIALIZE FOR PURCHASE: bal4 offseq2 overdraft3 keyver1 alg1 rnd4."""

    balance: Fen
    offseq: int
    overdraft: int
    keyver: int
    alg: int
    rnd: bytes

    def encode(self) -> bytes:
        """15 bytes."""
        assert len(self.rnd) == 4, self.rnd
        counted = self.balance.to_bytes(4, "big") + self.offseq.to_bytes(2, "big")
        return (
            counted + self.overdraft.to_bytes(3, "big") + bytes((self.keyver, self.alg)) + self.rnd
        )

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        bal, seq, overdraft, keyver, alg, rnd = cut(raw, _PURCHASE_INIT, CardAnswerError, CLAUSE)
        return cls(fen(uint(bal)), uint(seq), uint(overdraft), keyver[0], alg[0], rnd)


@dataclass(frozen=True, slots=True)
class LoadInit:
    """Answer of INITIALIZE FOR LOAD: bal4 onlseq2 keyver1 alg1 rnd4 MAC1(4)."""

    balance: Fen
    onlseq: int
    keyver: int
    alg: int
    rnd: bytes
    mac1: bytes

    def encode(self) -> bytes:
        """16 bytes."""
        assert len(self.rnd) == len(self.mac1) == 4, self
        counted = self.balance.to_bytes(4, "big") + self.onlseq.to_bytes(2, "big")
        return counted + bytes((self.keyver, self.alg)) + self.rnd + self.mac1

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        bal, seq, keyver, alg, rnd, mac1 = cut(raw, _LOAD_INIT, CardAnswerError, CLAUSE)
        return cls(fen(uint(bal)), uint(seq), keyver[0], alg[0], rnd, mac1)


@dataclass(frozen=True, slots=True)
class DebitAsk:
    """Body of DEBIT FOR PURCHASE: termseq4 date4 time3 MAC1(4)."""

    termseq: int
    date: bytes
    time: bytes
    mac1: bytes

    def encode(self) -> bytes:
        """15 bytes."""
        raw = self.termseq.to_bytes(4, "big") + self.date + self.time + self.mac1
        assert len(raw) == 15, len(raw)
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        termseq, date, time, mac1 = cut(raw, _DEBIT_ASK, CardAnswerError, CLAUSE)
        return cls(uint(termseq), date, time, mac1)


@dataclass(frozen=True, slots=True)
class CreditAsk:
    """Body of CREDIT FOR LOAD: date4 time3 MAC2(4)."""

    date: bytes
    time: bytes
    mac2: bytes

    def encode(self) -> bytes:
        """11 bytes."""
        raw = self.date + self.time + self.mac2
        assert len(raw) == 11, len(raw)
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        return cls(*cut(raw, _CREDIT_ASK, CardAnswerError, CLAUSE))


@dataclass(frozen=True, slots=True)
class DebitAnswer:
    """Answer of DEBIT FOR PURCHASE: TAC4 MAC2(4)."""

    tac: bytes
    mac2: bytes

    def encode(self) -> bytes:
        """8 bytes."""
        assert len(self.tac) == len(self.mac2) == MAC_LEN, self
        return self.tac + self.mac2

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        return cls(*cut(raw, (("tac", MAC_LEN), ("mac2", MAC_LEN)), CardAnswerError, CLAUSE))


@dataclass(frozen=True, slots=True)
class ProveAnswer:
    """Answer of GET TRANSACTION PROVE: MAC4 TAC4. Its 9000 alone proves nothing (§6.1)."""

    mac: bytes
    tac: bytes

    def encode(self) -> bytes:
        """8 bytes."""
        assert len(self.mac) == len(self.tac) == MAC_LEN, self
        return self.mac + self.tac

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises CardAnswerError (CARD_ANSWER)."""
        return cls(*cut(raw, (("mac", MAC_LEN), ("tac", MAC_LEN)), CardAnswerError, CLAUSE))


def decode_balance(raw: bytes) -> Fen:
    """The 4-byte answer of GET BALANCE. Raises CardAnswerError (CARD_ANSWER)."""
    return fen(uint(*cut(raw, (("balance", 4),), CardAnswerError, CLAUSE)))


def decode_tac(raw: bytes) -> bytes:
    """The 4-byte answer of CREDIT FOR LOAD. Raises CardAnswerError (CARD_ANSWER)."""
    return cut(raw, (("tac", MAC_LEN),), CardAnswerError, CLAUSE)[0]


def select_aid(aid: bytes) -> Command:
    """SELECT by name; without Le, as the manual writes it."""
    return Command(0x00, 0xA4, 0x04, 0x00, aid)


def select_file(file_id: int) -> Command:
    """SELECT by file id."""
    return Command(0x00, 0xA4, 0x00, 0x00, file_id.to_bytes(2, "big"))


def read_binary(sfi: int, offset: int, size: int) -> Command:
    """READ BINARY of `size` bytes (1..256) from a transparent file."""
    return Command(0x00, 0xB0, 0x80 | sfi, offset, le=size)


def read_record(sfi: int, number: int, size: int = RECORD_LE) -> Command:
    """READ RECORD; in a cyclic file record 1 is the newest."""
    return Command(0x00, 0xB2, number, sfi << 3 | 4, le=size)


def get_balance(purse: Purse = Purse.EP) -> Command:
    """GET BALANCE."""
    return Command(0x80, 0x5C, 0x00, purse, le=4)


def init_purchase(amount: Fen, tid: bytes, keyidx: int = 1, purse: Purse = Purse.EP) -> Command:
    """INITIALIZE FOR PURCHASE; moves no money, kills the session before it."""
    return Command(0x80, 0x50, 0x01, purse, InitAsk(keyidx, amount, tid).encode(), le=0x0F)


def init_capp_purchase(amount: Fen, tid: bytes, keyidx: int = 1) -> Command:
    """INITIALIZE FOR CAPP PURCHASE (type 09)."""
    return Command(0x80, 0x50, 0x03, 0x02, InitAsk(keyidx, amount, tid).encode(), le=0x0F)


def init_load(amount: Fen, tid: bytes, keyidx: int = 1, purse: Purse = Purse.EP) -> Command:
    """INITIALIZE FOR LOAD; moves no money."""
    return Command(0x80, 0x50, 0x00, purse, InitAsk(keyidx, amount, tid).encode(), le=0x10)


def debit(termseq: int, date: bytes, time: bytes, mac1: bytes) -> Command:
    """DEBIT FOR PURCHASE: moves money; INTENT must be durable before it is sent, once."""
    return Command(0x80, 0x54, 0x01, 0x00, DebitAsk(termseq, date, time, mac1).encode(), le=8)


def credit_load(date: bytes, time: bytes, mac2: bytes) -> Command:
    """CREDIT FOR LOAD: moves money; LOAD_INTENT must be durable before it is sent, once."""
    return Command(0x80, 0x52, 0x00, 0x00, CreditAsk(date, time, mac2).encode(), le=4)


def prove(type: int, seq: int) -> Command:
    """GET TRANSACTION PROVE of the transaction with that type and counter."""
    return Command(0x80, 0x5A, 0x00, type, seq.to_bytes(2, "big"), le=8)


def update_capp_cache(p1: int, sfi: int, content: bytes, *, by_number: bool = False) -> Command:
    """UPDATE CAPP DATA CACHE; `p1` is the application id, or a record number."""
    return Command(0x80, 0xDC, p1, sfi << 3 | (4 if by_number else 0), content)


def verify_pin(pin: bytes) -> Command:
    """VERIFY PIN, 2 to 6 bytes."""
    assert 2 <= len(pin) <= 6, len(pin)
    return Command(0x00, 0x20, 0x00, 0x00, pin)


def change_pin(old: bytes, new: bytes) -> Command:
    """CHANGE PIN (CLA 80; the manual's own example uses 84)."""
    return Command(0x80, 0x5E, 0x01, 0x00, old + b"\xff" + new)


def reload_pin(new: bytes, suite: Suite, drpk: bytes) -> Command:
    """RELOAD PIN; MAC over the PIN bytes under DRPK left xor right."""
    return Command(0x80, 0x5E, 0x00, 0x00, new + suite.mac(xor(drpk[:8], drpk[8:]), new))


def get_challenge(size: int = 4) -> Command:
    """GET CHALLENGE of 4 or 8 random bytes."""
    assert size in (4, 8), size
    return Command(0x00, 0x84, 0x00, 0x00, le=size)


def auth_cryptogram(suite: Suite, key: bytes, challenge: bytes) -> bytes:
    """E(K, rnd4 ‖ 00000000) or E(K, rnd8): what EXTERNAL AUTHENTICATE sends."""
    assert len(challenge) in (4, 8), len(challenge)
    return suite.encrypt(key, challenge + bytes(8 - len(challenge)))


def external_auth(keyid: int, cryptogram: bytes) -> Command:
    """EXTERNAL AUTHENTICATE; a wrong cryptogram costs a try (63Cx)."""
    assert len(cryptogram) == 8, len(cryptogram)
    return Command(0x00, 0x82, 0x00, keyid, cryptogram)


def internal_auth(keyid: int, content: bytes, mode: Auth = Auth.ENCRYPT) -> Command:
    """INTERNAL AUTHENTICATE."""
    return Command(0x00, 0x88, mode, keyid, content)


def update_binary(sfi: int, offset: int, content: bytes) -> Command:
    """UPDATE BINARY in clear; `secured` adds the MAC."""
    return Command(0x00, 0xD6, 0x80 | sfi, offset, content)


def app_block(*, permanent: bool = False) -> Command:
    """APPLICATION BLOCK without its MAC; must go through `secured`."""
    return Command(0x84, 0x1E, 0x00, 0x01 if permanent else 0x00)


def app_unblock() -> Command:
    """APPLICATION UNBLOCK without its MAC; three bad ones lock for good (9303)."""
    return Command(0x84, 0x18, 0x00, 0x00)


def card_block() -> Command:
    """CARD BLOCK without its MAC; every later command answers 6A81."""
    return Command(0x84, 0x16, 0x00, 0x00)


def sm_message(command: Command) -> bytes:
    """What the secure-messaging MAC covers: header with the final Lc, then data."""
    return command.header + bytes((len(command.body) + MAC_LEN,)) + command.body


def secured(command: Command, suite: Suite, key: bytes, rnd: bytes) -> Command:
    """The same command with CLA bit 04 and a MAC under `key` and the challenge `rnd`."""
    marked = Command(command.cla | 0x04, command.ins, command.p1, command.p2, command.body)
    mac = suite.sm_mac(key, rnd, sm_message(marked))
    return Command(marked.cla, marked.ins, marked.p1, marked.p2, marked.body + mac, command.le)


_DEFINITE = frozenset(
    (
        SW.MAC_WRONG,
        SW.INSUFFICIENT,
        SW.COUNTER_MAX,
        SW.KEY_INDEX,
        SW.LENGTH,
        SW.NOT_ACCEPTED,
        SW.SECURITY_STATE,
        SW.CONDITIONS,
        SW.NOT_SUPPORTED,
        SW.FILE_NOT_FOUND,
        SW.PARAMETERS,
        SW.INS_UNKNOWN,
        SW.CLA_UNKNOWN,
    )
)


def definite_refusal(sw: int) -> bool:
    """True only if this answer to 52 or 54 proves that no money moved (card.md §5.4)."""
    return sw in _DEFINITE
