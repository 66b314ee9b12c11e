"""Values in another service's settings, and the sealed copy for while the server is away."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from connections.models import ConnectionStatus, ExternalApiConnection
from connections.remote import SealedCopy, Server, get_secret, sealed_copy
from connections.remote import server as server_module
from connections.remote.sockets import Pool
from external_apis.errors import (
    ApiManagerError,
    CallTimeout,
    ConnectFailed,
    ConnectionRevoked,
    Forbidden,
    InvalidApiKey,
    InvalidInput,
    MissingCredential,
    NotFound,
    ServiceUnavailable,
)
from external_apis.models import AuditEvent
from tests.factories import make_connection, make_key, make_provider
from tests.sockets import Play, answering, read_head, serve
from tests.web import Web

KEY, COPY_KEY = "key-of-another-service", b"k" * 32
SECRET = "sk-of-the-tests-0001"


class Times:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def http(status: int, body: Any) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


def found(expires_at: str | None = None, **credentials: Any) -> bytes:
    data: dict[str, Any] = {
        "id": "conn_1",
        "name": "stripe/default",
        "credentials": credentials or {"access_token": SECRET},
    }
    data["expiresAt"] = expires_at
    return http(200, {"success": True, "data": data, "meta": {}})


def refused(status: int, code: str, **details: Any) -> bytes:
    return http(status, {"success": False, "error": {"code": code, "message": "No.", "details": details}, "meta": {}})


class Service:
    """Another service: it asks a server that plays one answer each time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder / "copies", Times()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.nobody: int = listener.getsockname()[1]
        self.origin = "http://eam.example"

    def copy(self, key: bytes | str = COPY_KEY) -> SealedCopy:
        return SealedCopy(self.folder, key, now=self.times)

    def ask(
        self, answer: bytes | Play | None, name: str | None = None, reference: str = "stripe/default", **more: Any
    ) -> str:
        """Ask once; that a moment ago nobody was there is forgotten, unless ``is_fresh`` says that it counts."""
        if not more.pop("is_fresh", False):
            server_module._absences.clear()
        self.times.now += 0.001
        play = answering(answer) if isinstance(answer, bytes) else answer
        with serve(play or answering()) as port:
            server = Server(self.origin, more.pop("key", KEY), sleep=lambda _: None)
            server._pool = Pool("127.0.0.1", port if play else self.nobody, None)
            copy = more.pop("copy") if "copy" in more else self.copy()
            return get_secret(reference, name, server=server, copy=copy, **more)

    @property
    def files(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def is_lost(self, reference: str = "stripe/default", **more: Any) -> bool:
        """Whether nothing stands in for the server."""
        with pytest.raises(ConnectFailed):
            self.ask(None, reference=reference, **more)
        return True


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
    with pytest.raises(ConnectionRevoked) as caught:
        get_secret("stripe/default", copy=copy)
    assert caught.value.details["connection_id"] == row.pk
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 60  # marks, and no secret
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
    service.times.now += 3599.9
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
        refused(409, "CONNECTION_SUSPENDED"),  # of a newer server
        refused(410, "CONNECTION_GONE"),
        refused(401, "INVALID_API_KEY"),
        refused(401, "API_KEY_REVOKED"),
        refused(403, "FORBIDDEN"),
        refused(403, "IP_NOT_ALLOWED"),
    ],
)
def test_a_definite_refusal_goes_before_the_copy_and_deletes_it(service: Service, answer: bytes) -> None:
    service.ask(found())
    (file,) = service.files
    with pytest.raises(Exception) as caught:
        service.ask(answer)
    assert not isinstance(caught.value, (ServiceUnavailable, ConnectFailed))
    assert caught.value.status in (401, 403, 404, 409, 410)  # type: ignore[attr-defined]
    assert not file.exists()
    assert service.is_lost()
    service.times.now += 1
    assert service.ask(found()) == service.ask(None) == SECRET  # it was connected anew


@pytest.mark.parametrize("answer", [refused(400, "VALIDATION_ERROR"), refused(409, "CONFLICT"), refused(418, "TEA")])
def test_a_question_that_is_wrong_says_nothing_of_the_copy(service: Service, answer: bytes) -> None:
    service.ask(found())
    with pytest.raises(ApiManagerError):
        service.ask(answer)
    assert service.ask(None) == SECRET


@pytest.mark.parametrize("learned", ["stripe", "stripe/default", "conn_1"])
@pytest.mark.parametrize("kept", ["stripe", "stripe/default", "conn_1"])
def test_a_revocation_learned_under_one_name_counts_under_all(service: Service, learned: str, kept: str) -> None:
    service.ask(found(), reference=kept)
    details = {"connectionId": "conn_1"} if learned != "stripe" else {}
    with pytest.raises(ConnectionRevoked):
        service.ask(refused(409, "CONNECTION_REVOKED", **details), reference=learned)
    assert service.is_lost(kept)


def test_a_refused_key_loses_all_that_it_read(service: Service) -> None:
    service.ask(found())
    with pytest.raises(InvalidApiKey):
        service.ask(refused(401, "INVALID_API_KEY"), reference="sendgrid/default")
    assert service.is_lost()


