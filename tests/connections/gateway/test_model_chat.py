"""Chat completions of AI models, through the sandbox's OpenAI and through servers that behave worse than that."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from structlog.testing import capture_logs

from connections.gateway.bulkhead import bulkhead
from connections.sandbox import credentials
from external_apis.backoffice import ai_models, ai_usage
from external_apis.backoffice.models import AiCall, AiModel, TokenChange
from external_apis.models import Account, Tenant
from external_apis.tenancy import Scope
from tests.backoffice_users import make_plan
from tests.connections.gateway.conftest import Connect
from tests.envelope import EXTERNAL, client_of, failure_of, named_by
from tests.factories import make_key, make_tenant, make_user
from tests.rest import RestClient
from tests.sandbox import Sandbox
from tests.sockets import read_head, serve

pytestmark = pytest.mark.django_db
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]
BODY = {"messages": MESSAGES}


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key(scopes=["proxy"]).token)


@pytest.fixture
def model(connect: Connect) -> AiModel:
    """One that goes to the sandbox's OpenAI."""
    return make_model(connection=connect("bearer", "/openai/v1").pk)


def make_model(tenant: Tenant | None = None, **fields: Any) -> AiModel:
    scope = Scope(None if tenant is None else tenant.pk)
    return ai_models.create({"name": "sandbox-1", "label": f"M {uuid4().hex}", **fields}, scope)


def make_account(tokens: int = 0, plan: str = "", tenant: Tenant | None = None) -> Account:
    account = Account.objects.get(user=make_user(tenant=tenant, is_staff=False))
    account.tokens, account.plan = tokens, plan
    account.save()
    return account


def chat(client: RestClient, model: AiModel, body: Any = None, **query: str) -> Any:
    path = f"{EXTERNAL}/models/{model.pk}/chat"
    if query:
        path += "?" + "&".join(f"{name}={value}" for name, value in query.items())
    return client.send("post", path, BODY if body is None else body)


def events_of(response: Any) -> list[Any]:
    lines = b"".join(response.streaming_content).split(b"\n")
    return [json.loads(line[5:]) for line in lines if line.startswith(b"data:") and b"[DONE]" not in line]


# --- what goes out and what comes back ---


