"""A long text in a text area that stays as it is: browsers send line ends as CRLF, and Django would cut off blanks."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

__all__ = ["TextField"]


class TextField(forms.CharField):
    """Cleans to text with LF alone, so that a length is the one that was stored; blanks at its ends may mean something.

    A text that came with other line ends over REST counts as unchanged, and keeps them, until it is edited.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "strip": False, "widget": UnfoldAdminTextareaWidget})

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n").replace("\r", "\n")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)
