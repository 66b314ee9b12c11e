"""``/api/webhooks/{slug}`` and ``/api/webhooks/{slug}/{api_id}``: where providers send webhooks.

A plain view: nobody signs in here, and the signature over the raw body is all that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from connections.api.webhook_bodies import read_body
from connections.webhooks.inbound.addresses import public_url
from connections.webhooks.inbound.deliveries import Delivery
from connections.webhooks.inbound.receipt import Answer, answer_challenge, receive
from external_apis import error_answers
from external_apis.errors import ApiManagerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["ReceiptMiddleware", "receipt"]

_WITHOUT_PREFIX = ("CONTENT_LENGTH", "CONTENT_TYPE")
_METHODS = ("GET", "POST")
_MOST_DIGITS = 18


@csrf_exempt
def receipt(request: HttpRequest, slug: str, api_id: str = "") -> HttpResponse:
    """Take in one delivery, or answer the question that comes before the first one."""
    if request.method not in _METHODS:
        return HttpResponse(status=405, headers={"Allow": ", ".join(_METHODS)})
    if problem := _length_problem(request):
        return HttpResponse(status=problem)
    try:
        if request.method == "GET":
            return _respond(answer_challenge(slug, api_id, request.GET.dict()))
        body = read_body(request)
        if body is None:
            return HttpResponse(status=503, headers={"Retry-After": "5"})
        return _respond(receive(slug, api_id, _delivery(request, slug, api_id, body)))
    except UnreadablePostError:  # the sender has gone
        return HttpResponse(status=400)
    except ApiManagerError as error:
        return error_answers.respond(request, error)


def _delivery(request: HttpRequest, slug: str, api_id: str, body: bytes) -> Delivery:
    query = request.META.get("QUERY_STRING", "")
    # As the provider was told, and not as the proxies on the way have it.
    url = f"{public_url(slug, api_id)}{'?' if query else ''}{query}"
    return Delivery(body, _Headers(request.META), url, request.method or "POST")


class _Headers(Mapping[str, str]):
    """The headers of a request by their lower-case names, looked up and not copied: a scheme reads three of twenty."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        self._meta = meta

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        return str(self._meta[key if key in _WITHOUT_PREFIX else f"HTTP_{key}"])

    def __iter__(self) -> Iterator[str]:
        names = (key.removeprefix("HTTP_") for key in self._meta if key.startswith("HTTP_") or key in _WITHOUT_PREFIX)
        return (name.lower().replace("_", "-") for name in names)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _length_problem(request: HttpRequest) -> int | None:
    """Return the status that refuses a body by its announced length, before a byte of it is read."""
    announced = request.META.get("CONTENT_LENGTH") or ""
    if not announced:
        return 411 if request.META.get("HTTP_TRANSFER_ENCODING") else None
    if not (announced.isascii() and announced.isdigit() and len(announced) <= _MOST_DIGITS):
        return 400
    return 413 if int(announced) > settings.MAX_BODY_BYTES else None


def _respond(answer: Answer) -> HttpResponse:
    return HttpResponse(
        answer.text,
        status=answer.status,
        content_type=answer.content_type if answer.text else None,
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )


_PATH = re.compile(r"/api/webhooks/(?P<slug>[^/]+)(?:/(?P<api_id>[^/]+))?")


class ReceiptMiddleware:
    """Calls the view straight, past sessions, forms and pages, which have no say in a webhook.

    Stands behind what concerns every request: its id, its transport, its log.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        match = _PATH.fullmatch(request.path_info)
        if match is None:
            return self.get_response(request)
        response = receipt(request, match["slug"], match["api_id"] or "")
        response.setdefault("Content-Length", str(len(response.content)))
        # Django would write a line for each that is refused or has no place, which anybody can have it do; refusals are
        # told of together, and an error that is ours has its own.
        response._has_been_logged = response.status_code >= 400  # type: ignore[attr-defined]  # noqa: SLF001
        return response
