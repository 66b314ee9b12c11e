"""What the admin pages share: tenants' bounds, soft delete and restore, history, and lists that stay quick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import ShowFacets, actions
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.views.decorators.http import require_POST

from external_apis.admin.auditing import AuditedAdmin
from external_apis.admin.counting import CountingPaginator
from external_apis.admin.history import SHOWN_AT_MOST, entries
from external_apis.admin.row_pages import Button, RowPages
from external_apis.admin.service_form import ServiceForm
from external_apis.errors import ApiManagerError
from external_apis.tenancy import EVERYTHING, Scope, scope_of

TAKEN_AT_ONCE = 500
"""How many selected rows one request deletes or restores, each with its entry in the history."""

_NAMED_AT_MOST = 50


class QuickModelAdmin(RowPages):
    """A list page without counts that nobody reads, bounded to the tenant of whoever looks."""

    paginator = CountingPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    list_filter_submit = True
    list_after_template = "external_apis/more_found.html"
    warn_unsaved_form = True
    actions: ClassVar = ["delete_selected"]

    def bound(self, scope: Scope, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """The rows that somebody of this scope may see here."""
        return scope.own(rows)

    def may_write(self, scope: Scope, obj: Any) -> bool:
        """Whether somebody of this scope may change the row, None standing for any row."""
        return obj is None or scope.owns(obj)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return self.bound(scope_of(request.user), super().get_queryset(request))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Django's own, which would be called "Select … to change" where nothing can be."""
        title = capfirst(self.opts.verbose_name_plural)
        response: HttpResponse = super().changelist_view(request, {"title": title, **(extra_context or {})})
        return response

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> CountingPaginator:
        paginator: CountingPaginator = super().get_paginator(request, *args, **kwargs)
        paginator.is_search = bool(request.GET.get(SEARCH_VAR))
        return paginator

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(super().has_add_permission(request)) and self.may_write(scope_of(request.user), None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and self.may_write(scope_of(request.user), obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and self.may_write(scope_of(request.user), obj)

    def deletable(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Those of the rows that are there to be deleted."""
        return rows

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponse | None:
        """Django's own, of so many rows that its page can name them and one request can delete them."""
        rows = self.taken(request, self.deletable(queryset))
        if not rows.exists():
            self.message_user(request, "Nothing of it can be deleted.", messages.WARNING)
            return None
        with transaction.atomic():
            response: HttpResponse | None = actions.delete_selected(self, request, rows)
        return response

    def taken(self, request: HttpRequest, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """The rows of a selection that one request deals with; where it holds more, whoever asks is told."""
        keys = list(rows.values_list("pk", flat=True)[: TAKEN_AT_ONCE + 1])
        if len(keys) > TAKEN_AT_ONCE:
            text = (
                f"More than {TAKEN_AT_ONCE} are selected: this takes the first {TAKEN_AT_ONCE}; repeat it for the rest."
            )
            self.message_user(request, text, messages.WARNING)
        return rows.filter(pk__in=keys[:TAKEN_AT_ONCE])


class InstallationAdmin(AuditedAdmin, QuickModelAdmin):
    """Rows that decide who sees what: only operators of the whole installation write them."""

    def may_write(self, scope: Scope, obj: Any) -> bool:
        return scope == EVERYTHING


class DeletedFilter(admin.SimpleListFilter):
    """Live rows unless asked otherwise."""

    title = "deleted"
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Deleted"), ("all", "Live and deleted")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(deleted_at__isnull=self.value() != "yes")

    def choices(self, changelist: Any) -> Iterator[Any]:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Live"}
        yield from others


class FormAdmin(QuickModelAdmin):
    """Pages of a model that services write: a `ServiceForm` makes and changes its rows, `delete_row` deletes one."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if issubclass(form, ServiceForm):
            form.scope = scope_of(request.user)
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the form has stored the row through its service."""

    def delete_row(self, row: Any) -> None:
        """Delete one through its service."""
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_row(obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_row(row)


class ServiceAdmin(FormAdmin):
    """Pages of provider and connection. Deleting is soft: such a row is read-only, with a button that restores it."""

    actions: ClassVar = ["delete_selected", "restore_selected"]

    # --- who may ----------------------------------------------------------------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj is not None and obj.is_deleted)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.is_deleted)

    def has_restore_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may delete may undo it."""
        return super().has_delete_permission(request) and self.may_write(scope_of(request.user), obj)

    def writable(self, request: HttpRequest, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Those of the rows that whoever asks may change."""
        return scope_of(request.user).own(rows)

    def is_own(self, request: HttpRequest, obj: Any) -> bool:
        """Whether facts about secrets and the history are for whoever asks; others read the definition, as in REST."""
        return scope_of(request.user).owns(obj)

    # --- storing ----------------------------------------------------------------------------------------------------

    def restore_row(self, row: Any) -> None:
        """Undo a deletion, through the service."""
        raise NotImplementedError

    # --- soft delete ------------------------------------------------------------------------------------------------

    def deletable(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return rows.filter(deleted_at=None)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        # Nothing else goes with a soft delete.
        rows = objs if isinstance(objs, models.QuerySet) else self.get_queryset(request).filter(pk=objs[0].pk)
        count = rows.count()
        named = [f"{obj} ({obj.pk})" for obj in rows[:_NAMED_AT_MOST]]
        if count > len(named):
            named.append(f"… and {count - len(named)} more")
        # A list may hold rows that are read only, such as the providers that all tenants share.
        refused = {str(self.opts.verbose_name)} if self.writable(request, rows).count() < count else set()
        return named, {str(self.opts.verbose_name_plural): count}, refused, []

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        super().delete_queryset(request, self.writable(request, queryset))

    @admin.action(description="Restore selected rows", permissions=["restore"])
    def restore_selected(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        """Undo soft deletes; a row whose place is taken is named and stays deleted."""
        rows = self.taken(request, self.writable(request, queryset).exclude(deleted_at=None))
        problems = [self._restore(request, row) for row in rows]
        for problem in [problem for problem in problems if problem][:_NAMED_AT_MOST]:
            self.message_user(request, problem, messages.ERROR)
        restored = problems.count("")
        self.message_user(request, f"Restored: {restored}.", messages.SUCCESS if restored else messages.WARNING)

    def restore_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The button of a deleted row's page."""
        row = self.row_or_404(request, object_id)
        if not self.has_restore_permission(request, row):
            raise Http404
        if not row.is_deleted:
            self.message_user(request, f"{row} is not deleted: there is nothing to restore.", messages.WARNING)
        elif problem := self._restore(request, row):
            self.message_user(request, problem, messages.ERROR)
        else:
            self.message_user(request, f"{row} is restored.", messages.SUCCESS)
        return self.to_row(row)

    def _restore(self, request: HttpRequest, row: Any) -> str:
        """Restore a row; return what is in the way, if anything is."""
        try:
            self.restore_row(row)
        except ApiManagerError as error:
            return f"{row}: {error.message}"
        self.log_change(request, row, "Restored.")
        return ""

    # --- pages ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        urls: list[URLPattern] = super().get_urls()
        restore = self.admin_site.admin_view(require_POST(self.restore_view))
        return [path("<path:object_id>/restore/", restore, name=self.url_name("restore")), *urls]

    def histories(self, row: Any) -> list[models.QuerySet[Any]]:
        """The history tables that tell about a row."""
        return [row.history.all()]

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who changed what, when and from which request, secrets as fingerprints; of own rows that may be seen."""
        row = self.row_or_404(request, object_id)
        if not self.is_own(request, row):
            raise Http404
        shown = {"entries": entries(*self.histories(row)), "shown_at_most": SHOWN_AT_MOST, **(extra_context or {})}
        return self.page(request, "external_apis/history.html", f"History of {row}", shown, row)

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        if obj.is_deleted and self.has_restore_permission(request, obj):
            return [Button("Restore", self.row_url(obj, "restore"), "undo", is_post=True)]
        return []

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context["show_history"] = context.get("show_history") and self.is_own(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)
