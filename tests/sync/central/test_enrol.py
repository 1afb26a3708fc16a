"""Enrolment, the campus CA, and what the broker is told (sync.md §8, §10)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.wire import cbor
from protocols.wire.chain import NOWHERE, Position, genesis
from protocols.wire.cose import P256Signer, sign1
from protocols.wire.messages import Ack, Grant, Reject
from sync.central.broker_auth import User, mosquitto_acl, nats_users, users
from sync.central.ca import public_key_of
from sync.central.enrolment import BODY_BYTES_MAX, application
from sync.central.ingest import load_lanes
from sync.errors import (
    EnrolCodeError,
    EnrolCsrError,
    EnrolExpiredError,
    EnrolFormError,
    EnrolTriesError,
    OfficeExistsError,
    OfficeStateError,
    OfficeUnknownError,
)


def key(seed: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(seed, ec.SECP256R1())


def csr(signer: Any, *, san: bool = False, name: str = "T9999") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if san:
        names = x509.SubjectAlternativeName([x509.DNSName("CN=T0002,O=campus")])
        request = request.add_extension(names, critical=False)
    return request.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def claim(campus: Any, code: str = "T0001") -> str:
    return str(
        campus.centre.create_terminal(campus.idem(), "office", code, place="p", merchant="m")
    )


def test_enrolment_gives_certificate_keys_and_epoch(campus: Any) -> None:
    """One code, one key: certificate from the row, both centre keys, signed grant of epoch 1."""
    code = claim(campus)
    answer = campus.enroller.admit(code.lower(), csr(key(5)))
    assert (answer["site"], answer["terminal"], answer["campus"]) == ("s1", "T0001", "campus")
    certificate = x509.load_pem_x509_certificate(str(answer["cert_pem"]).encode())
    assert certificate.subject.rfc4514_string() == "CN=T0001,OU=g1,O=campus"
    assert certificate.public_key().public_numbers() == key(5).public_key().public_numbers()
    root = x509.load_pem_x509_certificate(str(answer["ca_pem"]).encode())
    certificate.verify_directly_issued_by(root)
    assert len(answer["centre_keys"]) == 2
    grant = Grant.decode(campus.ring.open(answer["grant"]))
    assert (grant.epoch, grant.prev) == (1, NOWHERE)
    assert grant.h0 == genesis("T0001", 1, NOWHERE)
    assert grant.hw0_us == campus.clock.now_us
    assert campus.enrolments == 1


def test_nothing_but_the_key_is_taken_from_the_request(campus: Any) -> None:
    """M26: a SAN or another name in the CSR does not reach the certificate."""
    answer = campus.enroller.admit(claim(campus), csr(key(5), san=True, name="T0002"))
    certificate = x509.load_pem_x509_certificate(str(answer["cert_pem"]).encode())
    assert "CN=T0001" in certificate.subject.rfc4514_string()
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca


def test_server_certificates_carry_their_hosts(campus: Any) -> None:
    """Broker and enrolment port: SAN by address and name, serverAuth."""
    public = key(6).public_key()
    pem = campus.authority.server("broker", ["127.0.0.1", "localhost"], public, campus.clock.now_us)
    found = x509.load_pem_x509_certificate(pem)
    san = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    service = x509.load_pem_x509_certificate(
        campus.authority.service("central-w1", public, campus.clock.now_us)
    )
    assert service.subject.rfc4514_string() == "CN=central-w1,O=campus"


def test_a_request_must_prove_its_key() -> None:
    """Rubbish, a foreign signature, another version, curve, RSA, too large: ENROL_CSR."""
    good = csr(key(5))
    other = bytearray(good)
    other[-1] ^= 1
    p384 = csr(ec.derive_private_key(5, ec.SECP384R1()))
    too_large = bytes(5_000)
    version_2 = good.replace(b"\x02\x01\x00", b"\x02\x01\x01", 1)
    plain_rsa = csr(rsa.generate_private_key(65_537, 2_048))
    assert isinstance(public_key_of(good), ec.EllipticCurvePublicKey)
    for bad in (b"", b"x", bytes(other), version_2, p384, too_large, plain_rsa):
        with pytest.raises(EnrolCsrError):
            public_key_of(bad)


def test_a_code_works_once(campus: Any) -> None:
    """A second device with the same code is refused, also with the right code."""
    code = claim(campus)
    campus.enroller.admit(code, csr(key(5)))
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(code, csr(key(6)))


def test_five_tries_then_dead(campus: Any) -> None:
    """Wrong tries on a code's row count; after five even the right code is dead."""
    code = claim(campus)
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    for _ in range(5):
        with pytest.raises(EnrolCodeError):
            campus.enroller.admit(wrong, csr(key(5)))
    with pytest.raises(EnrolTriesError):
        campus.enroller.admit(code, csr(key(5)))


