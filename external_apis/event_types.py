"""What is told to others by webhooks: the closed table of event types, and the filters that choose among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from external_apis.errors import InvalidInput

__all__ = ["EVENT_TYPES", "EVERYTHING", "TEST", "check_filters", "matching_filters"]

EVERYTHING = "*"
TEST = "test"

EVENT_TYPES: Mapping[str, str] = {
    "grant.authorized": "An account was connected for the first time.",
    "grant.reauthorized": "An account was connected again.",
    "grant.reauthorization_failed": "An attempt to connect an account again failed.",
    "grant.refreshed": "A token was renewed.",
    "grant.restored": "A token was renewed after failures.",
    "grant.refresh_failed": "A renewal failed; it is tried again.",
    "grant.renewal_failing": "No renewal has succeeded for a while.",
    "grant.renewal_paused": "Tokens are not renewed while the provider or the tenant is switched off.",
    "grant.in_doubt": "A renewal may or may not have happened; it is tried once more.",
    "grant.expiring_soon": "The access token ends soon and nothing can renew it.",
    "grant.expired": "The access token has ended.",
    "grant.needs_reauthorization": "Somebody has to connect the account again.",
    "grant.revoked": "The grant was given back, or taken away.",
    "connection.created": "A connection was made.",
    "connection.updated": "A connection, or its credentials, were changed.",
    "connection.deleted": "A connection was deleted.",
    "connection.restored": "A deleted connection is there again, or one that had failed works again.",
    "connection.authorized": "A connection has got its first tokens.",
    "connection.reauthorized": "A connection has got new tokens by consent.",
    "connection.expired": "A connection cannot be used any more until it is connected again.",
    "connection.failed": "A connection has gone into the state of an error.",
    "connection.revoked": "A connection's tokens were removed.",
    "api_key.created": "An API key was made.",
    "api_key.updated": "An API key was renamed.",
    "api_key.rolled": "An API key was replaced by another one.",
    "api_key.revoked": "An API key has ended, or will.",
    "api_key.deleted": "An ended API key was removed.",
    "provider.created": "A provider was made.",
    "provider.updated": "A provider was changed.",
    "provider.deleted": "A provider was deleted.",
    "provider.restored": "A deleted provider is there again.",
    "calls.failing": "At least half of a connection's calls fail.",
    "calls.recovered": "A connection's calls, which had failed, succeed again.",
    "webhook_endpoint.disabled": "A webhook endpoint was switched off because it failed for five days or is gone.",
    TEST: "Somebody wants to see whether an endpoint takes what is sent to it.",
}
"""Each type and what it tells. Those before the dot are the actions of the audit log and the kinds of grant events."""

_FILTERS = frozenset(
    {EVERYTHING, *EVENT_TYPES, *(f"{name.partition('.')[0]}.*" for name in EVENT_TYPES if "." in name)}
)


def check_filters(filters: Iterable[str]) -> list[str]:
    """Return filters in order: types, ``group.*``, or ``*``, but for those that another one includes.

    Raises `InvalidInput` for what is none of them.
    """
    unique = sorted(set(filters))
    unknown = [name for name in unique if name not in _FILTERS]
    if unknown or not unique:
        message = f"there is no event type {unknown[0][:60]!a}" if unknown else "names no event type"
        raise InvalidInput.of("events", message)
    if EVERYTHING in unique:
        return [EVERYTHING]
    return [name for name in unique if name.endswith(".*") or f"{name.partition('.')[0]}.*" not in unique]


def matching_filters(event_type: str) -> tuple[str, ...]:
    """Return all filters that an event of this type passes. A test goes to the endpoint that it is for, and no other.

    >>> matching_filters("grant.expired")
    ('grant.expired', 'grant.*', '*')
    """
    if event_type == TEST:
        return ()
    return event_type, f"{event_type.partition('.')[0]}.*", EVERYTHING
