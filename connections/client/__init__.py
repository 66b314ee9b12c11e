"""The client for calling providers: see `ApiClient`. It knows nothing of rows; `Target` is all it is given."""

from connections.client.auth import SCHEMES, RequestsAuth, Scheme, make_scheme
from connections.client.client import ApiClient
from connections.client.events import Event, RedactedRequest
from connections.client.retry import Clock, RetryPolicy
from connections.client.target import Target

__all__ = [
    "SCHEMES",
    "ApiClient",
    "Clock",
    "Event",
    "RedactedRequest",
    "RequestsAuth",
    "RetryPolicy",
    "Scheme",
    "Target",
    "make_scheme",
]
