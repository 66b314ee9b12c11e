"""A webhook as a provider would send it, for whoever wants to see whether one arrives."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from connections.webhooks.inbound.deliveries import Body, Delivery, Field, Header, ItemIds, Place, Together
from connections.webhooks.inbound.receivers import open_receiver
from connections.webhooks.inbound.signatures import TwilioSignature, UnusableSecret
from external_apis.errors import Conflict
from external_apis.ids import new_id
from external_apis.models import ExternalApi

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What is to be posted. The ``repr`` shows nothing of it."""

    body: bytes
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Prepared of {len(self.body)} bytes>"


def prepare(api: ExternalApi, event_type: str, url: str, payload: Mapping[str, Any] | None = None) -> Prepared:
    """Make and sign an event of a type. Raises `Conflict` where the provider can receive nothing, or alone can sign."""
    receiver = open_receiver(api)
    scheme = receiver.scheme
    if scheme is None or receiver.problem:
        raise Conflict(receiver.problem)
    is_form = isinstance(scheme.signature, TwilioSignature)
    content: dict[str, Any] = dict(payload or {"test": True})
    headers = {"Content-Type": "application/x-www-form-urlencoded" if is_form else "application/json"}
    for places, value in ((scheme.event_id, new_id("evt")), (scheme.event_type, event_type)):
        _put(places[0] if places else None, value, content, headers)
    body = urlencode(content).encode() if is_form else json.dumps(content).encode()
    delivery = Delivery(body, {name.lower(): value for name, value in headers.items()}, url)
    try:
        signed = scheme.signature.sign(delivery, receiver.secrets[0], int(time.time()))
    except UnusableSecret as error:
        raise Conflict(str(error)) from None
    return Prepared(body, {**headers, **signed})


def _put(place: Place | None, value: str, content: dict[str, Any], headers: dict[str, str]) -> None:
    if isinstance(place, Header):
        headers[place.name] = value
    elif isinstance(place, Field):
        content[place.name] = value
    elif isinstance(place, Body | ItemIds) and not place.path.startswith("*"):
        _set(content, place.path.split("."), value)
    elif isinstance(place, Together):
        _put(place.places[0], value, content, headers)


def _set(target: dict[str, Any], path: Sequence[str], value: str) -> None:
    """Put a value where a path leads to; a list on the way gets one item."""
    step, *rest = path
    if not rest:
        target[step] = value
    elif rest[0] == "*":
        target[step] = [value] if len(rest) == 1 else [{}]
        if len(rest) > 1:
            _set(target[step][0], rest[1:], value)
    else:
        inner = target.get(step)
        target[step] = inner if isinstance(inner, dict) else {}
        _set(target[step], rest, value)
