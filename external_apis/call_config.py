"""How calls to a provider are made, whatever its auth type: limits, retries, and how answers are read."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from external_apis.config_values import Block, CredentialName, HeaderName, HeaderValue, OwnUrl, Secret
from external_apis.url_variables import pattern_problem

__all__ = ["Proxy", "RateLimit", "ResponseRule", "RetryConfig", "UrlVariable", "Webhook"]

BodyPath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^.]+(\.[^.]+)*$")]
CallCount = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]

_PATH_BELOW = r"/[^\s\\?#]*"
_WEIGHT = re.compile(r"(DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT)|((DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT) )?/\S*")


def _weighed_calls(value: str) -> str:
    if not _WEIGHT.fullmatch(value):
        raise ValueError("is not a method, a path or both, such as 'POST', '/reports/*' or 'POST /messages'")
    return value


def _retry_status(value: int) -> int:
    if value not in (408, 425):
        raise ValueError("is neither 408 nor 425; 429 and 5xx are tried again anyway, and other 4xx never")
    return value


def _pattern(value: str) -> str:
    if problem := pattern_problem(value):
        raise ValueError(problem)
    return value


class RateLimit(Block):
    """The provider's limits; they hold together, and no window ever sees more than its number."""

    requests_per_second: CallCount | None = None
    requests_per_minute: CallCount | None = None
    requests_per_hour: CallCount | None = None
    requests_per_day: CallCount | None = None
    burst: CallCount | None = None
    """Calls that may come at once after a pause (seed 004's capacity). More at once means fewer a second afterwards,
    so that every window keeps its number; unless given, a fiftieth of each window's number."""
    scope: Literal["connection", "provider"] = "connection"
    """Whether each connection has the limits for itself or all connections of the provider share them."""
    weights: dict[
        Annotated[str, AfterValidator(_weighed_calls)], Annotated[int, Field(strict=True, ge=1, le=10_000)]
    ] = {}
    """What a call counts for, where that is not one: {"POST": 2, "/reports/*": 10, "GET /search": 5}. The largest
    that matches counts; * stands for anything."""

    @model_validator(mode="after")
    def _weights_fit(self) -> RateLimit:
        counts = (self.requests_per_second, self.requests_per_minute, self.requests_per_hour, self.requests_per_day)
        least = min((count for count in counts if count is not None), default=None)
        if least is not None and max(self.weights.values(), default=1) > least:
            raise ValueError("weights holds a weight over one of the limits: such a call could never be made")
        return self


class RetryConfig(Block):
    max_retries: Annotated[int, Field(strict=True, ge=0, le=20)] = 4
    """Attempts after the first one (seed 004 makes five attempts in all)."""
    backoff_ms: Annotated[int, Field(strict=True, ge=0, le=60_000)] = 1000
    """The first wait in milliseconds; it doubles with every attempt."""
    jitter_ms: Annotated[int, Field(strict=True, ge=0, le=60_000)] | None = None
    """The longest random time that is added to a wait; unless given, as long as the first wait."""
    max_backoff_ms: Annotated[int, Field(strict=True, ge=0, le=3_600_000)] = 30_000
    """No wait of ours is longer; what the provider asks for in Retry-After is kept to."""
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=3_600_000)] | None = None
    """All attempts and waits together; unless given, two minutes, or the time-out if that is longer."""
    retry_statuses: list[Annotated[int, AfterValidator(_retry_status)]] = []
    """408 and 425, where the provider means "try again" by them; they are final otherwise."""
    idempotency_header: HeaderName | None = None
    """A header, such as Idempotency-Key, in which POST and PATCH carry a key made for the call, the same in all its
    attempts. The provider then ignores repetitions, and the call may be tried again after any failure."""


class ResponseRule(Block):
    """What an answer means when all the conditions that are set hold; the first rule that matches decides.

    The body of a streamed answer below 300 is its caller's to read: conditions on a body do not hold there.
    """

    action: Literal["success", "fail", "retry", "rate_limited", "refresh_then_retry"]
    http_codes: list[Annotated[int, Field(strict=True, ge=200, le=599)]] = []
    header_name: HeaderName | None = None
    """Holds when the header is there, with ``header_value`` in it where that is set."""
    header_value: HeaderValue | None = None
    body_path: BodyPath | None = None
    """A value of the JSON body, ``error.code`` or ``errors.0.type``; holds when it is there and not null."""
    body_equals: str | int | float | bool | None = None
    """What the value has to be."""
    body_contains: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """A text within the value, or anywhere in the body where there is no ``body_path``."""
    error_message: Annotated[str, Field(max_length=500)] = ""
    """Added to the message of the error."""

    @model_validator(mode="after")
    def _has_conditions_that_fit(self) -> ResponseRule:
        if not (self.http_codes or self.header_name or self.body_path or self.body_contains):
            raise ValueError("sets no condition: one of http_codes, header_name, body_path and body_contains is needed")
        if self.header_value is not None and self.header_name is None:
            raise ValueError("sets header_value without header_name")
        if self.body_equals is not None and self.body_path is None:
            raise ValueError("sets body_equals without body_path")
        return self


