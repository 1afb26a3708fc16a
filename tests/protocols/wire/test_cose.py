"""COSE_Sign1 by hand against another implementation (cwt)."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cwt import COSE, COSEKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import SignatureError, WireFormError
from protocols.wire import cbor
from protocols.wire.cose import KeyRing, P256Signer, kid_of, load_spki, open1, sign1, verify

KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
OTHER = P256Signer(ec.derive_private_key(0xBAD, ec.SECP256R1()))
SIGNER = P256Signer(KEY)
RING = KeyRing([SIGNER.spki])


@given(st.binary(max_size=300))
@settings(max_examples=25)
def test_round_trip(payload: bytes) -> None:
    """What we sign opens to the same payload."""
    assert RING.open(sign1(payload, SIGNER)) == payload


def test_deterministic() -> None:
    """Equal input, equal bytes: the simulator's digest depends on it."""
    assert sign1(b"x", SIGNER) == sign1(b"x", SIGNER)


def test_envelope_is_85_bytes() -> None:
    """The size the design computes with."""
    assert len(sign1(b"p" * 50, SIGNER)) - 50 <= 86


def test_oracle_reads_ours() -> None:
    """cwt verifies our envelope under our kid."""
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = COSEKey.from_pem(pem, kid=SIGNER.kid, alg="ES256")
    assert COSE.new().decode(sign1(b"hello", SIGNER), key) == b"hello"


def test_we_read_the_oracle() -> None:
    """An envelope made by cwt opens here."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = COSEKey.from_pem(pem, kid=SIGNER.kid, alg="ES256")
    raw = COSE.new(alg_auto_inclusion=True).encode(
        b"hello", key, protected={"alg": "ES256", "kid": SIGNER.kid}
    )
    assert RING.open(raw) == b"hello"


def test_every_flipped_bit_is_refused() -> None:
    """No single bit of an envelope can change unseen."""
    raw = sign1(b"amount 5", SIGNER)
    for n in range(len(raw) * 8):
        bent = bytearray(raw)
        bent[n // 8] ^= 1 << n % 8
        with pytest.raises((SignatureError, WireFormError)):
            RING.open(bytes(bent))


def test_foreign_key() -> None:
    """A valid signature by a key that is not pinned is refused."""
    with pytest.raises(SignatureError) as caught:
        RING.open(sign1(b"x", OTHER))
    assert caught.value.facts["field"] == "kid"


def test_borrowed_kid() -> None:
    """Our kid over another's signature is refused."""

    class Liar:
        kid = SIGNER.kid
        sign = OTHER.sign

    with pytest.raises(SignatureError):
        verify(open1(sign1(b"x", Liar())), load_spki(SIGNER.spki))


@given(st.binary(max_size=120))
def test_total(raw: bytes) -> None:
    """Hostile bytes give WIRE_FORM or WIRE_SIG."""
    with pytest.raises((WireFormError, SignatureError)):
        RING.open(raw)


def test_bad_spki() -> None:
    """A public key that is none, or of another curve, is a typed error."""
    with pytest.raises(SignatureError):
        load_spki(b"junk")
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    der = other.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(SignatureError):
        load_spki(der)
    assert len(kid_of(der)) == 8


@pytest.mark.parametrize("length", [0, 63, 65, 96])
def test_signature_of_another_length(length: int) -> None:
    """r and s are 32 bytes each, no more and no less: one payload has one envelope."""
    protected, rest = _split(sign1(b"payload", SIGNER))
    signature = cbor.dumps((rest[-64:] + bytes(64))[:length])
    raw = protected + cbor.dumps(b"payload") + signature
    with pytest.raises(WireFormError):
        open1(raw)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """An envelope of b"payload": what stands before the payload, and the rest."""
    at = raw.index(cbor.dumps(b"payload"))
    return raw[:at], raw[at:]
