"""``api_config`` as form fields, derived from the pydantic classes: a new auth type needs no change here.

A field's name is its path: ``config.rate_limit.scope`` for what all auth types share, and
``oauth2.oauth2.token_url`` (auth type first) for what belongs to one of them.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from django import forms
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from external_apis.admin.json_field import ListField, MappingField
from external_apis.admin.lines_field import LinesField
from external_apis.admin.secret_input import SecretChange, SecretField
from external_apis.api_config import ApiConfig

__all__ = [
    "COMMON",
    "ConfigField",
    "auth_types",
    "config_fields",
    "field_at",
    "initial",
    "label_of",
    "patch",
]

COMMON = "config"
_ACRONYMS = {"api": "API", "url": "URL", "uri": "URI", "id": "ID", "hmac": "HMAC", "ms": "(ms)"}


@dataclass(frozen=True)
class ConfigField:
    """One leaf of a configuration. ``block`` names the optional block (``webhook``) that it can be left out with."""

    group: str
    path: tuple[str, ...]
    info: FieldInfo
    kind: Any
    block: str = ""

    @property
    def name(self) -> str:
        return ".".join((self.group, *self.path))

    @property
    def default(self) -> Any:
        return None if self.info.is_required() else self.info.get_default(call_default_factory=True)

    @property
    def is_secret(self) -> bool:
        return self.kind is SecretStr

    @property
    def holds_secrets(self) -> bool:
        """Several named secrets in one mapping."""
        return get_origin(self.kind) is dict and _base(get_args(self.kind)[1]) is SecretStr

    def form_field(self) -> forms.Field:
        """Return a new form field; never ``required``, as hidden ones are posted too and pydantic decides."""
        label = label_of(*self.path)
        if self.info.is_required() and not self.block:
            label += " *"
        help_text = " ".join((self.info.description or "").replace("``", "").split())
        field = self._form_field()
        if isinstance(field, LinesField):
            help_text = f"{help_text} One a line.".strip()
        field.label, field.help_text = label, help_text
        return field

    def _form_field(self) -> forms.Field:
        if self.is_secret or self.holds_secrets:
            return SecretField()
        origin = get_origin(self.kind)
        if origin is Literal:
            choices = [(value, value) for value in get_args(self.kind)]
            if self.default is None:
                choices.insert(0, ("", "—"))
            return forms.ChoiceField(choices=choices, required=False, widget=UnfoldAdminSelectWidget())
        if self.kind is bool:
            return forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())
        if origin is list and _is_block(get_args(self.kind)[0]):
            return ListField()
        if origin is list:
            return LinesField(get_args(self.kind)[0], next(iter(self.info.examples or ()), ()))
        if origin is dict:
            return MappingField()
        if self.kind is int:
            return forms.IntegerField(required=False, widget=UnfoldAdminIntegerFieldWidget(self._hint()))
        if "\n" in (self.default or ""):
            return _TextField(required=False, strip=False, widget=UnfoldAdminTextareaWidget({"rows": 4}))
        # A prefix such as "Bearer " ends in a space that counts; the usual separator is one.
        strip = not self.path[-1].endswith(("_prefix", "_separator"))
        return forms.CharField(required=False, strip=strip, widget=UnfoldAdminTextInputWidget(self._hint()))

    def _hint(self) -> dict[str, str]:
        return {} if self.default in (None, "") else {"placeholder": str(self.default)}


@cache
def config_fields(group: str) -> tuple[ConfigField, ...]:
    """The fields of one auth type, or with `COMMON` those that every type has."""
    configs = _configs()
    shared = set.intersection(*(set(config.model_fields) for config in configs.values())) - {"auth_type"}
    if group == COMMON:
        return tuple(_leaves(COMMON, next(iter(configs.values())), shared))
    config = configs[group]
    return tuple(_leaves(group, config, set(config.model_fields) - shared - {"auth_type"}))


def auth_types() -> tuple[str, ...]:
    return tuple(_configs())


def initial(auth_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows of a stored configuration (without secrets): its values, and defaults elsewhere."""
    shown: dict[str, Any] = {}
    for group in (COMMON, *auth_types()):
        for field in config_fields(group):
            if field.is_secret or field.holds_secrets:
                continue
            is_absent = field.block and data.get(field.block) is None
            # Of a block that is absent nothing is shown but what a select cannot help showing.
            absent = "" if is_absent and get_origin(field.kind) is not Literal else field.default
            is_stored = group in (COMMON, auth_type)
            value = _at(data, field.path) if is_stored else None
            shown[field.name] = absent if value is None else value
    return shown


