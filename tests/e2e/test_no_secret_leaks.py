"""Canary secrets go in by every door of the running product; afterwards they are looked for in everything it wrote."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import requests
from psycopg import sql

from config import runtime
from tests.config.conftest import Installation, installation, wait_for
from tests.otlp_receiver import Receiver, receiving

__all__ = ["installation"]

CANARY = "canary-7f3a-swordfish"
METRICS_TOKEN = f"{CANARY}-metrics"


class Product:
    """``manage.py up`` of an installation, its log, and every answer that it gave."""

    def __init__(self, made: Installation) -> None:
        self.made = made
        self.log = made.folder.parents[1] / "log"
        self.answers: list[str] = []
        self.session = requests.Session()
        self.session.trust_env = False
        self.origin = f"http://127.0.0.1:{made.port}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        response = self.pass_on(method, path, **options)
        self.answers.append(f"{response.status_code} {response.headers} {response.text}")
        return response

    def pass_on(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make a request whose answer is a secret itself, or somebody else's."""
        return self.session.request(method, self.origin + path, timeout=30, **options)


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def product(installation: Installation, collector: Receiver) -> Iterator[Product]:
    running = Product(installation)
    with running.log.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=runtime.CHECKOUT,
            env=installation.environ(
                LOG_LEVEL="DEBUG",
                METRICS_TOKEN=METRICS_TOKEN,
                METRICS_BY_CONNECTION="true",
                CALL_SAMPLE_ONE_IN="1",
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_BSP_SCHEDULE_DELAY="200",
            ),
            stdout=log,
            stderr=log,
            text=True,
        )
        installation.started.append(process)
        ready = installation.folder / "first-login.env"
        wait_for(lambda: "Ready" in running.log.read_text(), 40, running.log.read_text)
        login = dict(line.split("=", 1) for line in ready.read_text().splitlines())
        running.session.headers["Authorization"] = f"Bearer {login['ADMIN_API_KEY']}"
        yield running
        process.terminate()
        process.wait(40)


def store_canaries(product: Product, sandbox: str) -> None:
    """Providers and connections of several auth types, each with canaries, refused bodies among them."""
    bodies: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"auth_type": "bearer", "api_key": {"key": f"{CANARY}-provider"}}, {"access_token": f"{CANARY}-bearer"}),
        ({"auth_type": "basic"}, {"username": f"{CANARY}-user", "password": f"{CANARY}-password"}),
        (
            {"auth_type": "api_key", "api_key": {"location": "query", "query_name": "api_key"}},
            {"api_key": f"{CANARY}-query"},
        ),
        ({"auth_type": "hmac"}, {"hmac_secret": f"{CANARY}-hmac"}),
        (
            {
                "auth_type": "oauth2",
                "oauth2": {
                    "client_id": f"{CANARY}-id",
                    "client_secret": f"{CANARY}-secret",
                    "authorization_url": f"{sandbox}/a",
                    "token_url": f"{sandbox}/t",
                },
                "webhook": {"url": "http://127.0.0.1/hook", "secret": f"{CANARY}-webhook"},
            },
            {"access_token": f"{CANARY}-access", "refresh_token": f"{CANARY}-refresh"},
        ),
    ]
    for number, (config, credentials) in enumerate(bodies):
        scheme = {"api_key": "api-key-query"}.get(config["auth_type"], config["auth_type"])
        body = {
            "name": f"Canary {number}",
            "slug": f"canary-{number}",
            "category": "other",
            "environment": "development",
            "api_config": {**config, "base_url": f"{sandbox}/auth/{scheme}", "retry_config": {"max_retries": 0}},
        }
        made = product.ask("POST", "/admin/external-apis", json=body)
        assert made.status_code == 201, made.text
        connections = f"/admin/external-apis/{made.json()['id']}/connections"
        made = product.ask("POST", connections, json={"connection_name": "Canary", "credentials": credentials})
        assert made.status_code == 201, made.text
        connection = f"{connections}/{made.json()['id']}"
        assert product.ask("POST", f"{connection}/test").json()["ok"] is False
        product.ask("PATCH", connection, json={"credentials": dict.fromkeys(credentials, f"{CANARY}-new")})
        product.ask("PATCH", connection, json={"credentials": {"unknown": CANARY, "access_token": [CANARY]}})
        product.ask("POST", "/admin/external-apis", json={**body, "slug": CANARY * 20, "timeout": CANARY})
        product.ask("POST", "/admin/external-apis", data=f'{{"api_config": "{CANARY}'.encode())
        for path in ("/admin/external-apis", f"/admin/external-apis/{made.json()['external_api_id']}", connection):
            assert product.ask("GET", path).status_code == 200


