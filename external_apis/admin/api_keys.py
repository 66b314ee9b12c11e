"""Admin pages of API keys: a new one is shown once, and a key is only ever renamed, rolled and ended."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.decorators import display

from external_apis import keys
from external_apis.admin.key_form import EndForm, KeyTitleForm, NewKeyForm
from external_apis.admin.pages import QuickModelAdmin
from external_apis.admin.row_pages import Button
from external_apis.errors import ApiManagerError
from external_apis.key_granting import Granter, granter_of
from external_apis.models import ApiKey
from external_apis.tenancy import scope_of

_STATUS_COLOURS = {"active": "success", "ending": "warning", "revoked": "danger", "expired": "danger"}


@admin.register(ApiKey)
class ApiKeyAdmin(QuickModelAdmin):
    list_display: ClassVar = [
        "title",
        "redacted",
        "shown_status",
        "type",
        "mode",
        "tenant",
        "last_used_at",
        "created_at",
    ]
    list_filter: ClassVar = ["type", "mode"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["title", "=id", "service"]
    search_help_text = "Title, id or service"
    ordering: ClassVar = ["-id"]
    autocomplete_fields: ClassVar = ["tenant", "owner"]
    actions: ClassVar = ["revoke_selected", "delete_selected"]

    # --- list -------------------------------------------------------------------------------------------------------

    @display(description="status", label=_STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: ApiKey) -> str:
        return keys.status_of(obj, timezone.now()).value

    def deletable(self, rows: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        return keys.of_status(rows, keys.KeyStatus.REVOKED, timezone.now())

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End keys now; those that are revoked already are named."""
        problems = [self._ended(key) for key in self.taken(request, queryset)]
        for problem in filter(None, problems):
            self.message_user(request, problem, messages.ERROR)
        self.message_user(request, f"Revoked: {problems.count('')}.")

    def _ended(self, key: ApiKey) -> str:
        try:
            keys.revoke(key)
        except ApiManagerError as error:
            return f"{key}: {error.message}"
        return ""

    # --- form -------------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **{**kwargs, "form": KeyTitleForm if obj else NewKeyForm})
        if issubclass(form, NewKeyForm):
            form.granter = self._granter(request)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        rights = ["type", "mode", "scopes", "tenant", "owner", "service"]
        bounds = ["allowed_networks", "rate_limit", "expires_at"]
        if obj is None:
            if scope_of(request.user).tenant_id is not None:  # it is the only one that the key could belong to
                rights.remove("tenant")
            return [(None, {"fields": ["title", *rights]}), ("Bounds", {"fields": bounds})]
        use = ["last_used_at", "last_used_from", "created_at", "created_by", "revoked_at", "revoked_by", "rolled_from"]
        return [
            (None, {"fields": ["title", "id", "redacted", *rights]}),
            ("Bounds", {"fields": bounds}),
            ("Use", {"fields": use}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return []
        return [
            name for _, options in self.get_fieldsets(request, obj) for name in options["fields"] if name != "title"
        ]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The form has stored the row; the token waits on it for the one page that shows it."""
        if not change:
            obj.shown_once = form.token

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self._show_once(request, obj, obj.shown_once)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_dead = obj is None or keys.status_of(obj, timezone.now()) == keys.KeyStatus.REVOKED
        return is_dead and super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        keys.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            keys.delete(key)

    # --- revoke and roll ----------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=self.url_name(name))
            for name, view in (("revoke", self.revoke_view), ("roll", self.roll_view))
        ]
        return [*own, *super().get_urls()]

    def row_buttons(self, request: HttpRequest, obj: ApiKey) -> list[Button]:
        status = keys.status_of(obj, timezone.now())
        if status == keys.KeyStatus.REVOKED or not self.has_change_permission(request, obj):
            return []
        buttons = [Button("Revoke", self.row_url(obj, "revoke"), "block")]
        if status == keys.KeyStatus.ACTIVE and self.has_add_permission(request):
            buttons.append(Button("Roll", self.row_url(obj, "roll"), "autorenew"))
        return buttons

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask when, and end the key then."""
        key = self.changeable_or_404(request, object_id)
        form = EndForm(request.POST or None)
        if form.is_valid():
            try:
                keys.revoke(key, form.cleaned_data["seconds"])
                return self._ending_page(request, key.pk, form, "Revoke", is_done=True)
            except ApiManagerError as error:
                form.add_error(None, error.message)
        return self._ending_page(request, key.pk, form, "Revoke")

    def roll_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the overlap, and show the new key once."""
        key = self.changeable_or_404(request, object_id)
        if not self.has_add_permission(request):
            raise Http404
        form = EndForm(request.POST or None)
        if form.is_valid():
            try:
                created = keys.roll(key, form.cleaned_data["seconds"], self._granter(request))
                return self._show_once(request, created.key, created.token)
            except ApiManagerError as error:
                form.add_error(None, error.message)
        return self._ending_page(request, key.pk, form, "Roll")

    def _granter(self, request: HttpRequest) -> Granter:
        return granter_of(request.user, scope_of(request.user))

    # --- pages ------------------------------------------------------------------------------------------------------

    def _ending_page(
        self, request: HttpRequest, key_id: str, form: EndForm, verb: str, *, is_done: bool = False
    ) -> HttpResponse:
        key = keys.find(key_id)
        context = {"key": key, "form": form, "verb": verb, "is_done": is_done}
        return self.page(request, "external_apis/end_key.html", f"{verb} {key.title} ({key.redacted})", context, key)

    def _show_once(self, request: HttpRequest, key: ApiKey, token: str) -> HttpResponse:
        """The answer to the post itself, which the admin lets nobody store: the token is asked for by no address."""
        title = f"New API key: {key.title}"
        return self.page(request, "external_apis/new_key.html", title, {"key": key, "token": token}, key)
