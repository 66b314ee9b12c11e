"""Admin pages of withdrawals: ask for one in an affiliate's name, and approve, reject or mark it as paid."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.decorators import display

from external_apis.admin.pages import FormAdmin
from external_apis.admin.row_pages import Button
from external_apis.admin.service_form import ServiceForm
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.affiliates import find_affiliate
from external_apis.backoffice.models import Withdrawal, WithdrawalStatus
from external_apis.backoffice.withdrawals import TRANSITIONS, decide_withdrawal, request_withdrawal
from external_apis.errors import ApiManagerError

_COLOURS = {
    WithdrawalStatus.PENDING: "warning",
    WithdrawalStatus.APPROVED: "info",
    WithdrawalStatus.PAID: "success",
    WithdrawalStatus.REJECTED: "danger",
}
_BUTTONS = {
    WithdrawalStatus.APPROVED: ("approve", "Approve", "check"),
    WithdrawalStatus.PAID: ("pay", "Mark as paid", "payments"),
    WithdrawalStatus.REJECTED: ("reject", "Reject", "block"),
}


class WithdrawalForm(ServiceForm):
    """Asks for a withdrawal in the affiliate's currency."""

    class Meta:
        model = Withdrawal
        fields = ("affiliate", "amount_minor")
        labels: ClassVar = {"amount_minor": "amount"}
        help_texts: ClassVar = {"amount_minor": "In the minor unit of the affiliate's currency, such as cents."}

    def store(self) -> Withdrawal:
        """Ask for it; an affiliate of another tenant is none."""
        affiliate = find_affiliate(self.cleaned_data["affiliate"].pk, self.scope)
        return request_withdrawal(affiliate, self.cleaned_data["amount_minor"], affiliate.currency)


@register(Withdrawal)
class WithdrawalAdmin(FormAdmin):
    form = WithdrawalForm
    list_display: ClassVar = ["id", "affiliate", "amount_minor", "currency", "shown_status", "tenant", "created_at"]
    list_filter: ClassVar = ["status"]
    list_select_related: ClassVar = ["affiliate", "tenant"]
    search_fields: ClassVar = ["=id", "affiliate__code", "affiliate__name", "affiliate__email"]
    search_help_text = "Id, or the affiliate's code, name or e-mail address"
    autocomplete_fields: ClassVar = ["affiliate"]
    ordering: ClassVar = ["-id"]
    actions: ClassVar = []
    _facts: ClassVar = [
        "id", "affiliate", "tenant", "amount_minor", "currency", "shown_status", "created_at", "decided_at",
        "decided_by",
    ]  # fmt: skip

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:  # nothing of it is written by a form
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self._facts if obj else ["affiliate", "amount_minor"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self._facts if obj else []

    @display(description="status", label=_COLOURS, ordering="status")  # type: ignore[untyped-decorator]
    def shown_status(self, obj: Withdrawal) -> str:
        return obj.status

    # --- buttons ------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(partial(self.decide_view, status=status))),
                name=self.url_name(name),
            )
            for status, (name, *_) in _BUTTONS.items()
        ]
        return [*own, *super().get_urls()]

    def decide_view(self, request: HttpRequest, object_id: str, status: WithdrawalStatus) -> HttpResponse:
        """Move it on from what the page showed, unless somebody else did before."""
        row = self.changeable_or_404(request, object_id)
        shown = request.GET.get("from")
        try:
            row = decide_withdrawal(row, status, WithdrawalStatus(shown) if shown in WithdrawalStatus.values else None)
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.log_change(request, row, f"It is {status.value}.")
            self.message_user(request, f"The withdrawal is {status.value}.", messages.SUCCESS)
        return self.to_row(row)

    def row_buttons(self, request: HttpRequest, obj: Withdrawal) -> list[Button]:
        """What may follow its status."""
        if not self.has_change_permission(request, obj):
            return []
        following = [_BUTTONS[status] for status in TRANSITIONS[WithdrawalStatus(obj.status)]]
        return [
            Button(label, f"{self.row_url(obj, name)}?from={obj.status}", icon, is_post=True)
            for name, label, icon in following
        ]

    def render_change_form(  # noqa: PLR0917 (Django's)
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context |= {"show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False}
        return super().render_change_form(request, context, add, change, form_url, obj)
