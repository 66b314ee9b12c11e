"""URL variables: ``https://{shop}.myshopify.com`` in a provider, ``{"shop": "acme"}`` in a connection.

A value is data of whoever makes the connection, and must not choose the host that credentials are sent to: where a
host holds a variable it ends in a literal domain, and a value brings no character that ends a host. Within a path a
value is percent-encoded. Patterns are those of Rust's regex crate, which takes linear time for any pattern and value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from external_apis.errors import InvalidInput

__all__ = ["fill_path", "fill_text", "fill_url", "names_in", "pattern_problem", "read_values", "template_problem"]

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")
_DOMAIN = re.compile(r"[A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*\.[A-Za-z0-9-]+\.[A-Za-z][A-Za-z0-9-]*(:[0-9]{1,5})?")
_HOST_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]|\.(?!\.))*(?<=[A-Za-z0-9])")
_MAX_LENGTH = 200


class Variable(Protocol):
    """The part of a declared variable (`call_config.UrlVariable`) that is read here."""

    @property
    def pattern(self) -> str: ...
    @property
    def default(self) -> str | None: ...


class _Misfit(ValueError):
    """A value that may not stand where its variable stands."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def names_in(text: str) -> frozenset[str]:
    return frozenset(_VARIABLE.findall(text))


def template_problem(url: str) -> str | None:
    """Say what is wrong with where a URL's variables stand, or return None."""
    if set("{}") & set(_VARIABLE.sub("", url)):
        return "holds a brace that encloses no variable name (lower-case letters, digits and underscores)"
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if _VARIABLE.search(scheme):
        return "holds a variable before its host"
    if "}" in authority and not _DOMAIN.fullmatch(authority.rpartition("}")[2]):
        return "holds a variable in its host without a literal domain behind it, such as {shop}.example.com"
    return None


def pattern_problem(pattern: str) -> str | None:
    try:
        _matcher(pattern)
    except SchemaError:
        return "is not a regular expression (look-around and back-references are not supported)"
    return None


def read_values(
    variables: Mapping[str, Variable], provider_data: Mapping[str, Any], urls: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the value of each declared variable, from a connection's ``provider_data`` or its default.

    A variable that none of ``urls`` holds, but only paths of calls, may be missing. Raises `InvalidInput` that names
    each field (``provider_data.shop``) that is missing, does not match its pattern, or may not stand where ``urls``
    have it. No message repeats a value.
    """
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    needed = frozenset().union(*(names_in(url) for url in urls))
    for name, variable in variables.items():
        given = provider_data.get(name, variable.default)
        if isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if given is None and name not in needed:
            continue
        if problem := _value_problem(given, variable.pattern):
            problems[name] = problem
        else:
            values[name] = given
    for url in urls:
        if names_in(url) <= set(values):
            try:
                fill_url(url, values)
            except _Misfit as misfit:
                problems[misfit.name] = str(misfit)
    if problems:
        errors = [{"path": f"provider_data.{name}", "message": message} for name, message in problems.items()]
        summary = "; ".join(f"{item['path']} {item['message']}" for item in errors[:5])
        raise InvalidInput(f"Invalid provider data: {summary}", details={"errors": errors})
    return values


def fill_url(url: str, values: Mapping[str, str]) -> str:
    """Put values into a URL; raises ValueError for one that may not stand where its variable stands."""
    if "{" not in url:
        return url
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    filled = _replace(authority, values, _as_host_part)
    return f"{scheme}{separator}{filled}{fill_path(f'{slash}{path}', values)}"


def fill_path(path: str, values: Mapping[str, str]) -> str:
    """Put values into a path, percent-encoded; names that are not declared stay as they are."""
    if "{" not in path or not values:
        return path
    return _replace(path, values, _as_path_part)


def fill_text(text: str, values: Mapping[str, str]) -> str:
    """Put values into a text that is no URL, such as the region of a signature."""
    return _replace(text, values, lambda _name, value: value)


def _value_problem(given: Any, pattern: str) -> str | None:
    if given is None:
        return "is missing; the provider's URL needs it"
    if not isinstance(given, str) or not given or len(given) > _MAX_LENGTH:
        return f"is not a text of 1 to {_MAX_LENGTH} characters"
    if not given.strip("."):
        return "is nothing but dots"  # which would lead to another folder of a path
    if not _matches(pattern, given):
        return f"does not match {pattern}"
    return None


def _replace(text: str, values: Mapping[str, str], encode: Callable[[str, str], str]) -> str:
    def put(match: re.Match[str]) -> str:
        name = match.group(1)
        return encode(name, values[name]) if name in values else match.group(0)

    return _VARIABLE.sub(put, text)


def _as_host_part(name: str, value: str) -> str:
    if not _HOST_PART.fullmatch(value):
        raise _Misfit(name, "holds characters that may not stand in a host name")
    return value


def _as_path_part(_name: str, value: str) -> str:
    return quote(value, safe="")


def _matches(pattern: str, value: str) -> bool:
    try:
        _matcher(pattern).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> TypeAdapter[str]:
    TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])  # on its own: an odd bracket may not end the group
    return TypeAdapter(Annotated[str, StringConstraints(pattern=f"^(?:{pattern})$")])
