"""Charsets that a stranger names: none of them is a failure of ours, whichever of Python's codecs it is."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import RequestFactory

from external_apis.hostile_input import CarefulRequest

pytestmark = pytest.mark.django_db

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n'
ODD = ("undefined", "hex", "idna", "unicode_escape", "utf-7", "punycode", "rot13", "utf-16", "no-such", "é")
PAGES = ("/contact", "/blog", "/admin/login/", "/nowhere", "/connect/oauth")
APIS = (
    "/api/external/blogs",
    "/api/external/proxy/x",
    "/api/webhooks/x",
    "/admin/external-apis",
    "/exsvc/x",
    "/healthz",
)


@pytest.fixture(scope="module")
def handler() -> WSGIHandler:
    handler = WSGIHandler()
    handler.request_class = CarefulRequest
    return handler


@pytest.fixture(autouse=True)
def _one_connection() -> Any:
    """As Django's own test client has it: a request neither opens nor ends the test's connection."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


def ask(handler: WSGIHandler, method: str, path: str, kind: str, body: bytes = b"") -> int:
    environ = RequestFactory().generic(method, path).environ
    environ |= {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
    statuses: list[str] = []

    def start(status: str, *_rest: Any) -> Any:
        statuses.append(status)

    response = handler(environ, start)
    list(response)
    response.close()
    return int(statuses[0][:3])


@pytest.mark.parametrize("charset", ODD)
def test_an_odd_charset_is_refused_by_pages_and_no_matter_to_apis(handler: WSGIHandler, charset: str) -> None:
    for path in PAGES:
        assert ask(handler, "GET", f"{path}?x=%F0", f"text/plain; charset={charset}") == 400, path
        for kind, body in (
            (FORM, b"name=%F0"),
            (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n'),
        ):
            assert ask(handler, "POST", path, f"{kind}; charset={charset}", body) == 400, path
    for path in APIS:
        statuses = [ask(handler, "GET", f"{path}?x=%F0", f"text/plain; charset={charset}")]
        statuses.append(ask(handler, "POST", path, f"application/json; charset={charset}", b'{"x": 1}'))
        assert all(status < 500 for status in statuses), (path, statuses)


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii", "iso-8859-1", "latin1"])
def test_charsets_that_are_read(handler: WSGIHandler, charset: str) -> None:
    assert ask(handler, "GET", "/contact?x=%F0", f"text/plain; charset={charset}") == 200
    assert ask(handler, "POST", "/contact", f"{FORM}; charset={charset}", b"name=%F0") == 403, "no token"


@pytest.mark.parametrize(
    "parameter", ["a*=undefined''x%F0", "a*=klingon''x", "charset*=undefined''utf-8", "charset*=x"]
)
@pytest.mark.parametrize("path", PAGES[:1] + APIS)
def test_a_header_that_cannot_be_read(handler: WSGIHandler, path: str, parameter: str) -> None:
    for method, kind in (("GET", "text/plain"), ("POST", "application/json"), ("POST", MULTIPART)):
        assert ask(handler, method, f"{path}?x=%F0", f"{kind}; {parameter}", b"{}") < 500
    part = f'--b\r\nContent-Disposition: form-data; name="n"; filename="f"; {parameter}\r\n\r\nx\r\n--b--\r\n'
    assert ask(handler, "POST", path, MULTIPART, part.encode()) < 500