def patch(auth_type: str, cleaned: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that turns ``stored`` into what the form says; other auth types' fields are ignored.

    For a new provider ``stored`` is empty and values that are the default are left out, so that what the catalogue
    knows may take their place.
    """
    fields = (*config_fields(COMMON), *config_fields(auth_type))
    result: dict[str, Any] = {"auth_type": auth_type}
    unused = {field.block for field in fields if field.block} - {
        field.block for field in fields if field.block and _is_given(field, cleaned.get(field.name))
    }
    for field in fields:
        if field.block in unused:
            result[field.block] = None
            continue
        *blocks, name = field.path
        target = result
        for block in blocks:
            target = target.setdefault(block, {})
        value = cleaned.get(field.name)
        if isinstance(value, SecretChange):
            if value:
                target[name] = None if value.is_removed else _new_secret(field, value)
        elif stored or value != field.default:
            # An emptied text with a default, such as a prefix, is meant; anything else that is empty is left out.
            is_unset = value == "" and not (field.kind is str and isinstance(field.default, str))
            target[name] = None if is_unset else _replacing(value, _at(stored, field.path))
    return result


def field_at(auth_type: str, path: str) -> str | None:
    """The form field for the path of a problem (``api_config.oauth2.scopes.0``), None where no field is that close."""
    parts = tuple(path.split(".")[1:])
    names = {field.path: field.name for group in (COMMON, auth_type) for field in config_fields(group)}
    return next((names[parts[:n]] for n in range(len(parts), 0, -1) if parts[:n] in names), None)


# --- parts --------------------------------------------------------------------------------------------------------


class _TextField(forms.CharField):
    """Several lines, ended as they were before a browser sent them."""

    def to_python(self, value: Any) -> Any:
        return (super().to_python(value) or "").replace("\r\n", "\n")


def _configs() -> dict[str, type[BaseModel]]:
    union = get_args(ApiConfig)[0]
    return {get_args(config.model_fields["auth_type"].annotation)[0]: config for config in get_args(union)}


def _leaves(group: str, model: type[BaseModel], names: set[str]) -> Iterator[ConfigField]:
    for name, info in model.model_fields.items():
        if name in names:
            yield from _below(group, (name,), info, "")


def _below(group: str, path: tuple[str, ...], info: FieldInfo, block: str) -> Iterator[ConfigField]:
    kind = _base(info.annotation)
    if _is_block(kind):
        is_optional = not info.is_required() and info.default is None
        for name, inner in kind.model_fields.items():
            yield from _below(group, (*path, name), inner, block or (path[0] if is_optional else ""))
    else:
        yield ConfigField(group, path, info, kind, block)


def _base(annotation: Any) -> Any:
    """The type itself, without ``Annotated`` and ``| None``."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
        else:
            return annotation


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def label_of(*path: str) -> str:
    """What a form calls a field: ``token_url`` is "Token URL"."""
    words = " ".join(path[-2:] if path[-1] in ("url", "secret", "events", "scope") else path[-1:])
    words = " ".join(_ACRONYMS.get(word, word) for word in words.replace("_", " ").split())
    return words[:1].upper() + words[1:]


def _is_given(field: ConfigField, value: Any) -> bool:
    if isinstance(value, SecretChange):
        return bool(value.value)
    return bool(value or value == 0) and value != field.default


def _at(data: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = data
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _new_secret(field: ConfigField, change: SecretChange) -> Any:
    if not field.holds_secrets:
        return change.value
    try:
        return json.loads(change.value)
    except ValueError:
        return change.value  # pydantic says that it is not a mapping


def _replacing(value: Any, stored: Any) -> Any:
    """A value in a merge patch: empty removes, and keys that a mapping no longer has are removed by name."""
    if isinstance(value, Mapping):
        gone = set(stored) - set(value) if isinstance(stored, Mapping) else set()
        return {**value, **dict.fromkeys(gone)}
    if value in (None, {}) and isinstance(stored, Mapping):
        return dict.fromkeys(stored)
    return value
