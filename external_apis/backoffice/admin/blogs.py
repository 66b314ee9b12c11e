"""Admin pages of blog posts, with a preview of what readers will see."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.decorators import display

from external_apis.admin.pages import FormAdmin
from external_apis.admin.row_pages import Button
from external_apis.admin.service_form import ServiceForm
from external_apis.admin.text_field import TextField
from external_apis.backoffice import blog_html, blogs
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.models import Blog, BlogStatus
from external_apis.backoffice.pages.answers import show
from external_apis.tenancy import scope_of

_SCHEDULED = "scheduled"
_COLOURS = {BlogStatus.DRAFT: "info", _SCHEDULED: "warning", BlogStatus.PUBLISHED: "success"}
_FIELDS = ("title", "slug", "excerpt", "body", "author", "status", "published_at")


class BlogForm(ServiceForm):
    class Meta:
        model = Blog
        fields: ClassVar = [*_FIELDS, "tenant"]
        field_classes: ClassVar = {"excerpt": TextField, "body": TextField}
        help_texts: ClassVar = {
            "slug": "The last part of the page's address.",
            "body": "Markdown (CommonMark, with tables). HTML is shown as text.",
            "published_at": "UTC. A published post is seen from then on; empty means from now on.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "slug" in self.fields:
            is_new = self.instance._state.adding
            self.fields["slug"].required = not is_new
            if is_new:
                self.fields["slug"].help_text += " Made from the title where it is left empty."

    def store(self) -> Blog:
        """Write a post, or change it: whose it is cannot be changed."""
        given = {name: self.cleaned_data[name] for name in _FIELDS if name in self.cleaned_data}
        if not self.instance._state.adding:
            changed = {name: value for name, value in given.items() if name in self.changed_data}
            return blogs.update_blog(self.instance, changed)
        tenant = self.cleaned_data.get("tenant")
        given |= {"slug": given.get("slug") or None, "tenant_id": tenant and tenant.pk}
        return blogs.create_blog(given, self.scope)

    def field_for(self, path: str) -> str | None:
        return super().field_for(path.removesuffix("_id"))


@register(Blog)
class BlogAdmin(ShowsRefusals, FormAdmin):
    form = BlogForm
    list_display: ClassVar = ["title", "slug", "shown_status", "published_at", "author", "tenant"]
    list_filter: ClassVar = ["status"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["title", "slug", "excerpt", "=id"]
    ordering: ClassVar = ["-id"]
    autocomplete_fields: ClassVar = ["tenant"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Blog]:
        return super().get_queryset(request).select_related("tenant")

    @display(description="status", ordering="status", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: Blog) -> str:
        is_ahead = obj.published_at is not None and obj.published_at > timezone.now()
        return _SCHEDULED if obj.status == BlogStatus.PUBLISHED and is_ahead else obj.status

    # --- form -------------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            own = [] if scope_of(request.user).tenant_id is not None else ["tenant"]
            return [(None, {"fields": [*_FIELDS, *own]})]
        facts = ["id", "tenant", "created_at", "created_by", "updated_at", "updated_by"]
        return [(None, {"fields": _FIELDS}), ("State", {"fields": facts})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [] if obj is None else list(self.get_fieldsets(request, obj)[1][1]["fields"])

    def delete_row(self, row: Blog) -> None:
        blogs.delete_blog(row)

    # --- pages ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("<path:object_id>/preview/", view, name=self.url_name("preview")), *super().get_urls()]

    def row_buttons(self, request: HttpRequest, obj: Blog) -> list[Button]:
        buttons = [Button("Preview", self.row_url(obj, "preview"), "visibility")]
        if self.shown_status(obj) == BlogStatus.PUBLISHED:
            buttons.append(Button("Open the page", blogs.page_path(obj), "open_in_new"))
        return buttons

    def preview_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page that readers will see, with the way back."""
        row = self.row_or_404(request, object_id)
        context = {"post": row, "body": blog_html.render(row.body), "back": self.row_url(row, "change")}
        return show(request, "preview", context)
