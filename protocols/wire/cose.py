"""COSE_Sign1 with ES256, written by hand (RFC 9052 §4.2; sync.md §3 says why).

Deterministic signatures (RFC 6979): the simulator's digest needs equal bytes for an equal seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from protocols.errors import SignatureError, WireFormError
from protocols.wire import cbor, shape

KID_BYTES = 8
SIGNATURE_BYTES = 64
ENVELOPE_BYTES_MAX = 96
_TAG_18 = b"\xd2"
_ARRAY_4 = b"\x84"
_EMPTY_MAP = b"\xa0"
_ALG, _ES256, _KID = 1, -7, 4
_CLAUSE = "RFC 9052 4.2"


class Signer(Protocol):
    """A private P-256 key somewhere: file, token or simulator."""

    @property
    def kid(self) -> bytes:
        """First 8 bytes of SHA-256 of the public key's SPKI."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes r || s over SHA-256 of the message."""


class P256Signer:
    """Signer over a key in memory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.spki = spki_of(key.public_key())
        self._kid = kid_of(self.spki)

    @property
    def kid(self) -> bytes:
        """First 8 bytes of SHA-256 of the public key's SPKI."""
        return self._kid

    def sign(self, message: bytes) -> bytes:
        """64 bytes r || s, deterministic k."""
        algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        r, s = decode_dss_signature(self._key.sign(message, algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Signed:
    """An opened envelope whose signature has not been judged yet."""

    kid: bytes
    payload: bytes
    signature: bytes
    message: bytes  # Sig_structure: what was signed


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def kid_of(spki: bytes) -> bytes:
    """Key id: first 8 bytes of SHA-256 of the SPKI (sync.md §2)."""
    return sha256(spki).digest()[:KID_BYTES]


def load_spki(spki: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from its SPKI. Raises WIRE_SIG."""
    try:
        key = serialization.load_der_public_key(spki)
    except ValueError as exc:
        raise SignatureError(field="spki", offset=0, clause="RFC 5280 4.1") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise SignatureError(field="spki", offset=0, clause="sync.md 2")
    return key


class KeyRing:
    """Public keys by kid: what a receiver trusts."""

    def __init__(self, spkis: Mapping[bytes, bytes] | tuple[bytes, ...] | list[bytes]) -> None:
        listed = spkis.values() if isinstance(spkis, Mapping) else spkis
        self._keys = {kid_of(spki): load_spki(spki) for spki in listed}

    def open(self, raw: bytes, limit: int = 1 << 18) -> bytes:
        """The payload of an envelope signed by a key of this ring. Raises WIRE_SIG, WIRE_FORM."""
        signed = open1(raw, limit)
        key = self._keys.get(signed.kid)
        if key is None:
            raise SignatureError(field="kid", offset=0, got=signed.kid, clause=_CLAUSE)
        verify(signed, key)
        return signed.payload


def sign1(payload: bytes, signer: Signer) -> bytes:
    """Tagged COSE_Sign1 over the payload: 85 bytes of envelope for payloads below 256 bytes."""
    protected = _protected(signer.kid)
    signature = signer.sign(_structure(protected, payload))
    assert len(signature) == SIGNATURE_BYTES, len(signature)
    parts = (cbor.dumps(protected), _EMPTY_MAP, cbor.dumps(payload), cbor.dumps(signature))
    return _TAG_18 + _ARRAY_4 + b"".join(parts)


def open1(raw: bytes, limit: int = 1 << 18) -> Signed:
    """Take an envelope apart without judging it. Raises WIRE_FORM."""
    if len(raw) > limit or raw[:2] != _TAG_18 + _ARRAY_4:
        raise WireFormError(field="cose", offset=0, clause=_CLAUSE)
    protected, unprotected, payload, signature = shape.array(cbor.loads(raw[1:]), range(4, 5))
    for n, part in ((0, protected), (2, payload), (3, signature)):
        if type(part) is not bytes:
            raise WireFormError(field="cose", offset=n, clause=_CLAUSE)
    header = cbor.loads(protected)
    kid = header.get(_KID) if type(header) is dict and len(header) == 2 else None
    if unprotected != {} or kid is None or header.get(_ALG) != _ES256:
        raise WireFormError(field="header", offset=0, clause=_CLAUSE)
    if type(kid) is not bytes or len(kid) != KID_BYTES or len(signature) != SIGNATURE_BYTES:
        raise WireFormError(field="kid", offset=0, clause=_CLAUSE)
    return Signed(kid, payload, signature, _structure(protected, payload))


def verify(signed: Signed, key: ec.EllipticCurvePublicKey) -> None:
    """Check the signature of an opened envelope. Raises WIRE_SIG."""
    r = int.from_bytes(signed.signature[:32], "big")
    s = int.from_bytes(signed.signature[32:], "big")
    try:
        der = encode_dss_signature(r, s)
        key.verify(der, signed.message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as exc:
        raise SignatureError(field="signature", offset=0, clause=_CLAUSE) from exc


def _protected(kid: bytes) -> bytes:
    return cbor.dumps({_ALG: _ES256, _KID: kid})


def _structure(protected: bytes, payload: bytes) -> bytes:
    return cbor.dumps(["Signature1", protected, b"", payload])