class UrlVariable(Block):
    """A part of the provider's URLs that each connection gives in its ``provider_data``."""

    pattern: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_pattern)] = "[A-Za-z0-9_-]+"
    """What the whole value has to match."""
    default: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(max_length=500)] = ""


def _path_below(value: str) -> str:
    if not re.fullmatch(_PATH_BELOW, value):
        raise ValueError("is no path below the base URL: it begins with a slash, and holds no space, backslash, ? or #")
    return value


ProxyPath = Annotated[
    str, Field(max_length=500, json_schema_extra={"pattern": f"^{_PATH_BELOW}$"}), AfterValidator(_path_below)
]


class Proxy(Block):
    """What other programs may call through the gateway; an empty list allows everything of its kind."""

    methods: Annotated[
        list[Literal["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]], Field(examples=[["GET", "POST"]])
    ] = []
    """GET includes HEAD."""
    paths: Annotated[list[ProxyPath], Field(examples=[["/v1/charges", "/reports/**"]])] = []
    """Paths below the base URL, such as /v1/charges or /reports/**; * stands for anything but a slash, ** for that
    too."""


def _placeholders(value: str) -> str:
    unknown = set(re.findall(r"{([^{}]*)}", value)) - {"body", "timestamp", "id", "url", "method"}
    if unknown:
        raise ValueError(f"holds {{{sorted(unknown)[0][:40]}}}, which is none of {{body}}, {{timestamp}}, {{id}}, ...")
    if "{body}" not in value:
        raise ValueError("does not hold {body}: anybody could change what is not signed")
    if "{id}{" in value or "}{id}" in value:
        raise ValueError("holds {id} right beside another placeholder: nobody could tell where the id ends")
    return value


class Webhook(Block):
    """What the provider sends us, and how we know that it was the provider.

    The fields from ``signature_header`` on describe a scheme of its own (``hmac``); the named schemes know theirs.
    """

    url: OwnUrl
    """The address that was given to the provider."""
    scheme: Literal["stripe", "github", "meta", "slack", "shopify", "twilio", "sendgrid", "standard", "hmac"] | None = (
        None
    )
    """How it signs; unless given, the provider's slug tells, where it is one of these."""
    secret: Secret | None = None
    """What it signs with: Twilio's auth token, SendGrid's public key, elsewhere the signing secret."""
    secrets: dict[CredentialName, Secret] = {}
    """Others that count as well, by names of your own, while one is replaced: {"next": "whsec_..."}."""
    verify_token: Secret | None = None
    """What Meta sends when an address is registered, as it was typed there."""
    events: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    """Types that are wanted, such as invoice.paid or invoice.*; all where the list is empty."""
    tolerance_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400)] | None = None
    """How old or how far in the future a signed timestamp may be; five minutes unless given."""
    signature_header: HeaderName | None = None
    """Required for the scheme hmac."""
    signature_prefix: Annotated[str, Field(max_length=100)] | None = None
    """What stands before the signature, such as sha256=."""
    signature_algorithm: Literal["sha1", "sha256", "sha384", "sha512"] | None = None
    """sha256 unless given."""
    signature_encoding: Literal["hex", "base64"] | None = None
    """hex unless given."""
    signed_payload: Annotated[str, Field(max_length=500), AfterValidator(_placeholders)] | None = None
    """What is signed, of {body}, {timestamp}, {id}, {method} and {url}: {body} unless given."""
    timestamp_header: HeaderName | None = None
    """Seconds since 1970. Without it in what is signed, an old delivery that somebody recorded is as good as new."""
    event_id_header: HeaderName | None = None
    event_id_path: BodyPath | None = None
    """Where the event's id stands in the JSON body: data.id; * takes all items of a list."""
    event_type_header: HeaderName | None = None
    event_type_path: BodyPath | None = None

    @model_validator(mode="after")
    def _scheme_is_complete(self) -> Webhook:
        if self.scheme == "hmac" and self.signature_header is None:
            raise ValueError("signature_header is needed for the scheme hmac")
        signed = self.signed_payload or ""
        if "{timestamp}" in signed and self.timestamp_header is None:
            raise ValueError("signed_payload holds {timestamp}, and timestamp_header is not set")
        if self.timestamp_header is not None and "{timestamp}" not in signed:
            raise ValueError("timestamp_header is set, and signed_payload does not hold {timestamp}: it proves nothing")
        if "{id}" in signed and self.event_id_header is None:
            raise ValueError("signed_payload holds {id}, and event_id_header is not set")
        return self
