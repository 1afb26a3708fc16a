"""The purse's cryptography behind one interface, so that another suite may follow.

`pboc-3des` of card.md §3: two-key triple DES in ECB for keys and sessions, single-DES CBC-MAC
with 80 00.. padding for MAC1, MAC2 and TAC, and the mixed MAC of secure messaging. The same
message builders serve terminal, PSAM, centre and simulator.

The library keeps triple DES under `decrepit` and wants 24-byte keys: a two-key K is K ‖ K[:8],
single DES is K ‖ K ‖ K.
"""

import hmac
from typing import Protocol

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from protocols.money import Fen

BLOCK_LEN = 8
MAC_LEN = 4
LOAD_SESSION_TAIL = b"\x80\x00"


class Suite(Protocol):
    """Everything that depends on the cipher; keys and messages are raw bytes."""

    name: str

    def diversify(self, mk: bytes, asn8: bytes) -> bytes:
        """The card's own key from a master key and the last 8 bytes of the ASN."""
        ...

    def purchase_session(self, dpk: bytes, rnd: bytes, ctr: int, termseq: int) -> bytes:
        """Session key of one purchase."""
        ...

    def load_session(self, dlk: bytes, rnd: bytes, onlseq: int) -> bytes:
        """Session key of one load."""
        ...

    def mac(self, ses: bytes, message: bytes) -> bytes:
        """4-byte MAC under a session key."""
        ...

    def tac(self, dtk: bytes, message: bytes) -> bytes:
        """4-byte transaction certificate under the card's TAC key."""
        ...

    def sm_mac(self, key: bytes, rnd: bytes, message: bytes) -> bytes:
        """4-byte secure-messaging MAC over header (with final Lc) and data."""
        ...

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        """Whole blocks in ECB (EXTERNAL and INTERNAL AUTHENTICATE)."""
        ...

    def mac1_purchase(self, ses: bytes, message: bytes) -> bytes:
        """MAC1 over `purchase_mac1_message`."""
        ...

    def mac2_purchase(self, ses: bytes, fen: Fen) -> bytes:
        """The MAC2 that a card answers to a debit of `fen`."""
        ...


def pad80(message: bytes) -> bytes:
    """`message` ‖ 80 ‖ 00.. to a multiple of 8, always at least one byte."""
    padded = message + b"\x80"
    return padded + bytes(-len(padded) % BLOCK_LEN)


def same_mac(left: bytes, right: bytes) -> bool:
    """Constant-time comparison; the only way MACs are compared."""
    return hmac.compare_digest(left, right)


