"""JSON bodies: bounded before they are read, then parsed strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from external_apis import json_input
from external_apis.errors import InvalidInput, PayloadTooLarge


class LengthRequired(APIException):
    """A body without a Content-Length: WSGI gives no safe way to read one."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length; chunked bodies are not read."


class StrictJSONParser(BaseParser):
    """Parses what `check_length` let through. Raises `InvalidInput`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return json_input.load(stream.read())


def check_length(request: Request) -> None:
    """Refuse a body by its announced length, before a byte of it is read.

    Raises `PayloadTooLarge`, `LengthRequired` for a chunked body, `InvalidInput` for a length that is none.
    """
    announced = request.META.get("CONTENT_LENGTH") or ""
    if announced and not (announced.isascii() and announced.isdigit()):
        raise InvalidInput("The Content-Length is not a number.")
    if not announced and request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequired
    if int(announced or 0) > settings.MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The body is larger than {settings.MAX_BODY_BYTES} bytes.")
