"""After a product's day no secret stands in clear: in no answer, table, Valkey key or log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from connections.sandbox import credentials as sandbox_credentials
from connections.sandbox import definitions
from external_apis import valkey
from tests import seed_bodies
from tests.factories import make_tenant
from tests.rest import PROVIDERS, with_key
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

_ROTATED = "a-second-token-of-the-rotation-0001"


@pytest.fixture
def answers(sandbox: Sandbox, settings: Any, caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """All that REST said while it made, listed, showed, changed, tested and refused providers and connections."""
    caplog.set_level(logging.INFO)
    settings.EGRESS_ALLOW = [sandbox.url.removeprefix("http://")]
    client = with_key()
    said = [client.send("post", PROVIDERS, body) for body in seed_bodies.ALL]
    for body in definitions.providers(sandbox.url):
        credentials = body.pop("connection")
        made = client.send("post", PROVIDERS, body)
        assert made.status_code == 201, made.content
        url = f"{made['Location']}/connections"
        row = client.send("post", url, credentials)
        assert row.status_code == 201, row.content
        said += [made, row, client.get(made["Location"]), client.get(url), client.get(row["Location"])]
        said.append(client.send("post", f"{row['Location']}/test"))
        said.append(client.send("post", url, credentials))
        if "access_token" in credentials["credentials"]:
            said.append(client.send("patch", row["Location"], {"credentials": {"access_token": _ROTATED}}))
            said.append(client.send("post", f"{row['Location']}/test"))
        wrong = {**credentials, "credentials": {"unknown": next(iter(sandbox_credentials.SECRETS))}}
        said.append(client.send("post", url, wrong))
    said.append(client.get(PROVIDERS))
    said.append(client.send("patch", f"{PROVIDERS}/stripe", {"api_config": {"api_key": {"key": 7}}}))
    return [response.content for response in said]


def test_no_secret_is_shown_or_stored_in_clear(answers: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    secrets = {*seed_bodies.SECRETS, *sandbox_credentials.SECRETS, _ROTATED}
    assert b"".join(answers).count(b'"fingerprint"') > 20  # there were secrets to hide
    assert b'"ok":true' in b"".join(answers)
    _assert_absent(secrets, {"an answer": answers, "a table": list(_rows()), "Valkey": list(_valkey())})
    records = [f"{record.getMessage()} {record.exc_info}".encode() for record in caplog.get_records("setup")]
    assert records  # refusals are logged
    _assert_absent(secrets, {"the log": records})


def test_the_search_does_find_what_stands_in_clear() -> None:
    make_tenant("in-clear-0001")
    valkey.client().hset(f"{valkey.PREFIX}test-in-clear", "field", "in-clear-0002")
    try:
        with pytest.raises(AssertionError, match="a table"):
            _assert_absent({"in-clear-0001"}, {"a table": list(_rows())})
        with pytest.raises(AssertionError, match="Valkey"):
            _assert_absent({"in-clear-0002"}, {"Valkey": list(_valkey())})
    finally:
        valkey.client().delete(f"{valkey.PREFIX}test-in-clear")


def _assert_absent(secrets: set[str], places: dict[str, list[bytes]]) -> None:
    for place, texts in places.items():
        for secret in secrets:
            forms = (secret.encode(), secret.encode().hex().encode())
            assert not any(form in text for form in forms for text in texts), f"{secret} stands in {place}"


def _rows() -> Iterator[bytes]:
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" AS t')
            yield from (row[0].encode() for row in cursor.fetchall())


def _valkey() -> Iterator[bytes]:
    client = valkey.client()
    readers: dict[Any, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        yield key + repr(readers[client.type(key)](key)).encode()
