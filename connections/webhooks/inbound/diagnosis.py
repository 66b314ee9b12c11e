"""What is likely to be wrong with a delivery that was refused: for the operator, and never for the sender."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from django.db.models import Case, F, QuerySet, When

from connections.webhooks.inbound import layouts
from connections.webhooks.inbound.deliveries import Delivery
from connections.webhooks.inbound.receivers import Receiver, open_receiver
from connections.webhooks.inbound.signatures import TwilioSignature, UnusableSecret
from connections.webhooks.inbound.verdicts import Verdict, fits_any
from external_apis.errors import VaultError
from external_apis.models import ExternalApi
from external_apis.providers import live

__all__ = ["Diagnosis", "diagnose"]

_LONGEST_BODY = 32 * 1024
_SPARE_BYTES = 4_096
_MOST_RELATIVES = 10
_LAYOUTS: tuple[tuple[int | None, tuple[str, str]], ...] = (
    (None, (",", ":")), (None, (", ", ": ")), (2, (",", ": ")), (4, (",", ": ")),
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """``reason`` is one of configuration, headers, clock, secret, body and url; the explanation holds no secret."""

    reason: str
    explanation: str


def diagnose(
    receiver: Receiver, delivery: Delivery | None, verdict: Verdict, now: float, until: float = math.inf
) -> Diagnosis:
    """Tell why a delivery was refused. ``delivery`` None means that it was not kept for a closer look.

    Tries what goes wrong most: another provider's or another kind of secret, a body that something on the way has
    changed, an address that differs from the public one. At most one query. Anybody can have this done, so nothing
    more is tried once this thread's clock of processor time (`time.thread_time`) says ``until``.
    """
    if verdict is Verdict.UNUSABLE:
        return Diagnosis("configuration", receiver.problem)
    if delivery is None or receiver.scheme is None:
        return _unknown()
    if verdict is Verdict.UNSIGNED:
        missing = [name for name in receiver.scheme.signature.required if not delivery.header(name)]
        return Diagnosis(
            "headers",
            f"There is no header {' and no '.join(missing)}: the sender does not sign, signs in another way, or "
            "something on the way has removed it.",
        )
    if verdict is Verdict.UNTIMELY:
        return _clock(receiver, delivery, now)
    return (
        _secret(receiver, delivery, until) or _url(receiver, delivery) or _body(receiver, delivery, until) or _unknown()
    )


def _unknown() -> Diagnosis:
    return Diagnosis(
        "secret",
        "No secret of the provider fits. Most likely it is another one at the provider: copy it from there again. "
        "Otherwise something on the way has changed the body.",
    )


def _clock(receiver: Receiver, delivery: Delivery, now: float) -> Diagnosis:
    signed_at = receiver.scheme.signature.signed_at(delivery) if receiver.scheme else None
    if signed_at is None or signed_at < 0:
        return Diagnosis("clock", "The signature is right, and what stands for its time is no time.")
    away = round(now - signed_at)
    when = f"{datetime.fromtimestamp(signed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    side = f"{away} s ago" if away > 0 else f"{-away} s ahead"
    return Diagnosis(
        "clock",
        f"The signature is right, and was made at {when}: {side} by this machine's clock, and "
        f"{receiver.tolerance_seconds} s are allowed. One of the clocks is wrong, or an old delivery was sent again.",
    )


def _secret(receiver: Receiver, delivery: Delivery, until: float) -> Diagnosis | None:
    assert receiver.scheme is not None  # noqa: S101 (tells the type checker)
    for secret in receiver.secrets:
        try:
            receiver.scheme.signature.fits(delivery, secret)
        except UnusableSecret as error:
            return Diagnosis("secret", str(error))
    trimmed = tuple(secret.strip() for secret in receiver.secrets if secret.strip() != secret)
    if fits_any(receiver, delivery, trimmed):
        return Diagnosis("secret", "The stored secret has blanks around it; without them it fits.")
    for api in _relatives(receiver):
        if time.thread_time() > until:
            break
        if found := _of_relative(receiver, delivery, api):
            return found
    return None


def _relatives(receiver: Receiver) -> QuerySet[ExternalApi]:
    """The provider itself, and then others of its slug; operators of one tenant are told nothing of another's."""
    rows = live().select_related("tenant").filter(slug=receiver.slug)
    if receiver.tenant_id is not None:
        rows = rows.filter(tenant_id=receiver.tenant_id)
    own_first = Case(When(pk=receiver.api_id, then=0), default=1)
    return rows.order_by(own_first, F("tenant").asc(nulls_first=True), "pk")[:_MOST_RELATIVES]


