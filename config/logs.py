"""Logging: one structlog pipeline for our own and the libraries' records, JSON unless somebody is watching."""

from __future__ import annotations

import logging.config
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

_CONNECT_LINK = re.compile(r"(/connect/(?:done/)?)[^\s\"'?]+")
_PROXIED_PATH = re.compile(r"(/api/external/proxy/[^\s\"'?/]+/)[^\s\"'?]+")


def hide_links(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out of a message the secret part of a connect link's path, and the path of a call that is passed on.

    Django's own log tells the path of each request that failed. Providers have keys in theirs; what may be kept of one
    is found among the connection's calls, by the request id.
    """
    text = event.get("event")
    if isinstance(text, str):
        if "/connect/" in text:
            text = _CONNECT_LINK.sub(r"\1[token]", text)
        if "/proxy/" in text:
            text = _PROXIED_PATH.sub(r"\1[path]", text)
        event["event"] = text
    return event


def put_message_first(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Have each line begin with its message, by whose mark (``[ExternalAPI]``) people look for it."""
    return {"event": event.pop("event", ""), **event}


_SHARED: list[Any] = [
    hide_links,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configuration(*, level: str, as_json: bool) -> dict[str, Any]:
    """Return the ``LOGGING`` setting; ``level`` is the root logger's."""
    # Frame variables hold decrypted values, so no renderer of ours ever shows them.
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    chain: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        chain += [structlog.processors.format_exc_info, put_message_first]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [*chain, renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "urllib3": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
            # Two lines for each run of a task that runs every few seconds.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "django.server": {"handlers": ["stderr"], "propagate": False},
        },
    }


def configure(settings: dict[str, Any]) -> None:
    """Apply ``LOGGING`` and join structlog to it (Django calls this through ``LOGGING_CONFIG``)."""
    logging.config.dictConfig(settings)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
