"""Log lines: JSON that begins with the message, by whose mark people look for it, and without what paths hold."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from config.logs import configuration, hide_links


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
        ("GET /api/external/proxy/conn_1/bot:key/send?a=b 404", "GET /api/external/proxy/conn_1/[path]?a=b 404"),
        ("Not Found: /api/external/proxy/conn_1", "Not Found: /api/external/proxy/conn_1"),
        ("Not Found: /connect/done/token", "Not Found: /connect/done/[token]"),
        (5, 5),
    ],
)
def test_paths_that_hold_secrets(text: object, shown: object) -> None:
    assert hide_links(None, "info", {"event": text})["event"] == shown
