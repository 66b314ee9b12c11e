"""Several values in a text area: one a line, or as anybody writes a list where that can mean nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django import forms
from pydantic import TypeAdapter, ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget

__all__ = ["LinesField"]


class LinesField(forms.CharField):
    """Cleans to a list of texts; whether each is an ``item`` is for the service to say.

    A line that is no ``item`` but has several with commas between them is those, and a JSON array is its values.
    """

    def __init__(self, item: Any = str, examples: Sequence[str] = (), **kwargs: Any) -> None:
        widget = UnfoldAdminTextareaWidget({"rows": 3, "placeholder": "\n".join(examples)})
        super().__init__(required=False, widget=widget, **kwargs)
        self._adapter: TypeAdapter[Any] = TypeAdapter(item)

    def to_python(self, value: Any) -> Any:
        text = (super().to_python(value) or "").strip()
        listed = _read_array(text)
        if listed is not None:
            return listed
        return [item for line in text.splitlines() if line.strip() for item in self._items_of(line.strip())]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(self.prepare_value(initial)) != self.to_python(data))

    def _items_of(self, line: str) -> list[str]:
        parts = [part.strip() for part in line.split(",") if part.strip()]
        return parts if not self._is_item(line) and all(map(self._is_item, parts)) else [line]

    def _is_item(self, text: str) -> bool:
        try:
            self._adapter.validate_python(text)
        except ValidationError:
            return False
        return True


def _read_array(text: str) -> list[str] | None:
    """Return the values of a JSON array of texts and whole numbers, None for whatever is none."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_plain = isinstance(found, list) and all(isinstance(item, str | int) for item in found)
    return [str(item) for item in found] if is_plain else None