def call_with_canaries(product: Product) -> str:
    """Calls that the provider refuses, that fail on the way, and that go to the debug log."""
    output = ""
    for arguments in (
        ("canary-0/default", "GET", "/balance", "-v", "2"),
        ("canary-1/default", "POST", "/balance", "-v", "2"),
        ("canary-2/default", "GET", "/close", "-v", "2"),
        ("canary-3/default", "GET", "/redirect?to=http://169.254.169.254/", "-v", "3"),
        ("canary-4/default", "GET", "/balance", "-v", "2"),
    ):
        status, printed = product.made.run("manage.py", "call", *arguments, LOG_LEVEL="DEBUG")
        assert status == 1, printed
        output += printed
    return output


def pass_canaries_on(product: Product, sandbox: str) -> set[str]:
    """Other programs' calls, with canaries in each part of them; returns the secrets that were made on the way."""
    scopes = ["proxy", "connections:read", "credentials:read"]
    asked = {"title": "Canary", "type": "secret", "scopes": scopes}
    answer = product.pass_on("POST", "/api/external/api-keys", json=asked)
    assert answer.status_code == 201, answer.text
    texts = [value for value in answer.json()["data"].values() if isinstance(value, str)]
    key = max((text for text in texts if text.startswith("sk_")), key=len)  # the other one is its hint
    as_key = {"Authorization": f"Bearer {key}"}
    answer = product.pass_on("POST", "/api/external/auth/validate", headers=as_key)
    assert answer.status_code == 200, answer.text
    token = answer.json()["data"]["token"]
    as_token = {"Authorization": f"Bearer {token}"}
    machine = make_machine(product, sandbox)
    listed = product.ask("GET", "/admin/external-apis/canary-0/connections").json()
    refused = listed[0]["id"]
    sent: dict[str, Any] = {
        "params": {"secret": f"{CANARY}-query", CANARY: "1"},
        "json": {"secret": f"{CANARY}-body", "query": f'{{ {CANARY.replace("-", "_")}: nothing(id: "{CANARY}") }}'},
    }
    statuses = []
    for connection in (machine, refused, "conn_none"):
        for number, headers in enumerate((as_key, as_token, {"X-Api-Key": key}, {"Authorization": f"Bearer {CANARY}"})):
            more = {**headers, "X-Secret": f"{CANARY}-header", "Cookie": f"a={CANARY}", "Idempotency-Key": CANARY}
            for path in (
                *("balance", "status/503", f"status/404/{CANARY}-path", f"..%2f{CANARY}"),
                *(f"status/404/a%20{CANARY}", f"status/404/it's-{CANARY}", f"status/404/a%22{CANARY}%3F{CANARY}"),
                *(f"redirect?to=http://127.0.0.1:1/{CANARY}", "echo", "graphql"),
            ):
                url = f"/api/external/proxy/{connection}/{path}"
                more["Idempotency-Key"] = f"{CANARY}-{number}-{abs(hash(path))}"
                method = "POST" if number else "GET"
                statuses.append(product.pass_on(method, url, headers=more, **sent).status_code)
    shown = product.ask("POST", f"/api/external/proxy/{machine}/balance?dry_run=curl", headers=as_key, json={"a": 1})
    assert shown.status_code == 200, shown.text
    assert "curl" in shown.text
    assert 200 in statuses, statuses
    assert {401, 404} <= set(statuses), statuses
    opened = product.pass_on("GET", f"/api/external/connections/{machine}/credentials", headers=as_key)
    assert opened.status_code == 200, opened.text
    issued = str(opened.json()["data"]["credentials"]["access_token"])
    for page in ("metrics", "calls"):
        shown = product.ask("GET", f"/api/external/connections/{machine}/{page}", headers=as_token)
        assert shown.status_code == 200, shown.text
    return {key, token, token.rpartition(".")[2], issued}


