"""The form field of a secret: what is stored is never sent to the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from unfold.widgets import CHECKBOX_CLASSES, UnfoldAdminPasswordWidget

from external_apis.api_config import PLACEHOLDER


@dataclass(frozen=True)
class SecretChange:
    """What the form asks for: a new value, the removal of the stored one, or (both unset) nothing."""

    value: str = ""
    is_removed: bool = False

    def __bool__(self) -> bool:
        return bool(self.value) or self.is_removed

    def __repr__(self) -> str:
        return "<SecretChange>"


class SecretInput(UnfoldAdminPasswordWidget):
    """A password input; with ``is_stored`` it hints at the stored value and offers to remove it."""

    template_name = "external_apis/secret_input.html"
    is_stored = False

    def __init__(self, attrs: Mapping[str, Any] | None = None) -> None:
        super().__init__({"autocomplete": "new-password", "spellcheck": "false", **(attrs or {})}, render_value=False)

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        widget = context["widget"]
        if self.is_stored:
            widget["attrs"]["placeholder"] = PLACEHOLDER
            widget["removal"] = {
                "name": f"{name}-remove",
                "id": f"{widget['attrs'].get('id', name)}-remove",
                "class": " ".join(CHECKBOX_CLASSES),
            }
        return context

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> SecretChange:
        return SecretChange(value=data.get(name) or "", is_removed=f"{name}-remove" in data)


class SecretField(forms.Field):
    """Cleans to a `SecretChange`; empty keeps what is stored."""

    widget = SecretInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> SecretChange:
        return value if isinstance(value, SecretChange) else SecretChange()

    def clean(self, value: Any) -> SecretChange:
        change = self.to_python(value)
        if change.value and change.is_removed:
            raise forms.ValidationError("Either type a new value or remove the stored one.")
        return change

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data))

    def mark_stored(self) -> None:
        """Show that a value is stored, without showing it."""
        assert isinstance(self.widget, SecretInput)  # noqa: S101 (tells the type checker)
        self.widget.is_stored = True
