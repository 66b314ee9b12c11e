"""A JSON object or array in a text area, read as strictly as a REST body."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

from external_apis import json_input
from external_apis.errors import InvalidInput


class _JsonField(forms.CharField):
    kind: type[Any]
    example: str

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"rows": 3, "spellcheck": "false", "placeholder": json.dumps(self.kind())}
        super().__init__(required=False, widget=UnfoldAdminTextareaWidget(attrs), **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return self.kind()
        try:
            parsed = json_input.load(text.encode())
        except InvalidInput as error:
            raise forms.ValidationError(error.message.replace("The body", "This")) from None
        if not isinstance(parsed, self.kind):
            raise forms.ValidationError(f"Write a JSON {self.example}.")
        return parsed

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, self.kind):
            return value
        return json.dumps(value, indent=2, ensure_ascii=False) if value else ""

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(self.prepare_value(initial)) != self.to_python(data))
        except forms.ValidationError:
            return True


class MappingField(_JsonField):
    """Cleans to a dict; empty is an empty one."""

    kind = dict
    example = 'object, such as {"name": "value"}'


class ListField(_JsonField):
    """Cleans to a list of objects; empty is an empty one."""

    kind = list
    example = 'array of objects, such as [{"name": "value"}]'
