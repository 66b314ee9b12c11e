"""What calls leave behind: real calls against the sandbox, and what then waits in Valkey."""

from __future__ import annotations

import gzip
import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from connections.client import usage
from connections.client.samples import MASK, Sample, shown_path
from external_apis import request_context
from external_apis.errors import ApiManagerError, BadAnswer, InvalidInput
from tests.connections.client.conftest import FakeTime, MakeClient
from tests.connections.client.test_usage import forget
from tests.sandbox import Sandbox
from tests.sockets import Play, read_head, serve

SECRET = "swordfish-0123456789"


@pytest.fixture(autouse=True)
def _nothing_counted_yet() -> Iterator[None]:
    forget()
    yield
    forget()


def taken() -> tuple[dict[str, int], list[Sample]]:
    with usage.drain() as batch:
        bags = list(batch.periods.values())
        merged = {name: sum(bag.get(name, 0) for bag in bags) for bag in bags for name in bag}
        return merged, batch.samples


def test_errors_statuses_and_durations_are_counted(make_client: MakeClient, settings: Any) -> None:
    settings.CALL_SAMPLE_ONE_IN = 0
    client = make_client(retry_config={"max_retries": 0})
    client.get("/balance")
    for path in ("/status/404", "/status/500"):
        with pytest.raises(ApiManagerError):
            client.get(path)
    bag, samples = taken()
    assert (bag["calls"], bag["errors"]) == (3, 2)
    assert {name: number for name, number in bag.items() if ":" in name and not name.startswith("le:")} == {
        "status:2xx": 1,
        "status:4xx": 1,
        "status:5xx": 1,
        "error:UPSTREAM_CLIENT_ERROR": 1,
        "error:UPSTREAM_SERVER_ERROR": 1,
    }
    assert sum(number for name, number in bag.items() if name.startswith("le:")) == 3
    assert bag["bytes_in"] > 0
    assert sorted((sample.path.rpartition("/")[2], sample.status) for sample in samples) == [("404", 404), ("500", 500)]


def test_a_sample_tells_what_happened(make_client: MakeClient, fake_time: FakeTime) -> None:
    client = make_client(retry_config={"max_retries": 2})
    request_context.start("request-of-this-test")
    with pytest.raises(ApiManagerError):
        client.get("/status/503", params={"password": SECRET})
    _, (sample,) = taken()
    assert (sample.method, sample.status, sample.error) == ("GET", 503, "UPSTREAM_SERVER_ERROR")
    assert sample.path.endswith("/status/503")
    assert (sample.attempts, sample.request_id) == (3, "request-of-this-test")
    assert sample.duration_ms == round(sum(fake_time.slept) * 1000) > 0
    assert SECRET not in repr(sample)


def test_the_request_id_goes_upstream_and_is_new_where_there_is_none(make_client: MakeClient, sandbox: Sandbox) -> None:
    client = make_client()
    request_context.start("request-of-this-test")
    first = client.get("/balance", params={"key": "observing-id"})
    request_context._current.set(request_context.RequestContext())
    for _ in range(2):
        client.get("/balance", params={"key": "observing-id"})
    assert first.ok
    sent = [dict(request["headers"]) for request in sandbox.requests("observing-id")]
    ids = [{name.lower(): value for name, value in headers.items()}["x-request-id"] for headers in sent]
    assert ids[0] == "request-of-this-test"
    assert len(set(ids)) == 3
    assert all(found.startswith("req_") for found in ids[1:])
    assert not any("traceparent" in {name.lower() for name in headers} for headers in sent)


def test_one_good_call_in_so_many_is_kept(make_client: MakeClient, settings: Any) -> None:
    settings.CALL_SAMPLE_ONE_IN = 3
    usage._recorder._good = 0
    client = make_client()
    for _ in range(7):
        client.get("/balance")
    _, samples = taken()
    assert [(sample.status, sample.error) for sample in samples] == [(200, "")] * 2


def test_waits_are_counted_also_of_a_call_that_got_no_slot(make_client: MakeClient, fake_time: FakeTime) -> None:
    client = make_client(rate_limit={"requests_per_day": 1})
    client.get("/balance")
    with pytest.raises(ApiManagerError):
        client.get("/balance", timeout_ms=1000)
    bag, samples = taken()
    assert (bag["calls"], bag.get("errors", 0), bag["error:RATE_LIMIT_EXCEEDED"]) == (1, 0, 1)
    assert samples[-1].error == "RATE_LIMIT_EXCEEDED"


