"""Redirects: followed with the credential at home, without it abroad, and not at all where that would do harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from urllib3 import HTTPHeaderDict

from connections.client import ApiClient
from connections.client.outgoing import Headers, Outgoing
from connections.client.redirects import next_request
from connections.sandbox import credentials
from external_apis.errors import BadAnswer, ConnectFailed, EgressRefused, UpstreamUnauthorized
from external_apis.transport import Answer, Origin
from tests.connections.client.conftest import MakeClient, make_target
from tests.sandbox import Sandbox
from tests.sockets import OK, read_head, serve


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[bytes]]]:
    """Another origin, and the heads of the requests that reached it."""
    heads: list[bytes] = []

    def play(client: Any) -> None:
        heads.append(read_head(client))
        client.sendall(OK)

    with serve(play) as port:
        yield f"http://127.0.0.1:{port}", heads


def test_at_home_the_credential_goes_along(make_client: MakeClient) -> None:
    response = make_client("bearer").get("/redirect?to=/auth/bearer/me")
    assert response.json()["scheme"] == "bearer"


@pytest.mark.parametrize("scheme", ["bearer", "api-key-header", "api-key-query", "basic", "headers"])
def test_abroad_no_credential_goes_along(
    make_client: MakeClient, elsewhere: tuple[str, list[bytes]], scheme: str
) -> None:
    origin, heads = elsewhere
    cookies = {"Cookie": "session=hunter22", "X-My-Secret": "hunter22"}
    assert make_client(scheme).get(f"/redirect?to={origin}/landing", headers=cookies).content == b"ok"
    (head,) = heads
    assert head.startswith(b"GET /landing HTTP/1.1\r\n")
    for secret in (*credentials.SECRETS, "hunter22", credentials.BASIC_USERNAME):
        assert secret.encode() not in head
    assert b"authorization" not in head.lower()
    assert b"cookie" not in head.lower()


def test_a_provider_that_hands_our_key_on_is_not_followed(
    make_client: MakeClient, elsewhere: tuple[str, list[bytes]]
) -> None:
    origin, heads = elsewhere
    stolen = quote(f"{origin}/?k={credentials.QUERY_API_KEY}", safe="")
    with pytest.raises(EgressRefused, match="credential") as caught:
        make_client("api-key-query").get(f"/redirect?to={stolen}")
    assert credentials.QUERY_API_KEY not in str(caught.value)
    assert not heads


def redirecting(make_location: Callable[[bytes], str]) -> Any:
    """A provider that answers every request with a redirect to what the function makes of its head."""

    def play(client: Any) -> None:
        while True:
            location = make_location(read_head(client)).encode()
            client.sendall(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)

    return serve(play)


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 12])
@pytest.mark.parametrize("key", ["abcd+EFGH/ijkl==", "k3y12", "k3y", "plainsecret12345"])
def test_a_query_key_is_not_handed_on_however_it_is_quoted(
    allow_loopback: None, elsewhere: tuple[str, list[bytes]], key: str, depth: int
) -> None:
    origin, heads = elsewhere

    def locate(head: bytes) -> str:
        target = head.split()[1].decode()
        for _ in range(depth):
            target = quote(target, safe="")
        return f"{origin}/login?next={target}"

    with redirecting(locate) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "api_key", "api_key": {"location": "query"}}
        with pytest.raises(EgressRefused, match="credential"):
            ApiClient(make_target(config, {"api_key": key})).get("/x")
    assert not heads


@pytest.mark.parametrize("has_scheme", [True, False])
def test_what_signing_made_of_a_secret_is_not_handed_on(
    allow_loopback: None, elsewhere: tuple[str, list[bytes]], has_scheme: bool
) -> None:
    origin, heads = elsewhere

    def locate(head: bytes) -> str:
        (line,) = (line for line in head.decode().split("\r\n") if line.startswith("Authorization: Basic "))
        value = line.removeprefix("Authorization: ")
        return f"{origin}/?a={quote(value if has_scheme else value.partition(' ')[2].rstrip('='))}"

    with redirecting(locate) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "basic"}
        client = ApiClient(make_target(config, {"username": "user1", "password": "hunter2hunter2"}))
        with pytest.raises(EgressRefused, match="credential"):
            client.get("/x")
    assert not heads


def test_a_key_that_comes_back_in_a_redirect_at_home_is_sent_once(allow_loopback: None) -> None:
    targets: list[bytes] = []

    def play(client: Any) -> None:
        while True:
            targets.append(read_head(client).split()[1])
            path, _, query = targets[-1].partition(b"?")
            moved = b"HTTP/1.1 301 Moved\r\nLocation: /x/?%b\r\nContent-Length: 0\r\n\r\n" % query
            client.sendall(moved if path == b"/x" else OK)

    with serve(play) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "api_key", "api_key": {"location": "query"}}
        ApiClient(make_target(config, {"api_key": "plainsecret"})).get("/x?a=b")
    assert [target.count(b"plainsecret") for target in targets] == [1, 1]
    assert targets[1].startswith(b"/x/?a=b&")


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_abroad_nothing_but_a_get_is_redirected(
    make_client: MakeClient, elsewhere: tuple[str, list[bytes]], method: str, status: int
) -> None:
    origin, heads = elsewhere
    with pytest.raises(EgressRefused, match="not redirected to another origin"):
        make_client("bearer").request(method, f"/redirect?status={status}&to={origin}/", data={"a": 1})
    assert not heads


@pytest.mark.parametrize(
    ("method", "status", "then", "has_body"),
    [
        ("POST", 301, "GET", False), ("POST", 302, "GET", False), ("POST", 303, "GET", False),
        ("PUT", 303, "GET", False), ("POST", 307, "POST", True), ("POST", 308, "POST", True), ("PUT", 302, "PUT", True),
        ("PATCH", 301, "PATCH", True),
    ],
)  # fmt: skip
def test_the_method_changes_as_rfc_9110_says(
    make_client: MakeClient, method: str, status: int, then: str, has_body: bool
) -> None:
    echoed = make_client("bearer").request(
        method, f"/redirect?status={status}&to=/auth/bearer/echo", data={"a": 1}
    ).json()  # fmt: skip
    assert echoed["method"] == then
    assert echoed["json"] == ({"a": 1} if has_body else None)
    assert ("Content-Type" in echoed["headers"]) is has_body


def test_a_redirect_to_the_metadata_service_is_refused(make_client: MakeClient) -> None:
    with pytest.raises(EgressRefused, match="link-local or metadata"):
        make_client("bearer").get("/redirect?to=http://169.254.169.254/latest/meta-data/")


@pytest.mark.parametrize("to", ["http://0x7f.1/", "http://[::ffff:10.0.0.1]/", "ftp://a.test/", "file:///etc/passwd",
                                "http://user:pw@127.0.0.1/", "http://localhost:1/"])  # fmt: skip
def test_a_redirect_to_where_we_do_not_go_is_refused(make_client: MakeClient, settings: Any, to: str) -> None:
    target = make_client("bearer").target
    settings.EGRESS_ALLOW = [str(Origin.of(target.config.base_url)).removeprefix("http://")]
    client = ApiClient(target)
    with pytest.raises(EgressRefused):
        client.get(f"/redirect?to={quote(to, safe='')}")


def test_whoever_sends_us_abroad_and_back_gets_no_signed_request(make_client: MakeClient, sandbox: Sandbox) -> None:
    back = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % f"{sandbox.url}/auth/bearer/me".encode()

    def play(client: Any) -> None:
        read_head(client)
        client.sendall(back)

    with serve(play) as port, pytest.raises(UpstreamUnauthorized):
        make_client("bearer").get(f"/redirect?to=http://127.0.0.1:{port}/")


def test_a_post_that_was_redirected_has_happened_and_is_not_repeated(make_client: MakeClient, sandbox: Sandbox) -> None:
    with pytest.raises(ConnectFailed) as caught:
        make_client("bearer").post("/redirect?key=posted&status=303&to=http://127.0.0.1:1/", {"a": 1})
    assert caught.value.may_have_happened
    assert caught.value.details["may_have_happened"] is True
    assert sandbox.count("posted") == 1


def test_circles_end(make_client: MakeClient, sandbox: Sandbox) -> None:
    with pytest.raises(BadAnswer, match="more than 5 times") as caught:
        make_client().get("/redirect-loop?key=circle")
    assert caught.value.attempts == 1
    assert sandbox.count("circle") == 6


def test_hops_at_home_take_slots(make_client: MakeClient, sandbox: Sandbox) -> None:
    client = make_client(rate_limit={"requests_per_hour": 75, "burst": 3})  # a burst of 3
    with pytest.raises(Exception, match="rate limit"):
        client.get("/redirect-loop?key=slots")
    assert sandbox.count("slots") == 3


def test_a_redirect_without_location_is_an_answer(allow_loopback: None) -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"

    def play(client: Any) -> None:
        read_head(client)
        client.sendall(answer)

    with serve(play) as port:
        target = make_target({"base_url": f"http://127.0.0.1:{port}", "auth_type": "none"}, {})
        assert ApiClient(target).get("/").status_code == 304


def following(location: str, scheme: str = "https") -> Outgoing | None:
    request = Outgoing("GET", Origin(scheme, "api.test", 443), "/v1/a?b=c", Headers({"X": "y"}))
    return next_request(request, Answer(302, "", HTTPHeaderDict({"Location": location}), b""), frozenset(("s3cr3t/1",)))


def test_never_from_https_to_http() -> None:
    with pytest.raises(EgressRefused, match="from https to http"):
        following("http://api.test/")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("next?x=1#frag", "https://api.test:443/v1/next?x=1"),
        ("/root", "https://api.test:443/root"),
        ("//other.test/x", "https://other.test/x"),
        ("?q", "https://api.test:443/v1/a?q"),
        ("https://API.test/", "https://api.test/"),
    ],
)
def test_a_relative_location_is_resolved(location: str, url: str) -> None:
    found = following(location)
    assert found is not None
    assert found.url == url.replace(":443", "")


@pytest.mark.parametrize("spelling", ["s3cr3t/1", "s3cr3t%2F1", "s3cr3t%2f1"])
def test_a_secret_is_found_however_it_is_spelled(spelling: str) -> None:
    with pytest.raises(EgressRefused, match="credential"):
        following(f"https://evil.test/?a={spelling}")


@pytest.mark.parametrize("location", ["https://[::1", "https://a.test:99999/", "http://"])
def test_a_location_that_is_no_url_is_an_error(location: str) -> None:
    with pytest.raises((BadAnswer, EgressRefused)):
        following(location)