def xor(left: bytes, right: bytes) -> bytes:
    """Bytewise exclusive or of equal lengths."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def fold(key: bytes) -> bytes:
    """Left half xor right half of a 16-byte key; an 8-byte key is returned as it is."""
    assert len(key) in (8, 16), len(key)
    return key if len(key) == 8 else xor(key[:8], key[8:])


def _key24(key: bytes) -> bytes:
    assert len(key) in (8, 16), len(key)
    return key * 3 if len(key) == 8 else key + key[:8]


def tdes(key: bytes, plain: bytes) -> bytes:
    """Encrypt whole blocks: two-key triple DES (16-byte key) or single DES (8), ECB."""
    assert len(plain) % BLOCK_LEN == 0, len(plain)
    # S305: the card's mode, over single blocks of nonce or identity, fixed by the specification.
    encryptor = Cipher(TripleDES(_key24(key)), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(plain) + encryptor.finalize()


def cbc_mac(key8: bytes, message: bytes) -> bytes:
    """Single-DES CBC-MAC of `pad80(message)`, IV 0, left 4 bytes."""
    assert len(key8) == BLOCK_LEN, len(key8)
    encryptor = Cipher(TripleDES(_key24(key8)), modes.CBC(bytes(BLOCK_LEN))).encryptor()
    last = (encryptor.update(pad80(message)) + encryptor.finalize())[-BLOCK_LEN:]
    return last[:MAC_LEN]


class Pboc3Des:
    """Suite `pboc-3des` (card.md §3)."""

    name = "pboc-3des"

    def diversify(self, mk: bytes, asn8: bytes) -> bytes:
        """tdes(MK, ASN8) ‖ tdes(MK, not ASN8); 16 bytes."""
        assert len(asn8) == BLOCK_LEN, len(asn8)
        return tdes(mk, asn8 + bytes(octet ^ 0xFF for octet in asn8))

    def purchase_session(self, dpk: bytes, rnd: bytes, ctr: int, termseq: int) -> bytes:
        """tdes(DPK, rnd4 ‖ offseq2 ‖ low 2 bytes of termseq); 8 bytes."""
        assert len(rnd) == 4, len(rnd)
        return tdes(dpk, rnd + ctr.to_bytes(2, "big") + (termseq & 0xFFFF).to_bytes(2, "big"))

    def load_session(self, dlk: bytes, rnd: bytes, onlseq: int) -> bytes:
        """tdes(DLK, rnd4 ‖ onlseq2 ‖ 8000); 8 bytes."""
        assert len(rnd) == 4, len(rnd)
        return tdes(dlk, rnd + onlseq.to_bytes(2, "big") + LOAD_SESSION_TAIL)

    def mac(self, ses: bytes, message: bytes) -> bytes:
        """CBC-MAC under the 8-byte session key."""
        return cbc_mac(ses, message)

    def tac(self, dtk: bytes, message: bytes) -> bytes:
        """CBC-MAC under DTK left xor right."""
        return cbc_mac(fold(dtk), message)

    def sm_mac(self, key: bytes, rnd: bytes, message: bytes) -> bytes:
        """DES-CBC with the left half, last block under the whole key; IV = rnd4 ‖ 00000000.

        With an 8-byte key this is the plain CBC-MAC with that IV; an 8-byte `rnd` is the IV.
        """
        assert len(rnd) in (4, 8), len(rnd)
        padded = pad80(message)
        chain = rnd + bytes(BLOCK_LEN - len(rnd))
        for start in range(0, len(padded) - BLOCK_LEN, BLOCK_LEN):
            chain = tdes(key[:8], xor(chain, padded[start : start + BLOCK_LEN]))
        return tdes(key, xor(chain, padded[-BLOCK_LEN:]))[:MAC_LEN]

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        """ECB over whole blocks."""
        return tdes(key, plain)

    def mac1_purchase(self, ses: bytes, message: bytes) -> bytes:
        """mac(SES, amt ‖ type ‖ tid ‖ date ‖ time)."""
        return cbc_mac(ses, message)

    def mac2_purchase(self, ses: bytes, fen: Fen) -> bytes:
        """mac(SES, amt4)."""
        return cbc_mac(ses, purchase_mac2_message(fen))


def _amount(fen: int) -> bytes:
    return fen.to_bytes(4, "big")


def _sized(raw: bytes, size: int) -> bytes:
    assert len(raw) == size, (size, raw)
    return raw


def purchase_mac1_message(fen: Fen, type: int, tid: bytes, date: bytes, time: bytes) -> bytes:
    """amt4 ‖ type1 ‖ tid6 ‖ date4 ‖ time3; also the message of a load's MAC2 (host date, time)."""
    who = bytes((type,)) + _sized(tid, 6)
    return _amount(fen) + who + _sized(date, 4) + _sized(time, 3)


def purchase_mac2_message(fen: Fen) -> bytes:
    """amt4."""
    return _amount(fen)


def purchase_tac_message(
    fen: Fen, type: int, tid: bytes, termseq: int, date: bytes, time: bytes
) -> bytes:
    """amt4 ‖ type1 ‖ tid6 ‖ termseq4 ‖ date4 ‖ time3."""
    who = bytes((type,)) + _sized(tid, 6) + termseq.to_bytes(4, "big")
    return _amount(fen) + who + _sized(date, 4) + _sized(time, 3)


def load_mac1_message(old_balance: Fen, fen: Fen, type: int, tid: bytes) -> bytes:
    """oldbal4 ‖ amt4 ‖ type1 ‖ tid6."""
    return _amount(old_balance) + _amount(fen) + bytes((type,)) + _sized(tid, 6)


def load_mac2_message(fen: Fen, type: int, tid: bytes, date: bytes, time: bytes) -> bytes:
    """amt4 ‖ type1 ‖ tid6 ‖ date4 ‖ time3, host date and time."""
    return purchase_mac1_message(fen, type, tid, date, time)


def load_tac_message(
    new_balance: Fen, onlseq: int, fen: Fen, type: int, tid: bytes, when: bytes
) -> bytes:
    """newbal4 ‖ onlseq2 (before +1) ‖ amt4 ‖ type1 ‖ tid6 ‖ `when` = date4 ‖ time3."""
    who = bytes((type,)) + _sized(tid, 6)
    counted = _amount(new_balance) + onlseq.to_bytes(2, "big")
    return counted + _amount(fen) + who + _sized(when, 7)


SUITES: dict[str, type[Pboc3Des]] = {Pboc3Des.name: Pboc3Des}
