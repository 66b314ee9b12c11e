"""Header fields: which travel to the provider, and which come back."""

from __future__ import annotations

import pytest
from urllib3 import HTTPHeaderDict

from connections.gateway.headers import passed_answer, passed_request


def variable(name: str) -> str:
    return f"HTTP_{name.upper().replace('-', '_')}"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Baggage",
        "CF-Connecting-IP",
        "Client-Ip",
        "Connection",
        "Cookie",
        "Expect",
        "Forwarded",
        "Host",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Anything",
        "TE",
        "Traceparent",
        "Tracestate",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Api-Key",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Anything",
        "X-Host",
        "X-Original-Host",
        "X-Original-Url",
        "X-Real-Ip",
        "X-Request-Id",
        "X-Rewrite-Url",
    ],
)
def test_what_is_ours_or_this_hops_does_not_travel(name: str) -> None:
    assert passed_request({variable(name): "x", "HTTP_ACCEPT": "*/*"}) == {"Accept": "*/*"}


def test_what_the_connection_header_names_does_not_travel() -> None:
    environ = {"HTTP_CONNECTION": "close, X-Own", "HTTP_X_OWN": "1", "HTTP_X_OTHER": "2", "CONTENT_TYPE": "text/plain"}
    assert passed_request(environ) == {"X-Other": "2", "Content-Type": "text/plain"}


def test_environment_variables_are_no_header_fields() -> None:
    assert passed_request({"SECRET_KEY": "x", "CONTENT_LENGTH": "3", "wsgi.input": object()}) == {}


def test_a_method_is_overridden_only_where_all_are_allowed() -> None:
    environ = {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}
    assert passed_request(environ) == {"X-Http-Method-Override": "DELETE"}
    assert passed_request(environ, may_override_method=False) == {}


def test_an_answer_loses_what_it_says_to_others() -> None:
    headers = HTTPHeaderDict(
        [
            ("Content-Type", "text/html"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "keep-alive, X-Own"),
            ("X-Own", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("Strict-Transport-Security", "max-age=1"),
            ("Access-Control-Allow-Origin", "*"),
            ("X-Accel-Redirect", "/internal/file"),
            ("X-Sendfile", "/etc/passwd"),
            ("Clear-Site-Data", '"*"'),
            ("Link", "<a>; rel=next"),
            ("Link", "<b>; rel=last"),
            ("X-Folded", "a\r\n b"),
            ("X-Request-Id", "theirs"),
        ]
    )
    assert passed_answer(headers) == {
        "Content-Type": "text/html",
        "Link": "<a>; rel=next, <b>; rel=last",
        "X-Folded": "a b",
        "Content-Security-Policy": "sandbox",
        "Vary": "Authorization, X-Api-Key",
        "X-Upstream-Request-Id": "theirs",
    }


def test_a_length_is_kept_where_it_is_one() -> None:
    assert passed_answer(HTTPHeaderDict({"Content-Length": "5"}))["Content-Length"] == "5"
    assert "Content-Length" not in passed_answer(HTTPHeaderDict({"Content-Length": "0"}), has_body=False)


def test_a_providers_own_policies_stand_beside_ours() -> None:
    headers = passed_answer(HTTPHeaderDict({"Content-Security-Policy": "default-src 'self'", "Vary": "Accept"}))
    assert headers["Content-Security-Policy"] == "default-src 'self', sandbox"
    assert headers["Vary"] == "Accept, Authorization, X-Api-Key"


def test_a_field_with_underscores_takes_no_others_place() -> None:
    environ = {"CONTENT_TYPE": "text/plain", "HTTP_CONTENT_TYPE": "evil/x", "HTTP_CONTENT_LENGTH": "9"}
    assert passed_request(environ) == {"Content-Type": "text/plain"}


def test_equal_lengths_are_one() -> None:
    headers = HTTPHeaderDict([("Content-Length", "2"), ("Content-Length", "2")])
    assert passed_answer(headers)["Content-Length"] == "2"


@pytest.mark.parametrize(("sent", "text"), [(b"\xc3\xa9\xc5\x82", "\u00e9\u0142"), (b"\xe9", "\u00e9"), (b"e", "e")])
def test_bytes_beyond_ascii_are_told_to_the_server_as_text(sent: bytes, text: str) -> None:
    """It writes UTF-8, whatever they were."""
    assert passed_answer(HTTPHeaderDict({"X-Name": sent.decode("latin-1")}))["X-Name"] == text