def try_the_door(product: Product) -> None:
    """The admin's log-in with a wrong password."""
    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(f"{product.origin}/admin/login/", timeout=30)
        form = {
            "username": "nobody",
            "password": f"{CANARY}-password",
            "csrfmiddlewaretoken": browser.cookies["external_apis_csrf"],
        }
        answer = browser.post(page.url, data=form, headers={"Referer": page.url}, timeout=30)
        assert "Please enter the correct" in answer.text
        product.answers.append(answer.text)


def make_machine(product: Product, sandbox: str) -> str:
    """A connection that the sandbox's token endpoint gives its token; returns its id."""
    client = {"client_id": "canary-machine", "client_secret": f"{CANARY}-machine"}
    assert product.session.post(f"{sandbox}/_sandbox/oauth", json=client, headers={"Authorization": ""}).ok
    block = {**client, "token_url": f"{sandbox}/oauth/token", "scopes": ["read"]}
    config = {"base_url": f"{sandbox}/auth/client-credentials", "auth_type": "client_credentials"}
    body = {
        "name": "Canary machine",
        "slug": "canary-machine",
        "category": "other",
        "environment": "development",
        "api_config": {**config, "client_credentials": block, "retry_config": {"max_retries": 0}},
    }
    provider = product.ask("POST", "/admin/external-apis", json=body)
    assert provider.status_code == 201, provider.text
    path = f"/admin/external-apis/{provider.json()['id']}/connections"
    made = product.ask("POST", path, json={"connection_name": "Canary machine", "credentials": {}})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def tables(folder: Path) -> str:
    url = runtime.postgres_url(runtime.socket_dir(folder), runtime.OWNER_ROLE)
    found = ""
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name))
            found += repr(connection.execute(query).fetchall())
    assert "canary-0" in found
    return found


def valkey(folder: Path) -> str:
    client: Any = redis.Redis.from_url(runtime.environment(folder)["REDIS_URL"])
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    return repr([(key, readers[client.type(key)](key)) for key in client.scan_iter()])


def test_no_secret_stands_in_clear_anywhere(product: Product, collector: Receiver) -> None:
    sandbox = f"http://127.0.0.1:{product.made.port + 1}"
    store_canaries(product, sandbox)
    printed = call_with_canaries(product)
    made = pass_canaries_on(product, sandbox)
    try_the_door(product)
    # The counters reach the database by the worker.
    wait_for(lambda: '"errors_count":0' not in counted(product), 30, lambda: counted(product))
    marks = {CANARY, base64.b64encode(f"{CANARY}-user:{CANARY}-password".encode()).decode()[:20], CANARY.encode().hex()}
    marks |= made
    wait_for(lambda: 'eam_calls_total{provider="canary-machine"}' in scraped(product), 30, product.log.read_text)
    wait_for(lambda: any("canary-machine" in span.name for span in collector.spans), 30, lambda: collector.paths)
    places = {
        "metrics": scraped(product),
        "traces": b"".join(collector.raw).decode("latin-1"),
        "answers": "".join(product.answers),
        "output of call": printed,
        "log": own_log(product),
        "tables": tables(product.made.folder),
        "valkey": valkey(product.made.folder),
    }
    for file in product.made.folder.rglob("*"):
        if file.is_file() and not file.is_socket():
            places[str(file.relative_to(product.made.folder))] = file.read_bytes().decode("latin-1")
    found = {(place, mark) for place, text in places.items() for mark in marks if mark in text}
    lines = [line[:300] for line in places["log"].splitlines() if any(mark in line for mark in marks)]
    assert not found, lines[:20]


def counted(product: Product) -> str:
    listed = product.ask("GET", "/admin/external-apis/canary-0/connections")
    return listed.text


def scraped(product: Product) -> str:
    return product.ask("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text


def own_log(product: Product) -> str:
    """The sandbox writes into the same file, but it is the provider: the paths that it tells of are its own."""
    return "".join(line for line in product.log.open() if not line.startswith("127.0.0.1 "))