def test_a_wait_that_ends_is_counted_with_its_time(
    make_client: MakeClient, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    answers = iter([1.5, 0.25, 0.0])
    monkeypatch.setattr(client._lane, "take", lambda *args, **kwargs: next(answers))
    client.get("/balance")
    bag, _ = taken()
    assert (bag["waits"], bag["wait_ms"]) == (2, 1750)


def test_bodies_are_counted_in_both_directions(make_client: MakeClient) -> None:
    client = make_client(retry_config={"max_retries": 0})
    body = client.post("/echo", data=b"x" * 1000).content
    bag, _ = taken()
    assert (bag["bytes_out"], bag["bytes_in"]) == (1000, len(body))
    client.post("/echo", data=io.BytesIO(b"y" * 5000))
    client.post("/echo", data=iter([b"z" * 10, b"z" * 20]))
    bag, _ = taken()
    assert bag["bytes_out"] == 5030


def test_a_body_that_its_caller_does_not_bring_to_an_end_is_no_error_of_the_providers(make_client: MakeClient) -> None:
    client = make_client(retry_config={"max_retries": 0})
    with pytest.raises(InvalidInput):
        client.post("/echo", data=iter([b"x" * 1000, "no bytes"]))
    bag, samples = taken()
    assert bag["calls"] == 1
    assert not [name for name in bag if name.startswith("error")]
    assert [sample.error for sample in samples] in ([], [""])


def test_bodies_of_all_attempts_are_counted(make_client: MakeClient) -> None:
    client = make_client(retry_config={"max_retries": 2})
    with pytest.raises(ApiManagerError):
        client.put("/status/503", data=b"x" * 100)
    assert taken()[0]["bytes_out"] == 300


def test_a_stream_is_counted_when_it_ends_and_when_it_is_given_up(make_client: MakeClient, settings: Any) -> None:
    settings.CALL_SAMPLE_ONE_IN = 1
    client = make_client()
    with client.get("/balance", stream=True) as response:
        bag, samples = taken()
        assert (bag["calls"], bag.get("bytes_in"), samples) == (1, None, [])
        length = len(response.content)
    bag, samples = taken()
    assert bag == {"bytes_in": length}
    assert [(sample.status, sample.error) for sample in samples] == [(200, "")]
    with client.get("/balance", stream=True) as response:
        response.raw.read(5)
    bag, samples = taken()
    assert (bag["calls"], bag["bytes_in"], bag.get("errors")) == (1, 5, None)
    assert [sample.error for sample in samples] == [""]


def unframed(answer: bytes) -> Play:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)

    return play


@pytest.mark.parametrize("path", ["/lie?content_length=5000&bytes=10", "/close?when=body"])
def test_a_body_that_breaks_off_makes_a_failed_call(path: str, make_client: MakeClient, fake_time: FakeTime) -> None:
    client = make_client()
    with client.get(path, stream=True) as response:
        fake_time.at += 2
        with pytest.raises(BadAnswer):
            response.raw.read()
    bag, (sample,) = taken()
    assert (bag["calls"], bag["errors"], bag["error:BAD_ANSWER"], bag["status:2xx"]) == (1, 1, 1, 1)
    assert sum(number for name, number in bag.items() if name.startswith("le:")) == 1
    assert (sample.status, sample.error, sample.duration_ms) == (200, "BAD_ANSWER", 2000)
    assert sample.request_id


def test_a_compressed_body_that_breaks_off_makes_one_as_well(make_client: MakeClient, settings: Any) -> None:
    packed = gzip.compress(b"x" * 100_000)[:-20]
    with serve(unframed(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed)) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}")
        with client.get("/a", stream=True) as response, pytest.raises(BadAnswer):
            response.raw.read()
    assert taken()[0]["error:BAD_ANSWER"] == 1


def test_a_refusal_that_breaks_off_is_one_error(make_client: MakeClient) -> None:
    with serve(unframed(b"HTTP/1.1 404 No\r\nContent-Length: 90\r\n\r\nshort")) as port:
        client = make_client(base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        passed = client.exchange("GET", "/a", headers={}, request_id="request-of-this-test", body_seconds=5)
        with pytest.raises(BadAnswer):
            passed.body.read()
    bag, (sample,) = taken()
    assert (bag["calls"], bag["errors"], bag["error:UPSTREAM_CLIENT_ERROR"]) == (1, 1, 1)
    assert "error:BAD_ANSWER" not in bag
    assert sample.status == 404


def test_a_pause_that_the_provider_asked_for_is_a_wait(make_client: MakeClient) -> None:
    client = make_client(retry_config={"max_retries": 2})
    with pytest.raises(ApiManagerError):
        client.get("/rate-limited", params={"retry_after": 3})
    bag, _ = taken()
    assert (bag["waits"], bag["wait_ms"]) == (2, 6000)
    with pytest.raises(ApiManagerError):
        make_client(retry_config={"max_retries": 2}).get("/status/503")
    assert "waits" not in taken()[0]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v1/charges?key=value", "/v1/charges"),
        ("/status/404", "/status/404"),
        ("/api/chat.postMessage", "/api/chat.postMessage"),
        ("/api/conversations.list", "/api/conversations.list"),
        ("/2010-04-01/Accounts/AC0123456789/Messages.json", f"/2010-04-01/Accounts/{MASK}/Messages.json"),
        ("/v1.0/me/mail-folders/in_box", "/v1.0/me/mail-folders/in_box"),
        ("/oauth2/v2/userinfo", "/oauth2/v2/userinfo"),
        ("/admin/api/2024-01/products", "/admin/api/2024-01/products"),
        ("/" + "a/" * 400, ("/" + "a/" * 400)[:300]),
        ("/", "/"),
    ],
)
def test_words_versions_and_short_numbers_of_a_path_are_kept(target: str, shown: str) -> None:
    assert shown_path(target, ["swordfish", "ab", ""]) == shown


