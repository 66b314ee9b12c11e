"""Admin page of accounts in the ground floor's place: plans, tokens with their ledger, sessions, and deletion."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from external_apis.admin.row_pages import Button
from external_apis.admin.tenants import AccountAdmin as GroundAccountAdmin
from external_apis.backoffice import plans, sessions, token_balances, user_moves
from external_apis.backoffice.admin.account_form import AccountForm, TokensForm
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.admin.user_deletion import DeletesUsers, may_act_on, may_delete
from external_apis.backoffice.models import Plan
from external_apis.backoffice.user_columns import has_column, is_, those_who_are
from external_apis.errors import ApiManagerError
from external_apis.models import Account
from external_apis.tenancy import EVERYTHING, Scope, scope_of

_SHOWN = 50
_SEE_LEDGER, _ADD_TO_LEDGER = "backoffice.view_tokenchange", "backoffice.add_tokenchange"
_SEE_SESSIONS, _END_SESSIONS = "backoffice.view_usersession", "backoffice.delete_usersession"

if settings.BACKOFFICE_ENABLED and admin.site.is_registered(Account):
    admin.site.unregister(Account)


class PlanFilter(admin.SimpleListFilter):
    """By the plans there are: to find those of all accounts takes a look at each."""

    title = parameter_name = "plan"
    _without = "(none)"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        plans = Plan.objects.all() if scope_of(request.user) == EVERYTHING else Plan.objects.filter(is_active=True)
        return [*plans.values_list("slug", "name"), (self._without, "without a plan")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        asked = self.value()
        return queryset.filter(plan="" if asked == self._without else asked) if asked else queryset


@register(Account)
class AccountAdmin(DeletesUsers, GroundAccountAdmin):
    """Staff of a tenant change plans and tokens of its users, as its keys do, but not their own; to which tenant they
    belong is not theirs to say. Superusers are for superusers alone to change."""

    form = AccountForm
    list_filter: ClassVar = [PlanFilter, *(["user__is_active"] if has_column("is_active") else [])]
    actions: ClassVar = []

    # --- who may ------------------------------------------------------------------------------------------------------

    def bound(self, scope: Scope, rows: QuerySet[Any]) -> QuerySet[Any]:
        """A superuser is bound to no tenant, and none of a tenant's users."""
        return rows if scope == EVERYTHING else scope.own(rows).filter(those_who_are(is_superuser=False))

    def may_write(self, scope: Scope, obj: Any) -> bool:
        return obj is None or (scope.owns(obj) and (scope == EVERYTHING or not is_(obj.user, "is_superuser")))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.user_id == request.user.pk and not is_(request.user, "is_superuser"):
            return False
        return super().has_change_permission(request, obj) and (obj is None or may_act_on(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The ground floor's page deletes none at all.
        may = super(GroundAccountAdmin, self).has_delete_permission(request, obj)
        return bool(may) and may_delete(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["user", "tokens", *([] if scope_of(request.user) == EVERYTHING else ["tenant"])]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.asker_is_superuser = is_(request.user, "is_superuser")
        return form

    # --- storing ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Write what was changed alone: the tokens may be others by now."""
        if "tenant" in form.changed_data:
            user_moves.move_user(obj, form.cleaned_data["tenant"])
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
        buttons = {
            _SEE_LEDGER: Button("Tokens", self.row_url(obj, "tokens"), "toll"),
            _SEE_SESSIONS: Button("Sessions", self.row_url(obj, "sessions"), "devices"),
        }
        return [button for permission, button in buttons.items() if request.user.has_perm(permission)]

    def tokens_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The ledger, and a form for whoever may add to it."""
        row = self.row_or_404(request, object_id)
        may_add = self.has_change_permission(request, row) and request.user.has_perm(_ADD_TO_LEDGER)
        _require(request.user.has_perm(_SEE_LEDGER) and (may_add or request.method != "POST"))
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
            "form": form if may_add else None,
            "account": row, "changes": row.token_changes.all()[:_SHOWN], "shown": _SHOWN,
        }  # fmt: skip
        return self.page(request, "backoffice/user_tokens.html", f"Tokens of {row}", context, row)

    def sessions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The browsers that the user is signed in with."""
        row = self.row_or_404(request, object_id)
        _require(request.user.has_perm(_SEE_SESSIONS))
        context = {
            "account": row, "sessions": sessions.live_sessions(row)[:_SHOWN], "shown": _SHOWN,
            "may_end": _may_end_sessions(request, row),
        }  # fmt: skip
        return self.page(request, "backoffice/user_sessions.html", f"Sessions of {row}", context, row)

    def end_session_view(self, request: HttpRequest, object_id: str, session_id: str) -> HttpResponse:
        """Log a browser out."""
        row = self.row_or_404(request, object_id)
        _require(_may_end_sessions(request, row))
        try:
            sessions.end(row, session_id)
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, "That browser is logged out at its next request.", messages.SUCCESS)
        return HttpResponseRedirect(self.row_url(row, "sessions"))


def _may_end_sessions(request: HttpRequest, row: Account) -> bool:
    return request.user.has_perm(_END_SESSIONS) and may_act_on(request, row)


def _require(may: bool) -> None:
    if not may:
        raise PermissionDenied
