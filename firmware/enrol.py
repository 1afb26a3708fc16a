"""Enrolment on the device: a key that never leaves it, a certificate and an epoch for it (sync.md §10).

The centre is known only by the SHA-256 of its CA, printed with the one-time code: the CA certificate
is fetched first and must have that fingerprint, then everything goes over TLS verified by it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from firmware.base.keys import DeviceKey
from firmware.base.rng import Rng, SystemRng
from firmware.errors import EnrolError, EnrolUnreachableError
from protocols.errors import FrameError
from protocols.wire import cbor
from protocols.wire.chain import genesis
from protocols.wire.cose import KeyRing
from protocols.wire.messages import Grant

TIMEOUT_S = 15
ANSWER_BYTES_MAX = 65_536
KEPT = (
    "site",
    "terminal",
    "partition",
    "broker_host",
    "broker_port",
    "centre_keys",
    "campus",
    "grant",
)


def enrol(
    folder: Path, centre_url: str, fingerprint: str, code: str, rng: Rng | None = None
) -> str:
    """Enrol this device and write `folder`; the terminal's name.

    Raises ENROL_FAILED (refused, or enrolled already), ENROL_UNREACHABLE, KEYS_*.
    """
    if (folder / "enrol.cbor").exists():
        raise EnrolError(reason="enrolled already", folder=folder.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_pem = fetch_ca(centre_url, fingerprint)
    key_path = folder / "device.key"
    key = DeviceKey.load(key_path) if key_path.exists() else DeviceKey.create(key_path)
    body = cbor.dumps({"code": code, "csr": request_of(key)})
    answer = post(f"{centre_url}/enrol", body, ca_pem)
    judge(answer, key, ca_pem)
    kept = {name: answer[name] for name in KEPT}
    kept["centre_url"] = centre_url
    kept["client_id"] = f"{answer['terminal']}-{(rng or SystemRng()).token(16).hex()}"
    _write(folder / "device.crt", answer["cert_pem"].encode())
    _write(folder / "ca.crt", ca_pem.encode())
    _write(folder / "enrol.cbor", cbor.dumps(kept))  # last: its presence means enrolled
    return str(answer["terminal"])


def request_of(key: DeviceKey) -> bytes:
    """A CSR in DER: proof of the key and nothing else; the CA takes no name from it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(key.private_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def fetch_ca(centre_url: str, fingerprint: str) -> str:
    """The CA certificate (PEM) that has this SHA-256, read from GET /ca over an unverified line.

    Raises ENROL_UNREACHABLE for no answer, no https, or another fingerprint.
    """
    if urlsplit(centre_url).scheme != "https":
        raise EnrolUnreachableError(url=centre_url, reason="https://host:port expected")
    try:
        der = ssl.PEM_cert_to_DER_cert(_get(f"{centre_url}/ca").decode("ascii"))
    except ValueError as fault:
        raise EnrolUnreachableError(reason="no CA certificate at /ca") from fault
    if hashlib.sha256(der).hexdigest() != fingerprint.replace(":", "").lower():
        raise EnrolUnreachableError(reason="CA fingerprint differs")
    return ssl.DER_cert_to_PEM_cert(der)


def post(url: str, body: bytes, ca_pem: str) -> dict[str, Any]:
    """The centre's CBOR answer over TLS verified by the pinned CA."""
    context = ssl.create_default_context(cadata=ca_pem)
    ask = urllib.request.Request(url, body, {"Content-Type": "application/cbor"})  # noqa: S310  # https demanded by fetch_ca
    try:
        with urllib.request.urlopen(ask, timeout=TIMEOUT_S, context=context) as reply:  # noqa: S310
            raw = reply.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as fault:
        raise EnrolError(
            reason=_code_of(fault.read(ANSWER_BYTES_MAX)), status=fault.code
        ) from fault
    except (OSError, http.client.HTTPException) as fault:
        raise EnrolUnreachableError(url=url, reason=str(fault)) from fault
    answer = _map(raw)
    missing = [name for name in (*KEPT, "cert_pem") if name not in answer]
    if missing:
        raise EnrolError(reason="answer", missing=" ".join(missing))
    return answer


def judge(answer: dict[str, Any], key: DeviceKey, ca_pem: str) -> None:
    """The answer is for this key, from this CA, with a grant that the pinned keys signed."""
    try:
        certificate = x509.load_pem_x509_certificate(answer["cert_pem"].encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        grant = Grant.decode(KeyRing(list(answer["centre_keys"])).open(answer["grant"]))
    except (ValueError, TypeError, AttributeError, InvalidSignature, FrameError) as fault:
        raise EnrolError(reason="certificate or grant", detail=str(fault)[:80]) from fault
    term = answer["terminal"]
    if spki != key.spki or [name.value for name in names] != [term]:
        raise EnrolError(reason="certificate of another device", terminal=str(term))
    if grant.term != term or genesis(term, grant.epoch, grant.prev) != grant.h0:
        raise EnrolError(reason="grant of another terminal", terminal=str(term))


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=_unverified()) as reply:  # noqa: S310  # https, judged by fingerprint
            return bytes(reply.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException) as fault:
        raise EnrolUnreachableError(url=url, reason=str(fault)) from fault


def _map(raw: bytes) -> dict[str, Any]:
    try:
        answer = cbor.loads(raw)
    except FrameError as fault:
        raise EnrolError(reason="answer", code_seen=fault.code) from fault
    if type(answer) is not dict:
        raise EnrolError(reason="answer")
    return answer


def _code_of(raw: bytes) -> str:
    """The stable code in an error answer, whatever its form."""
    try:
        said = cbor.loads(raw)
    except FrameError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("code"), str):
        return str(said["code"])[:40]
    return base64.b16encode(raw[:20]).decode()


def _write(path: Path, raw: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(raw)
    fresh.chmod(0o600)
    fresh.replace(path)