def test_the_fifth_try_may_be_the_right_one(campus: Any) -> None:
    """Four wrong, then right."""
    code = claim(campus)
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    for _ in range(4):
        with pytest.raises(EnrolCodeError):
            campus.enroller.admit(wrong, csr(key(5)))
    assert campus.enroller.admit(code, csr(key(5)))["terminal"] == "T0001"


def test_a_code_lives_24_hours(campus: Any) -> None:
    """A day and a second later: ENROL_EXPIRED."""
    code = claim(campus)
    campus.clock.step(86_401)
    with pytest.raises(EnrolExpiredError):
        campus.enroller.admit(code, csr(key(5)))


@pytest.mark.parametrize("code", ["", "short", "2345678901234", "ZZZZ234567"])
def test_unknown_codes(campus: Any, code: str) -> None:
    """Of the wrong length, or leading to no row."""
    claim(campus)
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(code, csr(key(5)))


def test_asking_again_voids_the_first_code(campus: Any) -> None:
    """The code is stored as argon2id only, so a repeat of the act makes a new one."""
    idem = campus.idem()
    facts = {"place": "p", "merchant": "m"}
    first = campus.centre.create_terminal(idem, "office", "T0001", **facts)
    second = campus.centre.create_terminal(idem, "office", "T0001", **facts)
    assert first != second
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(first, csr(key(5)))
    campus.enroller.admit(second, csr(key(5)))
    with pytest.raises(OfficeStateError):
        campus.centre.create_terminal(idem, "office", "T0001", **facts)
    assert "argon2id" not in str(campus.value("SELECT claim_hash FROM terminal"))
    with pytest.raises(OfficeExistsError):
        campus.centre.create_terminal(campus.idem(), "office", "T0001", **facts)
    with pytest.raises(OfficeUnknownError):
        campus.centre.create_terminal(
            campus.idem(), "office", "T0002", place="p", merchant="m", role="oven"
        )


def test_a_replacement_gets_the_next_generation_and_epoch(campus: Any) -> None:
    """Old key refused, old lane fenced where it stands, new epoch behind its last record."""
    pen, chip = campus.terminal(), campus.card()
    pen.begin()
    pen.sale(chip, 100)
    campus.give(pen.segment())
    tip = pen.tip
    code = campus.centre.replace_terminal(campus.idem(), "office", "T0001")
    pen.sale(chip, 100)
    assert [type(a) for a in campus.give(pen.segment(5, 6))] == [Ack]  # until the new one enrols
    tip = pen.tip
    answer = campus.enroller.admit(code, csr(key(77)))
    assert (
        "OU=g2"
        in x509.load_pem_x509_certificate(str(answer["cert_pem"]).encode()).subject.rfc4514_string()
    )
    grant = Grant.decode(campus.ring.open(answer["grant"]))
    assert (grant.epoch, grant.prev) == (2, tip)
    pen.sale(chip, 100)
    tail = pen.segment(7, 8)
    assert [a.code for a in campus.give(tail)] == ["SYNC_BAD_SIG"]
    fresh = type(pen)(campus.clock, "T0001", P256Signer(key(77)), 77)
    fresh.start(2, Position(1, 6, tip.hash))
    fresh.begin()
    assert [(type(a), a.epoch) for a in campus.give(fresh.segment())] == [(Ack, 2)]
    # the tail from the old disk: two persons
    campus.centre.lane_reopen(campus.idem(), ("a", "b"), "T0001", 1)
    assert [(type(a), a.epoch, a.seq) for a in campus.give(tail)] == [(Ack, 1, 8)]
    assert campus.fen("merchant:north") == 300
    # the old key is good for that lane only
    stale = fresh.segment(1, 2, key=pen.key)
    assert [(type(a), a.code) for a in campus.give(stale)] == [(Reject, "SYNC_BAD_SIG")]
    campus.centre.close_lane(campus.idem(), ("a", "b"), "T0001", 1)
    with pytest.raises(OfficeStateError):
        campus.centre.close_lane(campus.idem(), ("a", "b"), "T0001", 1)
    with pytest.raises(OfficeStateError):
        campus.centre.lane_reopen(campus.idem(), ("a", "b"), "T0001", 2)
    with pytest.raises(OfficeUnknownError):
        campus.centre.lane_reopen(campus.idem(), ("a", "b"), "T0001", 9)