def _of_relative(receiver: Receiver, delivery: Delivery, api: ExternalApi) -> Diagnosis | None:
    """Try what is stored at a provider of the same slug: a test account's secret, or one in the wrong field."""
    if api.pk == receiver.api_id:
        try:
            fitting = [path for path, value in api.secrets.items() if fits_any(receiver, delivery, (value,))]
        except VaultError:
            return None
        if fitting:
            return Diagnosis("secret", f"It was signed with what is stored as {fitting[0]}, which is not for webhooks.")
        return None
    if fits_any(receiver, delivery, open_receiver(api).secrets):
        what = f"{api.environment}{', sandbox' if api.is_sandbox else ''}"
        return Diagnosis(
            "secret", f"It was signed with the secret of another provider of this slug, {api.pk} ({what})."
        )
    return None


def _url(receiver: Receiver, delivery: Delivery) -> Diagnosis | None:
    if receiver.scheme is None or not isinstance(receiver.scheme.signature, TwilioSignature):
        return None
    public = urlsplit(delivery.url)
    host = delivery.header("host") or public.netloc
    for scheme in ("https", "http"):
        for netloc in dict.fromkeys((public.netloc, host)):
            other = public._replace(scheme=scheme, netloc=netloc).geturl()
            if other != delivery.url and fits_any(receiver, replace(delivery, url=other), receiver.secrets):
                return Diagnosis(
                    "url", f"It was signed for {scheme}://{netloc[:200]}, and PUBLIC_BASE_URL names another address."
                )
    return None


def _body(receiver: Receiver, delivery: Delivery, until: float) -> Diagnosis | None:
    if len(delivery.body) > _LONGEST_BODY:
        return None
    for what, body in _variants(delivery):
        if time.thread_time() > until:
            break
        if body != delivery.body and fits_any(receiver, replace(delivery, body=body), receiver.secrets):
            return Diagnosis(
                "body", f"The signature is right for the body {what}: something on the way has changed the body."
            )
    return None


def _variants(delivery: Delivery) -> Iterator[tuple[str, bytes]]:
    """What a body may have been before a proxy or a framework read it and wrote it again."""
    body = delivery.body
    yield "without the white space around it", body.strip()
    for end in (b"\n", b"\r\n"):
        yield "with a line end behind it", body.strip() + end
    yield "with other line ends", re.sub(rb"\r\n|\r|\n", b"\n", body)
    yield "with other line ends", re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    yield "without a byte order mark", body.removeprefix(b"\xef\xbb\xbf")
    if delivery.is_form:
        # As a form that was read and written again.
        yield "as a form that is encoded in another way", urlencode(delivery.form, errors="surrogateescape").encode()
        return
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return
    if not layouts.is_shallow(value):
        return
    # Nothing that writes a body again makes it much shorter than half.
    longest = 2 * len(body) + _SPARE_BYTES
    for indent, separators in _LAYOUTS:
        for ensure_ascii in (False, True):
            text = layouts.write(value, longest, indent=indent, separators=separators, ensure_ascii=ensure_ascii)
            # What is too long counts as another try: that takes as long.
            encoded = body if text is None else text.encode("utf-8", "surrogatepass")
            yield "as JSON that is written in another way", encoded
            yield "as JSON that is written in another way", encoded.replace(b"/", b"\\/")
