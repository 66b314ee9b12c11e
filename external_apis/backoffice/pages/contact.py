"""The contact form: ``/contact`` writes to whoever runs the installation, ``/contact/{tenant}`` to a tenant."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.views.generic import RedirectView

from external_apis import request_context
from external_apis.backoffice import blogs, contact_messages
from external_apis.backoffice.pages.answers import PublicPage, show
from external_apis.backoffice.visit_counting import Visit, mark
from external_apis.errors import InvalidInput, RateLimited
from external_apis.models import Tenant

TRAP = "website"
"""The field that people do not see and programs fill in."""

_TOO_MANY = "Too many messages have come: please try again in a minute."
_FIELDS = ("name", "email", "subject", "message")


class ContactForm(PublicPage):
    http_method_names = ["get", "head", "post", "options"]  # noqa: RUF012 (as the base class has it)

    def get(self, request: HttpRequest, tenant_slug: str | None = None) -> HttpResponse:
        tenant = contact_messages.find_receiver(tenant_slug) if tenant_slug else None
        return mark(_ask(request, tenant), Visit(request.path, tenant.pk if tenant else None))

    def post(self, request: HttpRequest, tenant_slug: str | None = None) -> HttpResponse:
        tenant = contact_messages.find_receiver(tenant_slug) if tenant_slug else None
        if not request.POST.get(TRAP):
            given = {name: request.POST.get(name, "") for name in _FIELDS}
            try:
                contact_messages.receive(given, tenant, request_context.current().address)
            except InvalidInput as error:
                return _ask(request, tenant, error, status=error.status)
            except RateLimited as error:
                response = _ask(request, tenant, error, status=error.status)
                response["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
                return response
        return HttpResponseRedirect(f"{request.path}?sent")


def _ask(
    request: HttpRequest, tenant: Tenant | None, error: InvalidInput | RateLimited | None = None, status: int = 200
) -> HttpResponse:
    problems = {item["path"]: item["message"] for item in error.details.get("errors", ())} if error else {}
    general = error.message if error and not problems.keys() & set(_FIELDS) else ""
    context = {
        "tenant": tenant,
        "has_blog": tenant is not None and blogs.published_blogs(tenant.slug, timezone.now()).exists(),
        "here": request.path,
        "is_sent": error is None and "sent" in request.GET,
        "problem": _TOO_MANY if isinstance(error, RateLimited) else general,
        "fields": [(name, request.POST.get(name, ""), problems.get(name, "")) for name in _FIELDS],
        "trap": TRAP,
    }
    return show(request, "contact", context, sends_to="'self'", status=status)


routes = [
    path("contact", ContactForm.as_view(), name="contact"),
    path("contact/", RedirectView.as_view(pattern_name="contact", permanent=True)),
    path("contact/<slug:tenant_slug>", ContactForm.as_view(), name="tenant-contact"),
    path("contact/<slug:tenant_slug>/", RedirectView.as_view(pattern_name="tenant-contact", permanent=True)),
]
