"""The part of GraphQL's grammar that the sandbox reads: operations, variables, arguments, aliases, selections.

Fragments, directives and subscriptions are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

DEPTH = 20

_TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\n]*)
      |(?P<name>[_A-Za-z][_0-9A-Za-z]*)
      |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
      |(?P<string>"(?:[^"\\\n]|\\.)*")
      |(?P<mark>\.\.\.|[!$&():=@\[\]{|}])""",
    re.VERBOSE,
)
_CONSTANTS = {"true": True, "false": False, "null": None}


class GraphqlSyntaxError(Exception):
    """The document cannot be read, or asks for what is not supported."""


@dataclass(frozen=True, slots=True)
class Field:
    """``key`` is the alias, or the name where there is none."""

    key: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """``missing`` names the required variables that were not given."""

    kind: str
    name: str | None
    fields: tuple[Field, ...]
    missing: tuple[str, ...] = ()


def parse(document: str, variables: Mapping[str, Any], name: str | None = None) -> Operation:
    """The one operation of a document, or the one called ``name``, with its variables filled in.

    :raises GraphqlSyntaxError: with what is wrong.
    """
    parser = _Parser(_tokenize(document), variables)
    operations = parser.read_document()
    if name is not None:
        operations = [operation for operation in operations if operation.name == name]
    if len(operations) != 1:
        raise GraphqlSyntaxError("Exactly one operation must be meant; operationName chooses among several")
    for variable in operations[0].missing:
        raise GraphqlSyntaxError(f"Variable ${variable} is required and was not provided")
    return operations[0]


def _tokenize(document: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(document):
        match = _TOKEN.match(document, position)
        if match is None or match.lastgroup is None:
            raise GraphqlSyntaxError(f"Syntax Error: unexpected character at {position}")
        if match.lastgroup != "skip":
            tokens.append((match.lastgroup, match[0]))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], variables: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._position = 0
        self._given = variables
        self._variables: dict[str, Any] = {}
        self._missing: list[str] = []

    def read_document(self) -> list[Operation]:
        operations = []
        while self._position < len(self._tokens):
            operations.append(self._read_operation())
        return operations

    def _read_operation(self) -> Operation:
        if self._peek() == "{":
            return Operation("query", None, self._read_selection(0))
        kind = self._name()
        if kind not in {"query", "mutation"}:
            raise GraphqlSyntaxError(f"Syntax Error: {kind} is not supported here")
        name = self._name() if self._kind() == "name" else None
        self._variables, self._missing = {}, []
        if self._take("("):
            while not self._take(")"):
                self._read_variable()
        return Operation(kind, name, self._read_selection(0), tuple(self._missing))

    def _read_variable(self) -> None:
        self._need("$")
        name = self._name()
        self._need(":")
        is_required = self._read_type(0)
        default = self._read_value(0) if self._take("=") else None
        value = self._given.get(name, default)
        if is_required and value is None:
            self._missing.append(name)
        self._variables[name] = value

    def _read_type(self, depth: int) -> bool:
        self._bound(depth)
        if self._take("["):
            self._read_type(depth + 1)
            self._need("]")
        else:
            self._name()
        return self._take("!")

    def _read_selection(self, depth: int) -> tuple[Field, ...]:
        self._bound(depth)
        self._need("{")
        fields: list[Field] = []
        while not self._take("}"):
            fields.append(self._read_field(depth))
        if not fields:
            self._fail()
        return tuple(fields)

    def _read_field(self, depth: int) -> Field:
        key = name = self._name()
        if self._take(":"):
            name = self._name()
        arguments: dict[str, Any] = {}
        if self._take("("):
            while not self._take(")"):
                argument = self._name()
                self._need(":")
                arguments[argument] = self._read_value(0)
        return Field(key, name, arguments, self._read_selection(depth + 1) if self._peek() == "{" else ())

    def _read_value(self, depth: int) -> Any:
        self._bound(depth)
        if self._take("$"):
            name = self._name()
            if name not in self._variables:
                raise GraphqlSyntaxError(f"Variable ${name} is not defined")
            return self._variables[name]
        if self._take("["):
            items = []
            while not self._take("]"):
                items.append(self._read_value(depth + 1))
            return items
        if self._take("{"):
            entries: dict[str, Any] = {}
            while not self._take("}"):
                key = self._name()
                self._need(":")
                entries[key] = self._read_value(depth + 1)
            return entries
        return self._read_scalar()

    def _read_scalar(self) -> Any:
        kind, text = self._kind(), self._peek()
        if kind not in {"name", "number", "string"}:
            self._fail()
        self._position += 1
        if kind == "name":
            return _CONSTANTS.get(text, text)
        try:
            return json.loads(text)
        except ValueError as error:
            raise GraphqlSyntaxError("Syntax Error: a value is malformed") from error

    def _kind(self) -> str:
        return self._tokens[self._position][0] if self._position < len(self._tokens) else ""

    def _peek(self) -> str:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else ""

    def _take(self, mark: str) -> bool:
        if self._peek() != mark:
            if not self._peek():
                self._fail()
            return False
        self._position += 1
        return True

    def _need(self, mark: str) -> None:
        if not self._take(mark):
            self._fail()

    def _name(self) -> str:
        if self._kind() != "name":
            self._fail()
        self._position += 1
        return self._tokens[self._position - 1][1]

    def _bound(self, depth: int) -> None:
        if depth > DEPTH:
            raise GraphqlSyntaxError(f"Syntax Error: nested deeper than {DEPTH}")

    def _fail(self) -> NoReturn:
        raise GraphqlSyntaxError(f"Syntax Error: unexpected {self._peek() or 'end of document'}")
