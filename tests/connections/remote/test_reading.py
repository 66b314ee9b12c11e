"""Values in another service's settings, and the sealed copy for while the server is away."""

from __future__ import annotations

import json
import os
import pickle
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connections.models import ConnectionStatus, ExternalApiConnection
from connections.remote import SealedCopy, Server, get_secret, sealed_copy
from external_apis.errors import (
    ConnectFailed,
    ConnectionRevoked,
    InvalidInput,
    MissingCredential,
    NotFound,
    ServiceUnavailable,
)
from external_apis.models import AuditEvent
from tests.factories import make_connection, make_key, make_provider
from tests.sockets import answering, serve
from tests.web import Web

KEY, COPY_KEY = "key-of-another-service", b"k" * 32
SECRET = "sk-of-the-tests-0001"


class Times:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def http(status: int, body: Any) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


def found(expires_at: str | None = None, **credentials: Any) -> bytes:
    data = {"credentials": credentials or {"access_token": SECRET}, "expiresAt": expires_at}
    return http(200, {"success": True, "data": data, "meta": {}})


def refused(status: int, code: str) -> bytes:
    return http(status, {"success": False, "error": {"code": code, "message": "No.", "details": {}}, "meta": {}})


class Service:
    """Another service: it asks a server that plays one answer each time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder / "copies", Times()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.nobody: int = listener.getsockname()[1]
        self.origin = "http://eam.example"

    def copy(self, key: bytes | str = COPY_KEY) -> SealedCopy:
        return SealedCopy(self.folder, key, now=self.times)

    def ask(self, answer: bytes | None, name: str | None = None, reference: str = "stripe/default", **more: Any) -> str:
        with serve(answering(answer or b"")) as port:
            server = Server(f"http://127.0.0.1:{port if answer else self.nobody}", KEY, sleep=lambda _: None)
            address, server.url = server.url, self.origin
            send = server._session.request
            server._session.request = lambda method, url, **options: send(  # type: ignore[method-assign]
                method, url.replace(self.origin, address), **options
            )
            return get_secret(reference, name, server=server, **{"copy": self.copy(), **more})

    @property
    def files(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.mark.django_db(transaction=True)
def test_from_a_real_server(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = make_connection(make_provider(slug="stripe"), slug="default", credentials={"access_token": SECRET})
    monkeypatch.setenv("EAM_URL", web.url)
    monkeypatch.setenv("EAM_KEY", make_key(scopes=["credentials:read"]).token)
    copy = SealedCopy(tmp_path, COPY_KEY)
    assert get_secret("stripe/default", copy=copy) == get_secret(row.pk, "access_token") == SECRET
    assert AuditEvent.objects.filter(action="credentials.read", object_id=row.pk).count() == 2
    with pytest.raises(MissingCredential):
        get_secret("stripe/default", "password")
    with pytest.raises(NotFound):
        get_secret("stripe/other")
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.REVOKED)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ConnectionRevoked):
        get_secret("stripe/default", copy=copy)
    assert not list(tmp_path.iterdir())
    assert SECRET not in web.log


def test_which_value(service: Service) -> None:
    assert service.ask(found(signing_key="s")) == "s"
    assert service.ask(found(username="u", password="p")) == "p"
    assert service.ask(found(username="u", password="p"), "username") == "u"
    assert json.loads(service.ask(found(additional_data={"team": 7}), "additional_data")) == {"team": 7}
    with pytest.raises(MissingCredential, match="a, b"):
        service.ask(found(a="1", b="2"))


def test_a_copy_stands_in_while_the_server_is_away(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    assert service.ask(found()) == SECRET
    for answer in (None, http(502, b"<html>"), refused(503, "SERVICE_UNAVAILABLE"), refused(500, "INTERNAL_ERROR"),
                   refused(429, "RATE_LIMIT_EXCEEDED"), http(404, b"not ours"), http(200, b"{}")):  # fmt: skip
        assert service.ask(answer) == SECRET, answer
    with pytest.raises(ConnectFailed):
        service.ask(None, copy=None)
    assert SECRET not in caplog.text
    assert KEY not in caplog.text
    assert "stripe/default" in caplog.text


def test_it_stands_in_no_longer_than_asked(service: Service) -> None:
    service.ask(found())
    service.times.now += 3600
    assert service.ask(None) == SECRET
    service.times.now += 1
    with pytest.raises(ConnectFailed):
        service.ask(None)
    assert service.ask(None, stale_if_error_seconds=7200) == SECRET
    service.times.now -= 4000  # a copy of the future is none
    with pytest.raises(ConnectFailed):
        service.ask(None)


def test_an_ended_token_is_of_no_use(service: Service) -> None:
    for expires_at in ("2020-01-01T00:00:00.000Z", "tomorrow"):
        service.ask(found(expires_at))
        with pytest.raises(ConnectFailed):
            service.ask(None)
    service.ask(found("2990-01-01T00:00:00.000Z"))
    assert service.ask(None) == SECRET


@pytest.mark.parametrize(
    "answer",
    [
        refused(404, "NOT_FOUND"),
        refused(409, "CONNECTION_REVOKED"),
        refused(401, "INVALID_API_KEY"),
        refused(403, "FORBIDDEN"),
    ],
)
def test_a_definite_refusal_goes_before_the_copy_and_deletes_it(service: Service, answer: bytes) -> None:
    service.ask(found())
    with pytest.raises(Exception) as caught:
        service.ask(answer)
    assert not isinstance(caught.value, (ServiceUnavailable, ConnectFailed))
    assert not service.files
    with pytest.raises(ConnectFailed):
        service.ask(None)


def test_the_file_shows_nothing_and_is_its_owners(service: Service) -> None:
    before = os.umask(0)
    try:
        service.ask(found())
    finally:
        os.umask(before)
    (file,) = service.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.folder.stat().st_mode) == 0o700
    assert SECRET.encode() not in file.read_bytes()
    assert "stripe" not in file.name


def test_copies_that_count_as_none(service: Service) -> None:
    service.ask(found())
    (file,) = service.files
    sealed = file.read_bytes()

    def is_none() -> bool:
        with pytest.raises(ConnectFailed):
            service.ask(None)
        return True

    for altered in (b"", b"x", sealed[:-1], sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:], sealed + b"x"):
        file.write_bytes(altered)
        assert is_none()
    file.write_bytes(sealed)
    assert service.ask(None) == SECRET
    file.chmod(0o644)
    assert is_none()
    file.chmod(0o600)
    elsewhere = file.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert is_none()
    file.unlink()
    os.mkfifo(file, 0o600)
    assert is_none()
    file.unlink()
    elsewhere.rename(file)
    assert service.ask(None) == SECRET
    with pytest.raises(ConnectFailed):
        service.ask(None, copy=service.copy(b"o" * 32))  # sealed with another key
    service.ask(found(), reference="stripe/other")
    (other,) = set(service.files) - {file}
    other.replace(file)  # of another connection
    assert is_none()
    service.origin = "http://other.example"
    assert is_none()


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(service: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert service.ask(found(), copy=SealedCopy(tmp_path / "file" / "below", COPY_KEY)) == SECRET


def test_keys_of_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(SealedCopy(tmp_path, "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")) == f"<SealedCopy in {tmp_path}>"
    wrong: list[Any] = [b"short", "!", "c2hvcnQ=", "", None, 7]
    for key in wrong:
        with pytest.raises(InvalidInput):
            SealedCopy(tmp_path, key)
    with pytest.raises(TypeError):
        pickle.dumps(SealedCopy(tmp_path, COPY_KEY))
    monkeypatch.setattr(sealed_copy, "AESGCM", None)
    with pytest.raises(InvalidInput, match="cryptography"):
        SealedCopy(tmp_path, COPY_KEY)


_IMPORTS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "pydantic", "rest_framework", "cryptography", "structlog", "config"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import connections.remote, connections.remote.__main__
client = connections.remote.get_api_client("a/b", base_url="http://127.0.0.1:1", key="k")
print(client, sorted(name for name in sys.modules if name.startswith(("connections.", "external_apis."))))
"""


def test_nothing_of_the_server_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "<RemoteClient a/b>" in done.stdout
    assert "connections.client" not in done.stdout
