"""Mutual TLS against a real server that demands a certificate of its own authority."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from connections.client import ApiClient
from external_apis.errors import ApiManagerError, MissingCredential
from external_apis.transport import ClientCertificate
from tests.connections.client.conftest import make_target
from tests.sockets import OK, read_head, serve

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


_KEY_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def make_certificate(name: str, issuer: Pair | None = None) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        # From Python 3.13 on certificates are held to RFC 5280.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key()),
            critical=False,
        )
    )
    if issuer is None:
        uses = dict.fromkeys(_KEY_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**uses), critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def chain_pem(pair: Pair) -> str:
    return pair[0].public_bytes(Encoding.PEM).decode()


def key_pem(pair: Pair, password: bytes = b"") -> str:
    sealing = BestAvailableEncryption(password) if password else NoEncryption()
    return pair[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing).decode()


AUTHORITY = make_certificate("authority")
CLIENT = make_certificate("client", AUTHORITY)
STRANGER = make_certificate("client", make_certificate("authority"))
RIGHT = {"client_certificate": chain_pem(CLIENT), "client_key": key_pem(CLIENT)}


@contextmanager
def strict_server(folder: Path) -> Iterator[tuple[int, list[bytes]]]:
    """A server that talks to holders of the authority's certificates only; yields its port and the requests' heads."""
    pair = make_certificate("server", AUTHORITY)
    (folder / "chain.pem").write_text(chain_pem(pair))
    (folder / "key.pem").write_text(key_pem(pair))
    (folder / "authority.pem").write_text(chain_pem(AUTHORITY))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "authority.pem"))
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    heads: list[bytes] = []

    def play(client: Any) -> None:
        while True:
            heads.append(read_head(client))
            client.sendall(OK)

    with serve(play, context=context) as port:
        yield port, heads


@pytest.fixture
def strict(tmp_path: Path, settings: Any) -> Iterator[tuple[int, list[bytes]]]:
    with strict_server(tmp_path) as served:
        settings.EGRESS_ALLOW = ["127.0.0.1"]
        settings.EGRESS_CA_FILE = str(tmp_path / "authority.pem")
        yield served


def client_of(port: int, credentials: dict[str, str], **config: Any) -> ApiClient:
    data = {"base_url": f"https://127.0.0.1:{port}", "auth_type": "mtls", "retry_config": {"max_retries": 0}, **config}
    return ApiClient(make_target(data, credentials))


def test_the_right_certificate_passes(strict: tuple[int, list[bytes]]) -> None:
    client = client_of(strict[0], RIGHT)
    assert client.get("/x").text == client.get("/x").text == "ok"


def test_a_dry_run_names_the_files_of_a_certificate() -> None:
    pair = make_certificate("client")
    credentials = {"client_certificate": chain_pem(pair), "client_key": key_pem(pair)}
    command = client_of(1, credentials).dry_run("GET", "/x")
    assert '--cert "$CERTIFICATE_FILE" --key "$KEY_FILE"' in command
    assert "BEGIN" not in command


def test_line_breaks_that_a_form_lost_do_no_harm(strict: tuple[int, list[bytes]]) -> None:
    lost = {name: value.replace("\n", " ") for name, value in RIGHT.items()}
    assert client_of(strict[0], lost).get("/x").text == "ok"


def test_a_certificate_goes_beside_a_token(strict: tuple[int, list[bytes]]) -> None:
    client = client_of(strict[0], {**RIGHT, "access_token": "tok-8"}, auth_type="bearer", mutual_tls=True)
    assert client.get("/x").text == "ok"
    assert b"Authorization: Bearer tok-8\r\n" in strict[1][0]


def test_a_strangers_certificate_fails(strict: tuple[int, list[bytes]]) -> None:
    wrong = {"client_certificate": chain_pem(STRANGER), "client_key": key_pem(STRANGER)}
    with pytest.raises(ApiManagerError):
        client_of(strict[0], wrong).get("/x")
    assert strict[1] == []


def test_without_a_certificate_nobody_answers(strict: tuple[int, list[bytes]]) -> None:
    with pytest.raises(ApiManagerError):
        client_of(strict[0], {}, auth_type="none").get("/x")
    assert strict[1] == []


def test_connections_of_two_certificates_are_not_shared(strict: tuple[int, list[bytes]]) -> None:
    """A connection kept alive for one client must not serve another, who shows no certificate or another one."""
    client_of(strict[0], RIGHT).get("/x")
    wrong = {"client_certificate": chain_pem(STRANGER), "client_key": key_pem(STRANGER)}
    for credentials, auth_type in (({}, "none"), (wrong, "mtls")):
        with pytest.raises(ApiManagerError):
            client_of(strict[0], credentials, auth_type=auth_type).get("/x")
    assert len(strict[1]) == 1


def test_no_stranger_is_shown_the_certificate(tmp_path: Path, strict: tuple[int, list[bytes]]) -> None:
    """Where a redirect leads abroad, even to a server that asks for it."""
    other = tmp_path / "other"
    other.mkdir()
    with strict_server(other) as (abroad, heads):

        def send_on(client: Any) -> None:
            read_head(client)
            goal = f"https://127.0.0.1:{abroad}/"
            client.sendall(f"HTTP/1.1 302 Go\r\nLocation: {goal}\r\nContent-Length: 0\r\n\r\n".encode())

        pair = make_certificate("server", AUTHORITY)
        (tmp_path / "c.pem").write_text(chain_pem(pair))
        (tmp_path / "k.pem").write_text(key_pem(pair))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
        with serve(send_on, context=context) as port, pytest.raises(ApiManagerError):
            client_of(port, RIGHT).get("/x")
        assert heads == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"client_key": ""}, "has no client_key"),
        ({"client_certificate": ""}, "has no client_certificate"),
        ({"client_certificate": "swordfish"}, "the certificate is not PEM"),
        ({"client_key": "swordfish"}, "the key is not a PEM private key"),
        ({"client_key": key_pem(CLIENT, b"swordfish")}, "without a pass phrase"),
        ({"client_key": key_pem(STRANGER)}, "the key is not the certificate's"),
        ({"client_certificate": RIGHT["client_key"]}, "the certificate is not PEM"),
    ],
)
def test_what_is_no_pair_is_said_before_any_call(change: dict[str, str], problem: str) -> None:
    with pytest.raises(MissingCredential, match=problem) as caught:
        client_of(1, {**RIGHT, **change})
    assert "swordfish" not in str(caught.value)


def test_the_key_lies_nowhere_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Watching(ssl.SSLContext):
        def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
            seen.append(Path(keyfile).read_text())
            super().load_cert_chain(certfile, keyfile, password)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ClientCertificate.read(RIGHT["client_certificate"], RIGHT["client_key"]).load_into(
        Watching(ssl.PROTOCOL_TLS_CLIENT)
    )
    assert "ENCRYPTED PRIVATE KEY" in seen[0]
    assert list(tmp_path.iterdir()) == []


def test_it_is_neither_shown_nor_pickled() -> None:
    pair = ClientCertificate.read(RIGHT["client_certificate"], RIGHT["client_key"])
    assert repr(pair) == "<ClientCertificate>"
    with pytest.raises(TypeError):
        pickle.dumps(pair)
