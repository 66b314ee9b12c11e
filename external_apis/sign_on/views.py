"""The routes of sign-on: its button, the provider's answer, and the admin's log-out."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from external_apis.errors import ApiManagerError
from external_apis.sign_on import events, flow


@never_cache
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    try:
        return HttpResponseRedirect(flow.begin(request))
    except ApiManagerError as error:
        return _refused(request, error)


@never_cache
@require_GET
def complete(request: HttpRequest) -> HttpResponse:
    try:
        return HttpResponseRedirect(flow.complete(request))
    except ApiManagerError as error:
        events.note_refusal(error)
        return _refused(request, error)


@never_cache
@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    address = flow.end(request)
    messages.success(request, "You are signed out.")
    return HttpResponseRedirect(address)


def _refused(request: HttpRequest, error: ApiManagerError) -> HttpResponse:
    return render(request, "sign_on_refused.html", {"problem": error.message}, status=error.status)
