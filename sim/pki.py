"""Certificates of every kind a test needs: good ones, foreign ones, expired ones, lying ones.

The centre's own CA (sync.central.ca) never makes the bad ones; that is why they are made here.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CAMPUS = "campus"
YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files of one certificate and its key."""

    certificate: Path
    key: Path


class AnyCa:
    """A certificate authority in a folder; issues whatever it is asked for."""

    def __init__(self, folder: Path, start: datetime.datetime, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.start = start
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} test")])
        builder = self._builder(self._name, self._key.public_key(), start, start + 10 * YEAR)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_CA_USAGE, True)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = builder.add_extension(key_id, False).sign(self._key, hashes.SHA256())
        self.certificate = folder / f"{name}.crt"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "broker") -> Identity:
        """A server certificate for 127.0.0.1 and localhost."""
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        return self.issue(name, san=names, server=True)

    def issue(
        self,
        cn: str,
        *,
        ou: str | None = None,
        san: list[x509.GeneralName] | None = None,
        server: bool = False,
        expired: bool = False,
        file: str | None = None,
    ) -> Identity:
        """A certificate with subject O=campus [OU] CN and, if asked, a SAN."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, CAMPUS)]
        if ou is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, ou))
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, cn))
        key = ec.generate_private_key(ec.SECP256R1())
        end = self.start + (datetime.timedelta(minutes=1) if expired else YEAR)
        start = self.start - 2 * YEAR if expired else self.start
        end = self.start - YEAR if expired else end
        builder = self._builder(x509.Name(attributes), key.public_key(), start, end)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        if san is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), False)
        made = builder.sign(self._key, hashes.SHA256())
        stem = file or cn
        identity = Identity(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        identity.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return identity

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        start: datetime.datetime,
        end: datetime.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )


_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
