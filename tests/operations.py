"""Every operation of the APIs as the OpenAPI document tells it, for tests that go through all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator

API_PREFIXES = ("/admin/external-apis", "/api/", "/exsvc")
_METHODS = ("get", "post", "put", "patch", "delete")
_APART = ("/api/external/proxy/", "/api/webhooks/", "/healthz", "/metrics")
"""What the REST framework does not serve: the gateway, receipts and the monitors' routes have tests of their own."""


@dataclass(frozen=True)
class DocumentedOperation:
    """``query`` and ``body`` hold the JSON Schema of each parameter and of each field, ``required`` names of fields."""

    id: str
    method: str
    path: str
    path_names: tuple[str, ...]
    query: Mapping[str, Any]
    body: Mapping[str, Any] | None
    required: frozenset[str]
    statuses: frozenset[int]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def at(self, **values: str) -> str:
        return self.path.format(**values)


@cache
def document() -> dict[str, Any]:
    """The whole OpenAPI document of the product."""
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@cache
def operations() -> tuple[DocumentedOperation, ...]:
    """All operations of the APIs over rows."""
    return tuple(
        _operation(path, method, described)
        for path, methods in document()["paths"].items()
        for method, described in methods.items()
        if method in _METHODS and not path.startswith(_APART)
    )


def routes() -> Iterator[tuple[str, str]]:
    """Method and path template of everything that Django routes under the APIs' prefixes, documented or not."""
    for pattern, view in _walk(get_resolver().url_patterns, "/"):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern)
        if path.startswith(API_PREFIXES):
            cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
            for method in [name for name in _METHODS if hasattr(cls, name)] or ["*"]:
                yield method, path


def _walk(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for entry in patterns:
        path = f"{prefix}{entry.pattern}"
        if hasattr(entry, "url_patterns"):
            yield from _walk(entry.url_patterns, path)
        else:
            yield path, entry.callback


def _operation(path: str, method: str, described: dict[str, Any]) -> DocumentedOperation:
    parameters = described.get("parameters", ())
    content = described.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("schema")
    return DocumentedOperation(
        id=described["operationId"],
        method=method,
        path=path,
        path_names=tuple(re.findall(r"\{(\w+)\}", path)),
        query={item["name"]: item["schema"] for item in parameters if item["in"] == "query"},
        body=None if body is None else _resolved(body).get("properties", {}),
        required=frozenset(() if body is None else _resolved(body).get("required", ())),
        statuses=frozenset(int(status) for status in described["responses"]),
    )


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