def test_a_whole_answer(client: RestClient, model: AiModel) -> None:
    answer = chat(client, model, {**BODY, "model": "gpt-of-the-caller", "temperature": 0.5})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "one two three"
    assert answer.json()["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert answer["X-Upstream-Latency-Ms"].isdigit()
    assert answer["X-RateLimit-Limit"].isdigit()
    assert answer["Cache-Control"] == "no-store"
    call = AiCall.objects.get()
    assert (call.model_id, call.connection_id, call.account_id) == (model.pk, model.connection, "")
    assert (call.prompt_tokens, call.completion_tokens, call.total_tokens) == (5, 3, 8)
    assert bulkhead()._sum == 0


@pytest.mark.django_db(transaction=True)
def test_events(client: RestClient, model: AiModel) -> None:
    answer = chat(client, model, {"messages": [{"role": "user", "content": "one two"}], "stream": True})
    assert answer["Content-Type"].startswith("text/event-stream")
    assert not AiCall.objects.exists()
    events = events_of(answer)
    said = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert said == "one two"
    assert events[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert AiCall.objects.get().total_tokens == 4
    answer.close()
    assert (AiCall.objects.count(), bulkhead()._sum) == (1, 0)


def test_what_is_sent(client: RestClient, connect: Connect, sandbox: Sandbox) -> None:
    """The credential is the connection's; of the caller nothing travels but the body."""
    name = f"chat-{uuid4().hex}"
    seen: list[bytes] = []
    answer = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    with serve(_playing(seen, _http(json.dumps(answer).encode()))) as port:
        row = connect("bearer", base_url=f"http://127.0.0.1:{port}/v7")
        model = make_model(name=name, connection=row.pk)
        client.defaults["HTTP_X_SECRET"] = "of the caller"
        assert chat(client, model, {**BODY, "stream_options": {"x": 1}, "user": "u"}).status_code == 200
        assert chat(client, model, {**BODY, "stream": True, "stream_options": {"x": 1}}).status_code == 200
    heads, bodies = zip(*(request.split(b"\r\n\r\n", 1) for request in seen), strict=True)
    assert all(head.startswith(b"POST /v7/chat/completions HTTP/1.1") for head in heads)
    assert all(f"Bearer {credentials.BEARER_TOKEN}".encode() in head for head in heads)
    assert all(b"\r\nAccept-Encoding: identity\r\n" in head for head in heads)
    assert not any(b"of the caller" in head or b"sk_live" in head for head in heads)
    first, second = (json.loads(body) for body in bodies)
    assert first == {**BODY, "model": name, "stream_options": {"x": 1}, "user": "u"}
    assert second["stream_options"] == {"x": 1, "include_usage": True}
    assert AiCall.objects.first().total_tokens == 2  # type: ignore[union-attr]


def test_a_providers_error_is_passed_on_and_not_counted(client: RestClient, connect: Connect) -> None:
    account = make_account(100)
    model = make_model(name="another", connection=connect("bearer", "/openai/v1").pk)
    answer = chat(client, model, userId=account.pk)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")
    assert not AiCall.objects.exists()
    assert not TokenChange.objects.exists()
    assert bulkhead()._sum == 0


def test_a_provider_that_is_away(client: RestClient, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    row = connect("bearer", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
    assert failure_of(chat(client, make_model(connection=row.pk))) == (502, "CONNECT_FAILED")
    assert bulkhead()._sum == 0


# --- what it used ---


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}}', (3, 4, 9)),
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}', (3, 4, 7)),
        (b'{"choices": []}', (0, 0, 0)),
        (b'{"usage": null}', (0, 0, 0)),
        (b'{"usage": {"prompt_tokens": -3, "completion_tokens": true, "total_tokens": 1e3}}', (0, 0, 1000)),
        (b'{"usage": {"prompt_tokens": 99999999999999999999, "completion_tokens": "4"}}', (0, 0, 0)),
        (b'[{"usage": 1}]', (0, 0, 0)),
        (b"[" * 100_000, (0, 0, 0)),
        (b"no json", (0, 0, 0)),
        (b'{"padding": "%b", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}' % (b"x" * 200_000), (3, 4, 7)),
    ],
)
def test_what_providers_tell(client: RestClient, connect: Connect, content: bytes, told: tuple[int, ...]) -> None:
    with serve(_playing([], _http(content))) as port:
        answer = chat(client, make_model(connection=connect("bearer", base_url=f"http://127.0.0.1:{port}").pk))
        assert b"".join(answer) == content
    call = AiCall.objects.get()
    assert (call.prompt_tokens, call.completion_tokens, call.total_tokens) == told


@pytest.mark.parametrize(
    ("content", "total"),
    [
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choices": [], "usage": {"total_tokens": 9}}', 9),
        (
            b'data: {"usage": {"total_tokens": 3}}\r\n\r\ndata: {"usage": {"total_tokens": 5}}\r\n\r\ndata: [DONE]\r\n',
            5,
        ),
        (
            b'data:{"choices": [{"delta": {"role": "x"}}]}\n\ndata:{"choices": [{"delta": {"content": "a"}}]}\n',
            1,
        ),
        (b'data: {"choices": [{"delta": {"tool_calls": [{}]}}]}\n\n: comment\n\ndata: {"choices": [3, {}]}\n\n', 1),
        (b"data: [\n\nevent: x\n\ndata: " + b"[" * 50_000 + b"\n\n", 0),
    ],
)
def test_what_events_tell(client: RestClient, connect: Connect, content: bytes, total: int) -> None:
    with serve(_playing([], _http(content, "text/event-stream"))) as port:
        model = make_model(connection=connect("bearer", base_url=f"http://127.0.0.1:{port}").pk)
        answer = chat(client, model, {**BODY, "stream": True})
        assert b"".join(answer.streaming_content) == content
    assert AiCall.objects.get().total_tokens == total


