"""Admin pages of workflow runs: what became of each step; start, cancel, retry, and take what is handed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.decorators import display

from connections import workflows
from connections.admin.workflow_form import StartForm
from connections.models import RunState, WorkflowRun
from connections.workflows import RunStatus
from connections.workflows.runs import FINISHED, RETRIABLE, of_status
from connections.workflows.showing import shown_current_step, shown_input, shown_result, shown_steps
from external_apis import request_context
from external_apis.admin.pages import QuickModelAdmin
from external_apis.admin.row_pages import Button
from external_apis.errors import ApiManagerError, NotUndone
from external_apis.key_granting import Granter, granter_of
from external_apis.tenancy import scope_of

_COLOURS = {
    RunStatus.SUCCEEDED: "success",
    RunStatus.FAILED: "danger",
    RunStatus.REVERTED: "warning",
    RunStatus.CANCELLED: "warning",
    RunStatus.WAITING: "info",
    RunStatus.RUNNING: "info",
}
_REFRESH_SECONDS = 5


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, status.value) for status in RunStatus]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return of_status(queryset, RunStatus(value)) if value in set(RunStatus) else queryset


@admin.register(WorkflowRun)
class WorkflowRunAdmin(QuickModelAdmin):
    list_display: ClassVar = ["workflow", "id", "shown_status", "tenant", "started_by", "created_at", "finished_at"]
    list_filter: ClassVar = [StatusFilter]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["=id", "=workflow", "=request_id"]
    search_help_text = "Id, workflow or request id"
    ordering: ClassVar = ["-id"]
    actions: ClassVar = []
    change_form_outer_after_template = "connections/workflow_steps.html"
    fieldsets: ClassVar = [
        (None, {"fields": ["workflow", "id", "shown_status", "tenant", "error", "redacted_input", "redacted_result"]}),
        ("Times", {"fields": ["created_at", "due_at", "cancel_requested_at", "finished_at"]}),
        ("From", {"fields": ["started_by", "request_id", "idempotency_key", "retry_of"]}),
    ]
    readonly_fields: ClassVar = [name for _, options in fieldsets for name in options["fields"]]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # --- columns ------------------------------------------------------------------------------------------------------

    @display(description="status", label=_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, obj: WorkflowRun) -> str:
        return workflows.status_of(obj)

    @admin.display(description="error")
    def error(self, obj: WorkflowRun) -> str:
        return f"{obj.error_code}: {obj.error_message}" if obj.error_code else "-"

    @admin.display(description="input (redacted)")
    def redacted_input(self, obj: WorkflowRun) -> str:
        return json.dumps(shown_input(obj), ensure_ascii=False)

    @admin.display(description="result (redacted)")
    def redacted_result(self, obj: WorkflowRun) -> str:
        return _shown(shown_result(obj)) or "-"

    # --- start --------------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Ask which workflow with which input, and start it."""
        if not self.has_add_permission(request):
            raise Http404
        form = StartForm(request.POST or None, scope=scope_of(request.user))
        if form.is_valid():
            try:
                run = form.start(_granter(request))
            except ApiManagerError as error:
                form.add_error(None, error.message)
            else:
                return self.to_row(run)
        context = {"form": form, "workflows": workflows.workflows()}
        return self.page(request, "connections/start_workflow.html", "Start a workflow", context)

    # --- buttons ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "cancel": self.cancel_view,
            "retry": self.retry_view,
            "take": self.take_view,
        }
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=self.url_name(name),
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the run after its present step, and undo it."""
        granter, done = _granter(request), "The run ends after its present step, and is undone."
        return self._act(request, object_id, lambda run: workflows.cancel(run, granter), done)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Try again what was not successful; where something is left of it that is asked for a second time."""
        granter, confirm = _granter(request), bool(request.POST.get("confirm"))
        try:
            return self._act(
                request, object_id, lambda run: workflows.retry(run, granter, confirm=confirm), "It is tried again."
            )
        except NotUndone as error:
            run = self.changeable_or_404(request, object_id)
            context = {"problem": error.message, "back": self.row_url(run, "change")}
            return self.page(request, "connections/confirm_retry.html", "Begin another run?", context, run)

    def take_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The answer to the post itself shows it, which the admin lets nobody store."""
        run = self.changeable_or_404(request, object_id)
        try:
            taken = workflows.take_over(run)
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
            return self.to_row(run)
        context = {"taken": taken, "back": self.row_url(run, "change")}
        return self.page(request, "connections/handed_over.html", "Handed over", context, run)

    def _act(
        self, request: HttpRequest, object_id: str, act: Callable[[WorkflowRun], WorkflowRun], done: str
    ) -> HttpResponse:
        run = self.changeable_or_404(request, object_id)
        try:
            run = act(run)
        except NotUndone:
            raise
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, done, messages.SUCCESS)
        return self.to_row(run)

    def row_buttons(self, request: HttpRequest, run: WorkflowRun) -> list[Button]:
        """What may be done with a run now."""
        if not self.has_change_permission(request, run):
            return []
        buttons = []
        if run.state == RunState.OPEN and run.cancel_requested_at is None:
            buttons.append(Button("Cancel", self.row_url(run, "cancel"), "cancel", is_post=True))
        if run.state in RETRIABLE:
            buttons.append(Button("Retry", self.row_url(run, "retry"), "replay", is_post=True))
        is_mine = run.started_by == request_context.current().actor
        if run.state == RunState.SUCCEEDED and run.hands_over and is_mine:
            buttons.append(
                Button("Show once what it hands over", self.row_url(run, "take"), "visibility", is_post=True)
            )
        return buttons

    # --- pages --------------------------------------------------------------------------------------------------------

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            steps = list(obj.steps.all())
            context["workflow_steps"] = [step | {"result": _shown(step["result"])} for step in shown_steps(steps)]
            context["current_step"] = shown_current_step(obj, steps)
            context["is_open"] = obj.state not in FINISHED
            # Nothing of a run is written by a form.
            context |= {"show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False}
            context["show_history"] = False
        response: HttpResponse = super().render_change_form(request, context, add, change, form_url, obj)
        if context.get("is_open"):
            response["Refresh"] = str(_REFRESH_SECONDS)
        return response


def _shown(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _granter(request: HttpRequest) -> Granter:
    return granter_of(request.user, scope_of(request.user))
