"""Enrolment of a device against a TLS port that answers well, badly, and not at all."""

import hashlib
import http.server
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.base.clock import SystemClock
from firmware.base.keys import DeviceKey
from firmware.base.rng import SystemRng
from firmware.enrol import enrol
from firmware.errors import EnrolError, EnrolUnreachableError
from firmware.notify import notify
from protocols.wire import cbor
from protocols.wire.cose import sign1
from sim.till_office import TERM, Office, grant
from sync.central.ca import Authority, create_root, public_key_of
from terminal.identity import Identity
from terminal.roles import main

CODE = "ABCDE12345"
NOW_US = SystemClock().wall_us()


class Desk:
    """The centre's enrolment port, with an answer that a test may spoil."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.ca = create_root("campus", key, SystemRng(), NOW_US)
        self.authority = Authority("campus", key, self.ca, SystemRng())
        self.office = Office()
        self.asked: list[dict[str, Any]] = []
        self.spoil: Callable[[dict[str, Any]], None] = lambda answer: None
        self.status = 200
        self.shown_ca = self.ca
        self.files = self._server_files(folder)

    def _server_files(self, folder: Path) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self.authority.server("centre", ["127.0.0.1"], key.public_key(), NOW_US)
        certificate, private = folder / "server.crt", folder / "server.key"
        certificate.write_bytes(pem)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA as the office prints it."""
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca.decode())).hexdigest().upper()
        return ":".join(digest[n : n + 2] for n in range(0, 64, 2))

    def answer(self, raw: bytes) -> tuple[int, bytes]:
        """What POST /enrol says."""
        asked = cbor.loads(raw)
        self.asked.append(asked)
        if self.status != 200:
            return self.status, cbor.dumps({"code": "ENROL_CODE"})
        pem = self.authority.terminal(TERM, 1, public_key_of(asked["csr"]), NOW_US)
        answer: dict[str, Any] = {
            "site": "s1",
            "terminal": TERM,
            "partition": 3,
            "cert_pem": pem.decode(),
            "ca_pem": self.ca.decode(),
            "broker_host": "127.0.0.1",
            "broker_port": 8883,
            "centre_keys": [self.office.signer.spki],
            "campus": "campus",
            "grant": sign1(grant().encode(), self.office.signer),
        }
        self.spoil(answer)
        return 200, cbor.dumps(answer)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A running port; `desk.url` reaches it."""
    found = Desk(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, found.shown_ca)

        def do_POST(self) -> None:
            self._say(*found.answer(self.rfile.read(int(self.headers["Content-Length"]))))

        def _say(self, status: int, raw: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, found.files))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"https://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    yield found
    server.shutdown()
    server.server_close()


def _enrol(desk: Any, folder: Path, fingerprint: str | None = None) -> str:
    return enrol(folder, desk.url, fingerprint or desk.fingerprint, CODE)


def test_enrolled(desk: Any, tmp_path: Path) -> None:
    """Key 0600 made here, certificate for it, a secret client id, and an identity that loads."""
    folder = tmp_path / "identity"
    assert _enrol(desk, folder) == TERM
    assert desk.asked[0]["code"] == CODE
    key = DeviceKey.load(folder / "device.key")
    assert (
        public_key_of(desk.asked[0]["csr"]).public_numbers()
        == key.private_key.public_key().public_numbers()
    )
    for name in ("device.key", "device.crt", "ca.crt", "enrol.cbor"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    kept = cbor.loads((folder / "enrol.cbor").read_bytes())
    assert kept["client_id"].startswith(f"{TERM}-")
    assert len(kept["client_id"]) == len(TERM) + 33
    assert kept["centre_url"] == desk.url
    assert Identity.load(folder).terminal == TERM
    subject = x509.load_pem_x509_certificate((folder / "device.crt").read_bytes()).subject
    assert "CN=T0001" in subject.rfc4514_string()
    with pytest.raises(EnrolError, match="enrolled already"):
        _enrol(desk, folder)


def test_refused_then_tried_again_with_the_same_key(desk: Any, tmp_path: Path) -> None:
    """A wrong code is the office's word, exit by ENROL_FAILED; the key stays for the next try."""
    folder = tmp_path / "identity"
    desk.status = 403
    with pytest.raises(EnrolError) as caught:
        _enrol(desk, folder)
    assert caught.value.facts["reason"] == "ENROL_CODE"
    first = DeviceKey.load(folder / "device.key").kid
    desk.status = 200
    _enrol(desk, folder)
    assert DeviceKey.load(folder / "device.key").kid == first


@pytest.mark.parametrize("what", ["fingerprint", "ca", "closed", "http"])
def test_not_our_centre(desk: Any, tmp_path: Path, what: str) -> None:
    """Another fingerprint, no CA, nobody there, no TLS: the code is never sent."""
    fingerprint = "00" * 32 if what == "fingerprint" else None
    if what == "ca":
        desk.shown_ca = b"no certificate"
    if what == "closed":
        desk.url = "https://127.0.0.1:1"
    if what == "http":
        desk.url = desk.url.replace("https", "http")
    with pytest.raises(EnrolUnreachableError):
        _enrol(desk, tmp_path / "identity", fingerprint)
    assert desk.asked == []
    assert not (tmp_path / "identity" / "enrol.cbor").exists()


def _spoilers() -> dict[str, Callable[[dict[str, Any]], None]]:
    other = Office(seed=99)
    return {
        "missing": lambda a: a.pop("grant") and None,
        "terminal": lambda a: a.update(terminal="T0002"),
        "grant": lambda a: a.update(grant=sign1(grant().encode(), other.signer)),
        "certificate": lambda a: a.update(cert_pem="no certificate"),
        "foreign": lambda a: a.update(cert_pem=a["ca_pem"]),
    }


@pytest.mark.parametrize("what", sorted(_spoilers()))
def test_answers_that_do_not_fit(desk: Any, tmp_path: Path, what: str) -> None:
    """A field missing, another terminal, a grant or a certificate of somebody else: ENROL_FAILED."""
    desk.spoil = _spoilers()[what]
    with pytest.raises(EnrolError):
        _enrol(desk, tmp_path / "identity")
    assert not (tmp_path / "identity" / "enrol.cbor").exists()


def test_command(desk: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`terminal enrol CODE` by configuration; exit 3 when nobody is there."""
    config = tmp_path / "terminal.toml"
    text = f'[centre]\nurl = "{desk.url}"\nca_sha256 = "{desk.fingerprint}"\n'
    text += '[reader]\nport = "x"\n[sam]\nreader = "x"\n'
    config.write_text(text)
    assert main(["enrol", CODE, "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{TERM}\n"
    assert main(["enrol", CODE, "--config", str(config)]) == 2
    config.write_text(text + "data2 = 1\n")
    assert main(["enrol", CODE, "--config", str(config)]) == 2
    other = tmp_path / "other.toml"
    other.write_text('data = "other"\n' + text)
    words = ["enrol", CODE, "--config", str(other), "--url", "https://127.0.0.1:1"]
    assert main(words) == 3


def test_notify_says_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY reaches the manager's socket; without one, or with nobody behind it, nothing happens."""
    import socket

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert notify("READY=1") is True
        assert manager.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", "@onecard-nobody")
    assert notify("READY=1") is False