def test_a_key_is_enrolled_once(campus: Any) -> None:
    """A cloned key cannot become another terminal."""
    campus.enroller.admit(claim(campus), csr(key(5)))
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(claim(campus, "T0002"), csr(key(5)))


# --- status and the port ----------------------------------------------------------------------


def ask_status(campus: Any, signer: Any, term: str = "T0001") -> dict[str, Any]:
    raw = campus.enroller.status(sign1(cbor.dumps([1, term, 42]), signer))
    told = cbor.loads(campus.ring.open(raw))
    assert isinstance(told, dict)
    return told


def test_status_tells_how_a_terminal_stands(campus: Any) -> None:
    """Signed both ways: enrolled, then revoked, with the reason's code."""
    pen = campus.terminal()
    expected = {"term": "T0001", "t1": 42, "state": "enrolled", "epoch": 1, "reason": None}
    assert ask_status(campus, pen.key) == expected
    campus.centre.revoke_terminal(campus.idem(), "office", "T0001", "stolen")
    told = ask_status(campus, pen.key)
    assert (told["state"], told["reason"]) == ("revoked", "SYNC_FENCED")


def test_status_of_a_replaced_and_of_a_fenced_device(campus: Any) -> None:
    """Each has its own word."""
    pen = campus.terminal()
    code = campus.centre.replace_terminal(campus.idem(), "office", "T0001")
    campus.enroller.admit(code, csr(key(77)))
    assert ask_status(campus, pen.key)["state"] == "replaced"
    other = campus.terminal("T0002", seed=200)
    other.begin()
    campus.give(other.segment())
    campus.give(other.hello(tip=Position(1, 1, bytes(32))))
    assert ask_status(campus, other.key, "T0002")["state"] == "fenced"