@pytest.mark.django_db(transaction=True)
def test_whoever_leaves_early_is_charged_for_what_came(client: RestClient, model: AiModel) -> None:
    account = make_account(100)
    answer = chat(client, model, {**BODY, "stream": True}, userId=account.pk)
    assert b"one" in next(iter(answer.streaming_content))
    answer.close()
    call = AiCall.objects.get()
    assert (call.completion_tokens, call.total_tokens, call.account_id) == (1, 1, account.pk)
    account.refresh_from_db()
    assert (account.tokens, bulkhead()._sum) == (99, 0)


@pytest.mark.django_db(transaction=True)
def test_whoever_has_it_all_and_leaves_before_its_end_is_charged(client: RestClient, connect: Connect) -> None:
    content = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'

    def play(peer: socket.socket) -> None:
        read_head(peer)
        peer.sendall(
            _http(content).replace(b"Content-Length: %d" % len(content), b"Transfer-Encoding: chunked")[: -len(content)]
        )
        peer.sendall(b"%x\r\n%b\r\n" % (len(content), content))
        while peer.recv(65_536):
            pass

    account = make_account(100)
    with serve(play) as port:
        model = make_model(connection=connect("bearer", base_url=f"http://127.0.0.1:{port}").pk)
        answer = chat(client, model, userId=account.pk)
        assert next(iter(answer.streaming_content)) == content
        answer.close()
    account.refresh_from_db()
    assert (account.tokens, AiCall.objects.get().total_tokens, bulkhead()._sum) == (93, 7, 0)


@pytest.mark.parametrize(
    ("head", "content", "total"),
    [
        ("200 OK", b'data: {"choices": [{"delta": {"content": "a"}}]}\r\rdata: {"usage": {"total_tokens": 9}}\r\r', 9),
        ("200 OK\r\nContent-Encoding: gzip", gzip.compress(b'{"usage": {"total_tokens": 9}}', mtime=0), 12),
        ("201 Created\r\nContent-Encoding: identity", b'{"usage": {"total_tokens": 9}}', 9),
        ("302 Found", b'{"usage": {"total_tokens": 9}}', None),
        ("304 Not Modified", b"", None),
    ],
)
def test_answers_that_say_little_of_themselves(
    client: RestClient, connect: Connect, head: str, content: bytes, total: int | None
) -> None:
    """Neither their type is known, nor is each of them a success."""
    account = make_account(100)
    reply = f"HTTP/1.1 {head}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content
    with serve(_playing([], reply)) as port:
        model = make_model(connection=connect("bearer", base_url=f"http://127.0.0.1:{port}").pk)
        answer = chat(client, model, userId=account.pk)
        assert (answer.status_code, b"".join(answer)) == (int(head[:3]), content)
    assert list(AiCall.objects.values_list("total_tokens", flat=True)) == ([] if total is None else [total])
    account.refresh_from_db()
    assert account.tokens == 100 - (total or 0)


