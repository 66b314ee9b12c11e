"""Log lines: JSON that begins with the message, by whose mark people look for it."""

from __future__ import annotations

import json
import logging

import structlog

from config.logs import configuration


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
