"""Keys by file: the device's signing key, the pinned keys of others, the store of master keys.

No method returns secret bytes and no error or repr shows them; a master key is lent to a function
for one call (`use`). A hardware module can replace each class behind the same calls (faults.md §12).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firmware.base.errors import (
    KeyExistsError,
    KeyInsecureError,
    KeyMissingError,
    KeySealedError,
)
from protocols.wire.cose import KeyRing, P256Signer

T = TypeVar("T")
LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1


class DeviceKey:
    """A P-256 private key in a 0600 PEM file; signs ES256, 64 bytes r ‖ s."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._signer = P256Signer(key)
        self.spki = self._signer.spki

    def __repr__(self) -> str:
        return f"DeviceKey(kid={self.kid.hex()})"

    @classmethod
    def create(cls, path: Path) -> DeviceKey:
        """Make a key and write it durably. Raises KEYS_EXISTS."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write_new(path, pem)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> DeviceKey:
        """Read the key. Raises KEYS_MISSING, KEYS_INSECURE (mode), KEYS_SEALED (not a P-256 key)."""
        pem = _read_private(path)
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as fault:
            raise KeySealedError(path=str(path)) from fault
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise KeySealedError(path=str(path), reason="not P-256")
        return cls(key)

    @property
    def kid(self) -> bytes:
        """First 8 bytes of SHA-256 of the public key's SPKI."""
        return self._signer.kid

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key object, for a certificate request or a CA: it computes, it is not bytes."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """ES256 signature, r ‖ s, 64 bytes."""
        return self._signer.sign(message)


PinnedKeys = KeyRing
"""Public keys known by their kid: what an owner of pinned keys trusts."""


class KeyStore:
    """Master keys by label in one file, sealed with AES-GCM under a passphrase.

    A file without a passphrase is accepted in development only (KEYS_INSECURE).
    """

    def __init__(self, path: Path, passphrase: bytes | None, keys: dict[str, bytes]) -> None:
        self._path = path
        self._passphrase = passphrase
        self._keys = keys

    def __repr__(self) -> str:
        return f"KeyStore({self._path.name}, labels={self.labels()})"

    @classmethod
    def create(cls, path: Path, passphrase: bytes | None, *, development: bool = False) -> KeyStore:
        """An empty store. Raises KEYS_EXISTS, KEYS_INSECURE."""
        _demand_sealed(path, passphrase, development)
        store = cls(path, passphrase, {})
        _write_new(path, store._box())
        return store

    @classmethod
    def open(cls, path: Path, passphrase: bytes | None, *, development: bool = False) -> KeyStore:
        """Read a store. Raises KEYS_MISSING, KEYS_INSECURE, KEYS_SEALED."""
        _demand_sealed(path, passphrase, development)
        raw = _read_private(path)
        try:
            outer = json.loads(raw)
            clear = outer["keys"] if passphrase is None else json.loads(_unseal(outer, passphrase))
            keys = {str(label): bytes.fromhex(key) for label, key in clear.items()}
        except (ValueError, KeyError, TypeError, AttributeError, InvalidTag) as fault:
            raise KeySealedError(path=str(path)) from fault
        return cls(path, passphrase, keys)

    def labels(self) -> tuple[str, ...]:
        """The labels held, sorted."""
        return tuple(sorted(self._keys))

    def add(self, label: str, key: bytes) -> None:
        """Keep a key durably under a new label. Raises KEYS_EXISTS, KEYS_MISSING (bad label)."""
        if LABEL.fullmatch(label) is None:
            raise KeyMissingError(label=label[:64])
        if label in self._keys:
            raise KeyExistsError(label=label)
        self._keys[label] = bytes(key)
        _replace(self._path, self._box())

    def use(self, label: str, act: Callable[[bytes], T]) -> T:
        """What `act` computes from the key of that label. Raises KEYS_MISSING."""
        if label not in self._keys:
            raise KeyMissingError(label=label)
        return act(self._keys[label])

    def _box(self) -> bytes:
        clear = {label: key.hex() for label, key in self._keys.items()}
        if self._passphrase is None:
            return json.dumps({"format": 1, "sealed": False, "keys": clear}).encode()
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        sealed = AESGCM(_stretch(self._passphrase, salt)).encrypt(
            nonce, json.dumps(clear).encode(), b"onecard-keys-1"
        )
        box = {"format": 1, "sealed": True, "salt": salt.hex(), "nonce": nonce.hex()}
        return json.dumps(box | {"box": sealed.hex()}).encode()


def _unseal(outer: dict[str, str], passphrase: bytes) -> bytes:
    key = _stretch(passphrase, bytes.fromhex(outer["salt"]))
    nonce, box = bytes.fromhex(outer["nonce"]), bytes.fromhex(outer["box"])
    return AESGCM(key).decrypt(nonce, box, b"onecard-keys-1")


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    memory = 128 * SCRYPT_N * SCRYPT_R * 2
    return hashlib.scrypt(
        passphrase, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=memory, dklen=32
    )


def _demand_sealed(path: Path, passphrase: bytes | None, development: bool) -> None:
    if not passphrase and not development:
        raise KeyInsecureError(path=str(path), reason="no passphrase outside development")


def _read_private(path: Path) -> bytes:
    """A secret file's bytes, refused if group or others may read it."""
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except OSError as fault:
        raise KeyMissingError(path=str(path), reason=fault.strerror) from fault
    if stat.S_IMODE(mode) & 0o077:
        raise KeyInsecureError(path=str(path), mode=f"{stat.S_IMODE(mode):04o}")
    return raw


def _write_new(path: Path, raw: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as fault:
        raise KeyExistsError(path=str(path)) from fault
    except OSError as fault:
        raise KeyMissingError(path=str(path), reason=fault.strerror) from fault
    _fill(handle, raw)
    _sync_folder(path)


def _replace(path: Path, raw: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    _fill(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), raw)
    fresh.replace(path)
    _sync_folder(path)


def _fill(descriptor: int, raw: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
