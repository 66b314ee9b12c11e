"""Queries as the OpenAPI documents tell them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from pydantic import BaseModel

__all__ = ["query_parameters"]


def query_parameters(query: type[BaseModel], defaults: Collection[str] | None = None) -> list[OpenApiParameter]:
    """Return one parameter for each field of a query.

    Enumerations stand in the parameter itself, and there is no null: a query has strings alone. Only the fields
    named in ``defaults`` show theirs (None: all do); a filter's is not what is filtered by when it is left out.
    """
    schema = query.model_json_schema()
    shown = query.model_fields if defaults is None else defaults
    parameters = []
    for inner, field in query.model_fields.items():
        name = field.alias or inner
        described = dict(schema["properties"][name])
        described.pop("title", None)
        description = described.pop("description", "")
        default = described.pop("default", None)
        described = _inlined(described, schema.get("$defs", {}))
        if inner in shown and default is not None:
            described["default"] = default
        parameters.append(OpenApiParameter(name, described, description=description))
    return parameters


def _inlined(described: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a reference leads to in its place, and the one choice beside null in the place of both."""
    whole = dict(described)
    choices = [choice for choice in whole.pop("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        return _inlined({**choices[0], **whole}, named)
    if choices:
        whole["anyOf"] = [_inlined(choice, named) for choice in choices]
    if reference := whole.pop("$ref", ""):
        whole = {**named[reference.rpartition("/")[2]], **whole}
    return {name: value for name, value in whole.items() if name not in ("title", "description")}
