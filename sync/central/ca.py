"""The campus's own certificate authority: terminals, services, servers (sync.md §2, §10).

A certificate is built from the enrolment row. Nothing is copied from a request but the public key,
after the request's own signature proved that the asker holds the private one: a SAN would win over
the subject at the broker and let one terminal act as another (sync.md §8).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from firmware.base.rng import Rng
from sync.errors import EnrolCsrError

CSR_BYTES_MAX = 4_096
DAY_US = 86_400_000_000
TERMINAL_DAYS = 365
SERVER_DAYS = 365
CA_DAYS = 3_650
BACKDATE_US = 300_000_000  # a device clock may be a little behind
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Public = ec.EllipticCurvePublicKey


def instant(at_us: int) -> datetime:
    """µs UTC as the aware datetime that x509 wants."""
    return _EPOCH + timedelta(microseconds=at_us)


def public_key_of(csr_der: bytes) -> Public:
    """The key of a request that proves possession. Raises ENROL_CSR."""
    if len(csr_der) > CSR_BYTES_MAX:
        raise EnrolCsrError(size=len(csr_der), max=CSR_BYTES_MAX)
    try:
        csr = x509.load_der_x509_csr(csr_der)
        key = csr.public_key()
        proved = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as fault:
        raise EnrolCsrError(reason="not a request") from fault
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise EnrolCsrError(reason="not P-256")
    if not proved:
        raise EnrolCsrError(reason="signature")
    return key


def create_root(campus: str, key: ec.EllipticCurvePrivateKey, rng: Rng, now_us: int) -> bytes:
    """The self-signed root as PEM."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, campus),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{campus} onecard CA"),
        ]
    )
    public = key.public_key()
    usage = _key_usage(sign_certificates=True)
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = _builder(name, name, public, rng, now_us, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True).add_extension(ski, critical=False)
    return _pem(builder.sign(key, hashes.SHA256()))


class Authority:
    """Issues certificates under the campus root."""

    def __init__(
        self, campus: str, key: ec.EllipticCurvePrivateKey, root_pem: bytes, rng: Rng
    ) -> None:
        self.campus = campus
        self.root_pem = root_pem
        self._key = key
        self._root = x509.load_pem_x509_certificate(root_pem)
        self._rng = rng

    def terminal(self, code: str, generation: int, key: Public, now_us: int) -> bytes:
        """A terminal's client certificate: O=<campus>, OU=g<generation>, CN=<code>; PEM."""
        name = self._name(code, f"g{generation}")
        builder = _builder(name, self._root.subject, key, self._rng, now_us, TERMINAL_DAYS)
        return self._finish(builder, key, ExtendedKeyUsageOID.CLIENT_AUTH)

    def service(self, name: str, key: Public, now_us: int) -> bytes:
        """A client certificate of one of the centre's processes, one CN per process; PEM."""
        subject = self._name(name)
        builder = _builder(subject, self._root.subject, key, self._rng, now_us, SERVER_DAYS)
        return self._finish(builder, key, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, name: str, hosts: Sequence[str], key: Public, now_us: int) -> bytes:
        """A server certificate with these hosts as its SAN; PEM."""
        subject = self._name(name)
        builder = _builder(subject, self._root.subject, key, self._rng, now_us, SERVER_DAYS)
        san = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(san, critical=False)
        return self._finish(builder, key, ExtendedKeyUsageOID.SERVER_AUTH)

    def _name(self, common: str, unit: str | None = None) -> x509.Name:
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.campus)]
        if unit is not None:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
        return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def _finish(
        self, builder: x509.CertificateBuilder, key: Public, use: x509.ObjectIdentifier
    ) -> bytes:
        issuer = self._key.public_key()
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(aki, critical=False)
        )
        return _pem(builder.sign(self._key, hashes.SHA256()))


def until_us(pem: bytes) -> int:
    """The end of a certificate's life in µs UTC."""
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return int((end - _EPOCH).total_seconds()) * 1_000_000


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Public, rng: Rng, now_us: int, days: int
) -> x509.CertificateBuilder:
    serial = int.from_bytes(rng.token(16), "big") >> 1 | 1
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(instant(now_us - BACKDATE_US))
        .not_valid_after(instant(now_us + days * DAY_US))
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
