"""Admin page of accounts in the ground floor's place: plans, tokens with their ledger, sessions, and deletion."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from external_apis import audit
from external_apis.admin.row_pages import Button
from external_apis.admin.tenants import AccountAdmin as GroundAccountAdmin
from external_apis.backoffice import plans, sessions, token_balances
from external_apis.backoffice.admin.account_form import AccountForm, TokensForm
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.admin.user_deletion import DeletesUsers
from external_apis.errors import ApiManagerError
from external_apis.models import Account
from external_apis.tenancy import EVERYTHING, Scope, scope_of

_SHOWN = 50

if settings.BACKOFFICE_ENABLED and admin.site.is_registered(Account):
    admin.site.unregister(Account)


@register(Account)
class AccountAdmin(DeletesUsers, GroundAccountAdmin):
    """Staff of a tenant change plans and tokens of its users, as its keys do; to which tenant they belong is not theirs
    to say."""

    form = AccountForm
    list_filter: ClassVar = ["plan", "user__is_active"]
    actions: ClassVar = []

    # --- who may ------------------------------------------------------------------------------------------------------

    def bound(self, scope: Scope, rows: QuerySet[Any]) -> QuerySet[Any]:
        """A superuser is bound to no tenant, and none of a tenant's users."""
        return rows if scope == EVERYTHING else scope.own(rows).filter(user__is_superuser=False)

    def may_write(self, scope: Scope, obj: Any) -> bool:
        return obj is None or (scope.owns(obj) and (scope == EVERYTHING or not obj.user.is_superuser))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The ground floor's page deletes none at all.
        return bool(super(GroundAccountAdmin, self).has_delete_permission(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["user", "tokens", *([] if scope_of(request.user) == EVERYTHING else ["tenant"])]

    # --- storing ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Write what was changed alone: the tokens may be others by now."""
        if "tenant" in form.changed_data:
            before = Account.objects.get(pk=obj.pk)
            obj.save(update_fields=["tenant", "updated_at"])
            audit.record("account.updated", obj, {"tenant_id": [before.tenant_id, obj.tenant_id]})
        if "plan" in form.changed_data:
            plans.change_plan(obj, form.cleaned_data["plan"])

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing refers to an account here."""

    # --- pages --------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views: list[tuple[str, str, Any]] = [
            ("tokens/", "tokens", self.tokens_view),
            ("sessions/", "sessions", self.sessions_view),
            ("sessions/<str:session_id>/end/", "end_session", require_POST(self.end_session_view)),
        ]
        own = [
            path(f"<str:object_id>/{route}", self.admin_site.admin_view(view), name=self.url_name(name))
            for route, name, view in views
        ]
        return [*own, *super().get_urls()]

    def row_buttons(self, request: HttpRequest, obj: Account) -> list[Button]:
        return [
            Button("Tokens", self.row_url(obj, "tokens"), "toll"),
            Button("Sessions", self.row_url(obj, "sessions"), "devices"),
        ]

    def tokens_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The ledger, and a form for whoever may add to it."""
        row = self.changeable_or_404(request, object_id) if request.method == "POST" else None
        row = row or self.row_or_404(request, object_id)
        form = TokensForm(request.POST or None)
        if form.is_valid():
            try:
                row = token_balances.adjust(row, form.cleaned_data["operation"], form.cleaned_data["tokens"])
            except ApiManagerError as error:
                form.add_error(None, error.message)
            else:
                self.message_user(request, f"{row} has {row.tokens} tokens now.", messages.SUCCESS)
                return HttpResponseRedirect(self.row_url(row, "tokens"))
        context = {
            "form": form if self.has_change_permission(request, row) else None,
            "account": row, "changes": row.token_changes.all()[:_SHOWN], "shown": _SHOWN,
        }  # fmt: skip
        return self.page(request, "backoffice/user_tokens.html", f"Tokens of {row}", context, row)

    def sessions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The browsers that the user is signed in with."""
        row = self.row_or_404(request, object_id)
        context = {
            "account": row, "sessions": sessions.live_sessions(row)[:_SHOWN], "shown": _SHOWN,
            "may_end": self.has_change_permission(request, row),
        }  # fmt: skip
        return self.page(request, "backoffice/user_sessions.html", f"Sessions of {row}", context, row)

    def end_session_view(self, request: HttpRequest, object_id: str, session_id: str) -> HttpResponse:
        """Log a browser out."""
        row = self.changeable_or_404(request, object_id)
        try:
            sessions.end(row, session_id)
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, "That browser is logged out at its next request.", messages.SUCCESS)
        return HttpResponseRedirect(self.row_url(row, "sessions"))
