"""Log lines: JSON that begins with the message, by whose mark people look for it, and without what paths hold."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils.log import log_response

from config.logs import configuration, hide_links
from external_apis.admin_api.traffic import TrafficMiddleware


def _line(record: logging.LogRecord) -> str:
    formatter = configuration(level="info", as_json=True)["formatters"]["structlog"]
    made = structlog.stdlib.ProcessorFormatter(
        processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
    )
    return made.format(record)


def test_a_json_line_begins_with_its_message() -> None:
    record = logging.LogRecord("some.logger", logging.INFO, __file__, 1, "[ExternalAPI] GET /x %d", (200,), None)
    line = _line(record)
    assert line.startswith('{"event": "[ExternalAPI] GET /x 200"')
    assert json.loads(line)["logger"] == "some.logger"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /api/external/proxy/conn_1/bot:key/send?a=b 404", "GET /api/external/proxy/conn_1/[path] 404"),
        (
            '"GET /api/external/proxy/conn_1/it\'s?a=b HTTP/1.1" 404 5',
            '"GET /api/external/proxy/conn_1/[path] HTTP/1.1" 404 5',
        ),
        ("to /api/external/proxy/conn_1/a b? 'c'", "to /api/external/proxy/conn_1/[path]"),
        ("Not Found: /api/external/proxy/conn_1", "Not Found: /api/external/proxy/conn_1"),
        ("Not Found: /connect/done/token", "Not Found: /connect/done/[token]"),
        (5, 5),
    ],
)
def test_paths_that_hold_secrets(text: object, shown: object) -> None:
    assert hide_links(None, "info", {"event": text})["event"] == shown


@pytest.mark.django_db
class TestRequests:
    """Django's own lines, which it writes when the request's middleware has ended."""

    @pytest.fixture
    def lines(self) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        formatter = configuration(level="info", as_json=True)["formatters"]["structlog"]
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
            )
        )
        root = logging.getLogger()
        root.addHandler(handler)
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
        root.removeHandler(handler)

    @pytest.mark.parametrize(
        "path",
        [
            *("conn_1/a%20SECRET", "conn_1/a%3FSECRET", "conn_1/it's-SECRET", "conn_1/a%22SECRET", "conn_1/%0aSECRET"),
            *(
                "conn_1/%C3%A9SECRET",
                "conn%201/SECRET",
                "conn%3F1/SECRET",
                "SECRET",
                "conn_1/SECRET%20HTTP/1.1%20SECRET",
            ),
        ],
    )
    def test_nothing_behind_a_connections_id_is_told(self, path: str, lines: Any, caplog: Any) -> None:
        caplog.set_level(logging.DEBUG)
        assert Client().post(f"/api/external/proxy/{path}").status_code == 401
        found = lines()
        assert any("/api/external/proxy/" in line["event"] for line in found)
        assert "SECRET" not in repr(found)

    def test_a_link_that_nobody_knows(self, lines: Any) -> None:
        Client().get("/connect/no%20SECRET")
        assert "/connect/[token]" in repr(lines())
        assert "SECRET" not in repr(lines())

    def test_a_line_has_its_requests_id_and_is_written_once(self, lines: Any, caplog: Any) -> None:
        caplog.set_level(logging.INFO)
        ids = {"X-Request-Id": "request-of-this-test"}
        Client().get("/nowhere", headers=ids)
        Client().get("/api/external/nowhere", headers=ids)
        told = [(line["event"], line["request_id"]) for line in lines()]
        assert told == [
            ("Not Found: /nowhere", "request-of-this-test"),
            ("[ExternalAPI] GET /api/external/nowhere 404", "request-of-this-test"),
        ]

    def test_what_a_provider_answered_is_no_error_of_ours(self, lines: Any, caplog: Any) -> None:
        caplog.set_level(logging.INFO)
        for headers in ({}, {"X-Upstream-Latency-Ms": "5"}):
            answer = HttpResponse(status=500, headers=headers)
            request = RequestFactory().get("/api/external/proxy/conn_1/a")
            TrafficMiddleware(lambda _, answer=answer: answer)(request)  # type: ignore[misc]
            log_response("Internal Server Error: %s", request.path, response=answer, request=request)
        assert [line["level"] for line in lines()] == ["error", "warning"]
