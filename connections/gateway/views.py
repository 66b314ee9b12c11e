"""``/api/external/proxy/{connection_id}/{path}``: a plain Django view, because a call costs little more than one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.views.decorators.csrf import csrf_exempt

from connections.gateway.passing import pass_on
from external_apis import error_answers
from external_apis.errors import ApiManagerError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

__all__ = ["proxy"]


@csrf_exempt
def proxy(request: HttpRequest, connection_id: str, path: str) -> HttpResponseBase:
    """Pass the request on through the connection; no session counts here, so no CSRF token is needed."""
    try:
        return pass_on(request, connection_id, path)
    except ApiManagerError as error:
        return error_answers.respond(request, error)