@pytest.mark.parametrize(
    "segment",
    [
        *("ch_3Nabc", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "XXXXXXXXXXXXXXXXXXXXXXXX", "a" * 32, "T0", "aBcDeFgHiJ"),
        *(
            "alice%40example.com",
            "john.doe",
            "hunter2Pass!",
            "hunter2",
            "bot12345:AAZq9x",
            "x;token=abc",
            "a=1&token=abc",
        ),
        *("AKIAIOSFODNN7EXAMPLE", "dXNlcjpwYXNz", "123456", "1234", "4111111111111111", "078-05-1120", "+15005550006"),
        *(
            "correct-horse-battery-staple",
            "correct%20horse",
            "a%3Ftoken=abc",
            "a%253Ftoken",
            "it's-abc",
            "x%22y",
            "%0d%0a",
        ),
        *(
            "Ünïcode",
            "1984-05-17",
            "swordfish",
            "a-swordfish-b",
            "SWORDFISH",
            "sword%66ish",
            "..",
            "-",
            "word.word.word",
            "correct_" + "a" * 16 + "_" + "b" * 16,  # words, but longer than a name
        ),
    ],
)
def test_everything_else_in_a_path_is_masked(segment: str) -> None:
    assert shown_path(f"/v1/{segment}/send?q=1", ["swordfish"]) == f"/v1/{MASK}/send"


@pytest.mark.parametrize(
    "path",
    ["/v1/Sword/fish+Tail/x", "/v1/Sword%2Ffish+Tail", "/v1/Sword%252Ffish%2BTail", "/v1/sword/fish+tail"],
)
def test_a_secret_that_goes_over_several_segments_takes_the_whole_path_with_it(path: str) -> None:
    assert shown_path(path, ["Sword/fish+Tail"]) == f"/{MASK}"
    assert shown_path("/v1/up/down/x", ["up/down"]) == f"/{MASK}"


def test_neither_good_calls_nor_other_connections_push_failures_out() -> None:
    samples = usage._Samples()
    for number in range(2000):
        samples.add(Sample("conn_noisy", number, "GET", "/", 200, "X" if number % 2 else "", 1, 1, ""))
        if number < 3:
            samples.add(Sample("conn_quiet", number, "GET", "/", 500, "X", 1, 1, ""))
    assert {name: [sample.at for sample in queue][-3:] for name, queue in samples.queues.items()} == {
        ("conn_noisy", False): [1994, 1996, 1998],
        ("conn_noisy", True): [1995, 1997, 1999],
        ("conn_quiet", True): [0, 1, 2],
    }
    assert len(samples) == 2 * usage._MOST_SAMPLES_OF_ONE + 3
    for number in range(usage._MOST_SAMPLES):
        samples.add(Sample(f"conn_{number}", number, "GET", "/", 500, "X", 1, 1, ""))
    assert len(samples) == usage._MOST_SAMPLES
    assert min(len(queue) for queue in samples.queues.values()) == 1
    assert len(samples.queues.get(("conn_noisy", True), ())) < 10


def test_what_waits_for_valkey_is_bounded(settings: Any) -> None:
    """Away for hours, with thousands of connections: memory has an end, and the newest failures are kept."""
    url, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    for number in range(usage._MOST_PERIODS + 100):
        usage.record(f"conn_{number}", {"calls": 1}, at=60.0)
    for number in range(usage._MOST_SAMPLES + 100):
        made = Sample(f"conn_{number % 40}", float(number), "GET", "/", 500, "X", 1, 1, "")
        usage.keep(lambda made=made: made, is_error=True, one_in=0)  # type: ignore[misc]
    waiting = [usage._recorder._sums, usage._recorder._batch or usage._Sums()]
    assert sum(len(sums.periods) for sums in waiting) <= 2 * usage._MOST_PERIODS
    assert all(len(sums.samples) <= usage._MOST_SAMPLES for sums in waiting)
    settings.REDIS_URL = url
    with usage.drain() as batch:
        assert len(batch.periods) >= usage._MOST_PERIODS
        assert batch.samples[-1].at == usage._MOST_SAMPLES + 99
