"""Keys: durable, private, sealed, and never shown."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from firmware.base.errors import (
    KeyExistsError,
    KeyInsecureError,
    KeyMissingError,
    KeySealedError,
)
from firmware.base.keys import DeviceKey, KeyStore, PinnedKeys
from protocols.errors import SignatureError
from protocols.wire.cose import sign1

KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")


def test_device_key_survives_and_signs(tmp_path: Path) -> None:
    """A created key is 0600, loads as the same key, and its signatures verify by its kid."""
    path = tmp_path / "device.key"
    made = DeviceKey.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = DeviceKey.load(path)
    assert (loaded.kid, loaded.spki) == (made.kid, made.spki)
    assert PinnedKeys([made.spki]).open(sign1(b"payload", loaded)) == b"payload"
    assert str(loaded) == f"DeviceKey(kid={made.kid.hex()})"


def test_unpinned_key_is_refused(tmp_path: Path) -> None:
    """A signature by a key that is not pinned does not open."""
    mine, other = (DeviceKey.create(tmp_path / name) for name in ("a", "b"))
    with pytest.raises(SignatureError):
        PinnedKeys([mine.spki]).open(sign1(b"payload", other))


def test_device_key_is_never_overwritten(tmp_path: Path) -> None:
    """Creating over an existing key is KEYS_EXISTS."""
    DeviceKey.create(tmp_path / "k")
    with pytest.raises(KeyExistsError):
        DeviceKey.create(tmp_path / "k")


def test_readable_by_others_is_refused(tmp_path: Path) -> None:
    """A key file that group or others may read is KEYS_INSECURE."""
    path = tmp_path / "k"
    DeviceKey.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyInsecureError):
        DeviceKey.load(path)


def test_not_a_key(tmp_path: Path) -> None:
    """Missing, garbage, another curve and another algorithm: typed errors."""
    with pytest.raises(KeyMissingError):
        DeviceKey.load(tmp_path / "none")
    others = (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate())
    pems = [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for key in others
    ]
    for n, raw in enumerate([b"garbage", *pems]):
        path = tmp_path / str(n)
        path.write_bytes(raw)
        path.chmod(0o600)
        with pytest.raises(KeySealedError):
            DeviceKey.load(path)


def test_store_round_trip_and_lending(tmp_path: Path) -> None:
    """A key is lent to a function by its label; the file does not show it."""
    path = tmp_path / "keys"
    KeyStore.create(path, b"passphrase").add("MPK.1", KEY)
    store = KeyStore.open(path, b"passphrase")
    assert store.labels() == ("MPK.1",)
    assert store.use("MPK.1", len) == 16
    assert KEY.hex() not in path.read_text().lower()
    assert KEY.hex() not in repr(store).lower()
    assert path.stat().st_mode & 0o777 == 0o600


def test_store_refuses(tmp_path: Path) -> None:
    """Wrong passphrase, altered file, unknown label, doubled label, bad label: typed errors."""
    path = tmp_path / "keys"
    store = KeyStore.create(path, b"right")
    store.add("MPK", KEY)
    with pytest.raises(KeySealedError):
        KeyStore.open(path, b"wrong")
    with pytest.raises(KeyMissingError):
        store.use("MLK", len)
    with pytest.raises(KeyExistsError):
        store.add("MPK", KEY)
    with pytest.raises(KeyMissingError):
        store.add("../MPK", KEY)
    text = path.read_text()
    path.write_text(text[:-10] + ("0" if text[-10] != "0" else "1") + text[-9:])
    with pytest.raises(KeySealedError):
        KeyStore.open(path, b"right")


def test_unsealed_store_is_for_development(tmp_path: Path) -> None:
    """Without a passphrase neither create nor open works outside development."""
    with pytest.raises(KeyInsecureError):
        KeyStore.create(tmp_path / "k", None)
    KeyStore.create(tmp_path / "k", None, development=True).add("MPK", KEY)
    assert KeyStore.open(tmp_path / "k", None, development=True).use("MPK", bytes) == KEY
    with pytest.raises(KeyInsecureError):
        KeyStore.open(tmp_path / "k", None)
