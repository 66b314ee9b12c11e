"""Logging: one structlog pipeline for our own and the libraries' records, JSON unless somebody is watching."""

from __future__ import annotations

import logging.config
import re
from collections.abc import MutableMapping
from typing import Any

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from external_apis.request_paths import shown_path

_CONNECT_LINK = re.compile(r"(/connect/(?:done/)?)[^\s\"'?]+")
_PROXIED_PATH = re.compile(
    r"/api/external/proxy/(?P<id>conn_\w+)?(?P<rest>.*?)(?P<end> \d{3}| HTTP/\d(?:\.\d)?\" \d{3}[^\"]{0,20})?$",
    re.DOTALL,
)


def tell_of_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give a record of a request its id, and its path no secret.

    Django writes of a request that failed when nothing is bound to it any more, with the path decoded.
    """
    request = getattr(event.get("_record"), "request", None)
    path, text = getattr(request, "path", None), event.get("event")
    if request_id := getattr(request, "request_id", ""):
        event.setdefault("request_id", request_id)
    if isinstance(path, str) and isinstance(text, str) and (shown := shown_path(path)) != path:
        for spelling in (path.encode("unicode_escape").decode("ascii"), path):
            text = text.replace(spelling, shown)
        event["event"] = text
    return event


def hide_links(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take such paths out of a message of whose request nothing is known; of a proxied one, with all that follows."""
    text = event.get("event")
    if isinstance(text, str):
        if "/connect/" in text:
            text = _CONNECT_LINK.sub(r"\1[token]", text)
        if "/proxy/" in text:
            text = _PROXIED_PATH.sub(_without_path, text)
        event["event"] = text
    return event


def _without_path(found: re.Match[str]) -> str:
    path = "/[path]" if found["rest"] else ""
    return f"/api/external/proxy/{found['id'] or ''}{path}{found['end'] or ''}"


def leave_out_pool(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell of a lost process in one line: the traceback is of the pool that missed it, and never of what it did."""
    found = event.get("exc_info")
    if isinstance(found, tuple) and found[0] and issubclass(found[0], WorkerLostError | TimeLimitExceeded):
        del event["exc_info"]
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
                "foreign_pre_chain": [tell_of_request, leave_out_pool, *_SHARED],
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
            # One for each run that came too late, which the next run makes good.
            "celery.worker.request": {"level": "WARNING"},
            # Celery's pool, whose lines would be text of a form of its own.
            "multiprocessing": {"handlers": ["stderr"], "propagate": False},
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
