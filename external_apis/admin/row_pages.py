"""Pages and buttons of a row beside Django's own: found within bounds, with its breadcrumbs, buttons above its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import quote, unquote
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin


@dataclass(frozen=True)
class Button:
    """A button above a row's form. What changes something or calls somebody is posted, with a CSRF token."""

    label: str
    url: str
    icon: str
    is_post: bool = False


class RowPages(ModelAdmin):
    change_form_outer_before_template = "external_apis/row_buttons.html"

    def row_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """The row, where whoever asks may see it: a foreign tenant's is as missing as one that never was."""
        row = get_object_or_404(self.get_queryset(request), pk=unquote(object_id))
        if not self.has_view_or_change_permission(request, row):
            raise Http404
        return row

    def changeable_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """The row, where whoever asks may change it."""
        row = self.row_or_404(request, object_id)
        if not self.has_change_permission(request, row):
            raise Http404
        return row

    def url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def row_url(self, row: Any, page: str) -> str:
        return reverse(f"admin:{self.url_name(page)}", args=[quote(row.pk)])

    def to_row(self, row: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.row_url(row, "change"))

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        """What else may be done with a row, above its form."""
        return []

    def page(
        self, request: HttpRequest, template: str, title: str, context: Mapping[str, Any], row: Any = None
    ) -> HttpResponse:
        """A page of its own, about a row if one is given; its template extends ``external_apis/sub_page.html``."""
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "original": row}
        return TemplateResponse(request, template, {**shared, **context})

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context["row_buttons"] = self.row_buttons(request, obj)
        response: HttpResponse = super().render_change_form(request, context, add, change, form_url, obj)
        return response