def test_copies_belong_to_the_key_that_read_them(service: Service) -> None:
    service.ask(found())
    assert service.is_lost(key="key-of-another-tenant")
    with pytest.raises(Forbidden):
        service.ask(refused(403, "FORBIDDEN"), key="key-of-another-tenant")
    assert service.ask(None) == SECRET
    assert not [file for file in service.files if KEY.encode() in file.read_bytes() or KEY in file.name]


def test_an_answer_from_before_a_revocation_is_not_kept_behind_it(service: Service) -> None:
    def slowly(client: socket.socket) -> None:
        read_head(client)
        with pytest.raises(ConnectionRevoked):
            service.ask(refused(409, "CONNECTION_REVOKED"))
        client.sendall(found())

    assert service.ask(slowly) == SECRET
    assert service.is_lost()
    # Nor where the writer looked for a mark before there was one.
    service.times.now += 1
    service.ask(found())
    (file,) = [file for file in service.files if file.stat().st_size > 60]
    sealed = file.read_bytes()
    with pytest.raises(ConnectionRevoked):
        service.ask(refused(409, "CONNECTION_REVOKED"))
    file.write_bytes(sealed)
    file.chmod(0o600)
    assert service.is_lost()
    assert not file.exists()


def test_a_mark_that_cannot_be_read_still_counts(service: Service) -> None:
    with pytest.raises(ConnectionRevoked):
        service.ask(refused(409, "CONNECTION_REVOKED"))
    (mark,) = service.files
    mark.write_bytes(b"")
    service.times.now += 1
    service.ask(found())
    assert service.is_lost()


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A folder that somebody without privileges may be given: root may delete anything."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_copy_that_cannot_be_deleted_is_emptied_and_else_it_is_said_loudly(nobodys_folder: Path) -> None:
    def play(service: Service, mode: int, caplog: list[str]) -> None:
        service.folder.chmod(0o500)
        (file,) = service.files
        file.chmod(mode)
        with pytest.raises(ConnectionRevoked):
            service.ask(refused(409, "CONNECTION_REVOKED"))
        assert file.exists()
        if mode == 0o600:
            assert file.stat().st_size == 0
            assert service.is_lost()
            assert not [line for line in caplog if "by hand" in line]
        else:
            assert [line for line in caplog if "by hand" in line]

    for mode in (0o600, 0o400):
        service = Service(nobodys_folder / str(mode))
        assert as_nobody(nobodys_folder, partial(_with_copy, service, mode, play)) == 0, mode


def _with_copy(service: Service, mode: int, play: Any) -> None:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger("connections.remote").addHandler(Listener())
    service.ask(found())
    play(service, mode, said)


def as_nobody(folder: Path, work: Callable[[], None]) -> int:
    """Run something in a child without privileges, and return its exit code."""
    if os.geteuid() == 0:
        os.chown(folder, 65_534, 65_534)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65_534)
                os.setuid(65_534)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_folders_in_which_others_may_make_files(service: Service) -> None:
    service.ask(found())
    for mode in (0o777, 0o1777, 0o770, 0o720):
        service.folder.chmod(mode)
        with pytest.raises(InvalidInput, match="others may make files"):
            service.copy()
    service.folder.chmod(0o700)
    copy = service.copy()
    service.folder.chmod(0o777)  # since then
    assert service.is_lost(copy=copy)
    assert service.ask(found(), copy=copy) == SECRET
    service.folder.chmod(0o755)
    assert service.ask(None) == SECRET


def test_a_server_that_hangs_is_not_waited_for_twice(service: Service) -> None:
    def hang(client: socket.socket) -> None:
        heads.append(read_head(client))
        client.recv(1)

    heads: list[bytes] = []
    for reference in ("stripe/default", "stripe/other"):
        service.ask(found(), reference=reference)
    began = time.monotonic()
    assert service.ask(hang, timeout_seconds=0.2) == SECRET
    assert time.monotonic() - began < 1
    assert service.ask(hang, timeout_seconds=5, reference="stripe/other", is_fresh=True) == SECRET
    assert time.monotonic() - began < 1
    assert len(heads) == 1
    with pytest.raises(CallTimeout):  # for which nothing stands in
        service.ask(hang, timeout_seconds=0.1, reference="stripe/third", is_fresh=True)
    assert service.ask(found(), reference="stripe/default", is_fresh=True, copy=None) == SECRET  # it is back
    with pytest.raises(ConnectionRevoked):
        service.ask(refused(409, "CONNECTION_REVOKED"), is_fresh=True)
    for wrong in (0, -1, True, "5", float("nan")):
        with pytest.raises(InvalidInput):
            service.ask(found(), timeout_seconds=wrong)


def test_how_long_a_server_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def ask(self: Server, path: str, params: Any, *, timeout_seconds: float) -> Any:
        asked.append(timeout_seconds)
        raise ServiceUnavailable("away")

    monkeypatch.setattr(Server, "ask", ask)
    for more in ({}, {"copy": None}, {"timeout_seconds": 7}):
        with pytest.raises(ServiceUnavailable):
            service.ask(None, **more)
    assert asked == [5, 90, 7]


def test_a_value_that_is_null_is_none(service: Service) -> None:
    assert service.ask(found(access_token=None, api_key="k")) == "k"
    with pytest.raises(MissingCredential):
        service.ask(found(access_token=None, api_key="k"), "access_token")


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