def test_a_code_used_in_the_same_moment(campus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices judged right before either was issued: the second gets nothing."""
    monkeypatch.setattr(campus.enroller, "_check_claim", lambda _: 1)
    code = claim(campus)
    campus.enroller.admit(code, csr(key(5)))
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(code, csr(key(6)))


def test_status_waits_for_no_posting(campus: Any) -> None:
    """A question is answered while ingest holds the terminal's lanes."""
    pen = campus.terminal("T0001")
    with campus.engine.begin() as connection:
        load_lanes(connection, {1})
        assert ask_status(campus, pen.key)["state"] == "enrolled"


@pytest.mark.parametrize("code", ["AB\0DEFGHJK", "ABCDEFGHJ\0", "ABCDEFGHJé"])
def test_codes_of_other_letters(campus: Any, code: str) -> None:
    """No claim has them, no database is asked: ENROL_CODE on both."""
    with pytest.raises(EnrolCodeError):
        campus.enroller.admit(code, csr(key(6)))


def test_status_is_for_enrolled_keys_only(campus: Any) -> None:
    """A stranger, another's name, a broken signature, rubbish: ENROL_FORM."""
    pen = campus.terminal()
    stranger = P256Signer(key(99))
    good = sign1(cbor.dumps([1, "T0001", 42]), pen.key)
    for raw in (
        b"",
        sign1(b"\x00", pen.key),
        sign1(cbor.dumps([1, "T0002", 42]), pen.key),
        sign1(cbor.dumps([1, "T0001", 42]), stranger),
        good[:-1] + bytes([good[-1] ^ 1]),
    ):
        with pytest.raises(EnrolFormError):
            campus.enroller.status(raw)


def call(app: Any, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
    """One request to an ASGI application, without a server."""
    sent: list[dict[str, Any]] = []
    pieces = [body[n : n + 4_096] for n in range(0, len(body), 4_096)] or [b""]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [],
        "query_string": b"",
        "http_version": "1.1",
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


def test_the_port_answers_in_cbor(campus: Any) -> None:
    """200 with the map, and each refusal with its code."""
    app = application(campus.enroller, b"PEM")
    good = cbor.dumps({"code": claim(campus), "csr": csr(key(5))})
    assert call(app, "/ca", b"", "GET") == (200, b"PEM")
    status, raw = call(app, "/enrol", good)
    assert (status, cbor.loads(raw)["terminal"]) == (200, "T0001")
    late = claim(campus, "T0002")
    for body, expected, code in (
        (b"rubbish", 400, "ENROL_FORM"),
        (cbor.dumps({"code": "x"}), 400, "ENROL_FORM"),
        (cbor.dumps({"code": 5, "csr": b""}), 400, "ENROL_FORM"),
        (bytes(BODY_BYTES_MAX + 1), 400, "ENROL_FORM"),
        (cbor.dumps({"code": late, "csr": b"x"}), 400, "ENROL_CSR"),
        (good, 403, "ENROL_CODE"),
    ):
        status, raw = call(app, "/enrol", body)
        assert (status, cbor.loads(raw)) == (expected, {"code": code})
    campus.clock.step(90_000)
    status, raw = call(app, "/enrol", cbor.dumps({"code": late, "csr": csr(key(6))}))
    assert (status, cbor.loads(raw)) == (410, {"code": "ENROL_EXPIRED"})
    assert call(app, "/status", b"x")[0] == 400
    assert call(app, "/enrol", b"", "GET")[0] == 405


# --- the broker's files -----------------------------------------------------------------------


def test_broker_users_pin_site_and_partition() -> None:
    """The text of sync.md §8, one terminal and one service."""
    text = nats_users("campus", "s1", ("central-w1",), [User("T0001", 7, 1)])
    assert text == (
        "authorization { users: [\n"
        '  { user: "CN=central-w1,O=campus", allowed_connection_types: ["MQTT"], permissions: {\n'
        '      publish:   { allow: ["cc.v1.s1.dn.>"] }\n'
        '      subscribe: { allow: ["cc.v1.s1.up", "cc.v1.s1.up.>", "$MQTT.sub.>"] } } }\n'
        '  { user: "CN=T0001,OU=g1,O=campus", allowed_connection_types: ["MQTT"],'
        " permissions: {\n"
        '      publish:   { allow: ["cc.v1.s1.up.p07.T0001.>"] }\n'
        '      subscribe: { allow: ["cc.v1.s1.dn.T0001", "cc.v1.s1.dn.T0001.>",'
        ' "cc.v1.s1.dn.all", "cc.v1.s1.dn.all.>", "$MQTT.sub.>"] } } }\n'
        "] }\n"
    )


def test_mosquitto_acl_is_the_documents() -> None:
    """Patterns for terminals, a block per service."""
    assert mosquitto_acl("s1", ("central-w1",)).splitlines() == [
        "pattern write cc/v1/+/up/+/%u/#",
        "pattern read  cc/v1/+/dn/%u/#",
        "pattern read  cc/v1/+/dn/all/#",
        "user central-w1",
        "topic read  cc/v1/s1/up/#",
        "topic write cc/v1/s1/dn/#",
    ]


def test_only_terminals_in_force_are_listed(campus: Any) -> None:
    """Not before enrolment, not after revocation, one generation each."""

    def listed() -> list[tuple[str, int]]:
        with campus.engine.connect() as connection:
            return [(user.code, user.generation) for user in users(connection)]

    claim(campus, "T0009")
    assert listed() == []
    campus.terminal("T0001")
    campus.terminal("T0002", seed=200)
    assert listed() == [("T0001", 1), ("T0002", 1)]
    code = campus.centre.replace_terminal(campus.idem(), "office", "T0001")
    assert listed() == [("T0001", 1), ("T0002", 1)]
    campus.enroller.admit(code, csr(key(77)))
    campus.centre.revoke_terminal(campus.idem(), "office", "T0002", "stolen")
    assert listed() == [("T0001", 2)]