def test_an_answer_goes_out_where_it_cannot_be_counted(
    client: RestClient, model: AiModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line in the log has all that it takes to charge for it by hand."""
    raised: list[Exception] = [DatabaseError("secret"), InterfaceError("secret")]

    def fail(*_: object) -> None:
        raise raised.pop()

    monkeypatch.setattr(ai_usage, "record", fail)
    account = make_account(100)
    with capture_logs() as logs:
        for query in ({"userId": account.pk}, {}):
            assert chat(client, model, **query).status_code == 200
    lines = [line for line in logs if line["event"] == "a chat completion was not counted"]
    assert [line.pop("error") for line in lines] == ["InterfaceError", "DatabaseError"]
    used = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    names = {"event": "a chat completion was not counted", "log_level": "warning"}
    known = {**names, "model": model.pk, "connection": model.connection}
    assert lines == [{**known, **used, "user": user} for user in (account.pk, "")]
    assert bulkhead()._sum == 0


# --- who pays ---


def test_the_user_is_charged(client: RestClient, model: AiModel) -> None:
    account = make_account(20)
    assert chat(client, model, userId=account.pk).status_code == 200
    account.refresh_from_db()
    assert account.tokens == 12
    line = TokenChange.objects.get()
    assert (line.before, line.after, line.delta, line.account_id) == (20, 12, -8, account.pk)
    assert line.actor.startswith("key:")
    assert AiCall.objects.get().account_id == account.pk


def test_a_balance_never_falls_below_zero(client: RestClient, model: AiModel) -> None:
    account = make_account(5, make_plan("professional", tokens=10).slug)
    assert chat(client, model, userId=account.pk).status_code == 200
    account.refresh_from_db()
    assert account.tokens == 0
    assert failure_of(chat(client, model, userId=account.pk)) == (409, "TOKENS_USED_UP")
    assert AiCall.objects.count() == 1
    # Without an allowance nothing can be used up.
    Account.objects.update(plan="")
    assert chat(client, model, userId=account.pk).status_code == 200
    assert (AiCall.objects.count(), TokenChange.objects.count()) == (2, 1)


def test_who_may_be_charged(connect: Connect) -> None:
    mine, other = make_tenant(), make_tenant()
    rows = {tenant: connect("bearer", "/openai/v1", tenant=tenant) for tenant in (mine, other)}
    model, accounts = make_model(mine, connection=rows[mine].pk), [make_account(9, "", it) for it in (mine, other)]
    bound, unbound = (client_of(make_key(scopes=["proxy"], tenant=tenant).token) for tenant in (mine, None))
    for caller in (bound, unbound):
        assert chat(caller, model, userId=accounts[0].pk).status_code == 200
        assert failure_of(chat(caller, model, userId=accounts[1].pk)) == (404, "NOT_FOUND")
        assert failure_of(chat(caller, model, userId="user_0")) == (404, "NOT_FOUND")
    assert set(AiCall.objects.values_list("tenant_id", "account_id")) == {(mine.pk, accounts[0].pk)}
    common = make_model(connection=connect("bearer", "/openai/v1").pk)
    assert chat(unbound, common, userId=accounts[1].pk).status_code == 200
    assert AiCall.objects.latest("pk").tenant_id == other.pk
    assert failure_of(chat(bound, common)) == (404, "NOT_FOUND")
    # Whoever has left uses nothing up any more.
    get_user_model().objects.filter(pk=accounts[0].user_id).update(is_active=False)
    before = AiCall.objects.count()
    assert failure_of(chat(bound, model, userId=accounts[0].pk)) == (409, "CONFLICT")
    assert AiCall.objects.count() == before


def test_a_superuser_is_nobody_of_a_tenant(connect: Connect) -> None:
    tenant = make_tenant()
    root = make_account(50, "", tenant)
    get_user_model().objects.filter(pk=root.user_id).update(is_superuser=True)
    model = make_model(tenant, connection=connect("bearer", "/openai/v1", tenant=tenant).pk)
    common = make_model(connection=connect("bearer", "/openai/v1").pk)
    bound, unbound = (client_of(make_key(scopes=["proxy"], tenant=holder).token) for holder in (tenant, None))
    for caller in (bound, unbound):
        assert failure_of(chat(caller, model, userId=root.pk)) == (404, "NOT_FOUND")
    assert not AiCall.objects.exists()
    assert chat(unbound, common, userId=root.pk).status_code == 200
    assert AiCall.objects.get().tenant_id is None
    root.refresh_from_db()
    assert root.tokens == 42


# --- what is refused ---


def test_the_scope_and_the_mode(model: AiModel) -> None:
    reader = client_of(make_key(scopes=["models:read", "models:write"]).token)
    assert failure_of(chat(reader, model)) == (403, "FORBIDDEN")
    assert failure_of(chat(client_of(make_key(mode="test").token), model)) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({**BODY, "stream": "yes"}, "stream"),
        ({**BODY, "stream_options": []}, "stream_options"),
    ],
)
def test_bodies(client: RestClient, model: AiModel, body: Any, field: str) -> None:
    answer = chat(client, model, body)
    assert failure_of(answer) == (400, "VALIDATION_ERROR")
    assert named_by(answer)[0].partition(".")[0] == field
    assert (
        failure_of(client.post(f"{EXTERNAL}/models/{model.pk}/chat", b"{", content_type="application/json"))[0] == 400
    )
    assert failure_of(chat(client, model, user="u")) == (400, "VALIDATION_ERROR")


def test_a_key_against_repeating_is_refused_and_not_ignored(client: RestClient, model: AiModel) -> None:
    client.defaults["HTTP_IDEMPOTENCY_KEY"] = "once"
    answer = chat(client, model)
    assert failure_of(answer) == (400, "VALIDATION_ERROR")
    assert named_by(answer) == ["Idempotency-Key"]
    assert not AiCall.objects.exists()


def test_models_that_cannot_be_used(client: RestClient, connect: Connect) -> None:
    tenant = make_tenant()
    foreign, common = connect("bearer", "/openai/v1", tenant=make_tenant()), connect("bearer", "/openai/v1")
    unusable = [
        make_model(name="a"),
        make_model(name="b", connection="conn_0"),
        make_model(name="c", connection="nowhere/main"),
        make_model(name="d", provider="nowhere"),
        make_model(tenant, name="e", connection=foreign.pk),
        make_model(tenant, name="f", connection=common.pk),
        make_model(name="g", connection=common.pk, enabled=False),
        make_model(name="h", connection=foreign.pk),
    ]
    for model in unusable:
        answer = chat(client, model)
        assert failure_of(answer) == (409, "MODEL_UNUSABLE"), model.name
        assert model.pk in answer.json()["error"]["message"]
    common.status = "revoked"
    common.save()
    assert failure_of(chat(client, make_model(connection=common.pk))) == (409, "CONNECTION_REVOKED")


def test_a_connection_by_slug(client: RestClient, connect: Connect) -> None:
    row = connect("bearer", "/openai/v1")
    slug = row.external_api.slug
    named: tuple[dict[str, Any], ...] = (
        {"connection": f"{slug}/{row.slug}"},
        {"provider": slug, "connection": row.slug},
        {"provider": slug},
        {"connection": slug},
        {"provider": "ignored", "connection": row.pk},
    )
    for number, fields in enumerate(named):
        AiModel.objects.all().delete()
        assert chat(client, make_model(**fields)).status_code == 200, number
    assert set(AiCall.objects.values_list("connection_id", flat=True)) == {row.pk}


def test_the_providers_own_rules_count(client: RestClient, connect: Connect) -> None:
    row = connect("bearer", "/openai/v1", proxy={"methods": ["GET"]})
    assert failure_of(chat(client, make_model(connection=row.pk))) == (403, "FORBIDDEN")


def test_too_many_at_once(client: RestClient, model: AiModel, settings: Any) -> None:
    settings.GATEWAY_CALLS_PER_CONNECTION = 1
    bulkhead.cache_clear()
    berth = bulkhead().enter(model.connection)
    assert failure_of(chat(client, model)) == (503, "TOO_MANY_CALLS")
    berth.leave()
    assert chat(client, model).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_no_database_connection_waits_for_the_provider(client: RestClient, connect: Connect) -> None:
    held: list[bool] = []

    def play(peer: socket.socket) -> None:
        read_head(peer)
        held.append(mine.connection is not None)
        peer.sendall(_http(b'{"usage": {"total_tokens": 1}}'))

    mine = connections[DEFAULT_DB_ALIAS]  # of this thread
    with serve(play) as port:
        model = make_model(connection=connect("bearer", base_url=f"http://127.0.0.1:{port}").pk)
        assert chat(client, model).status_code == 200
    assert held == [False]
    assert AiCall.objects.get().total_tokens == 1


def _http(content: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


def _playing(seen: list[bytes], answer: bytes) -> Any:
    """Take a request with its body, and answer."""

    def play(peer: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += peer.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += peer.recv(65_536)
        seen.append(head + b"\r\n\r\n" + body)
        peer.sendall(answer)

    return play
