"""HTTP over guarded sockets: one exchange at a time, pooled, under a deadline, and bounded in what it reads.

Built on urllib3's connection classes, which open their sockets where `external_apis.egress` lets them. urllib3's pools
are not used: they write URLs, and with them keys in a query, into debug logs and exceptions, and do not tell whether a
request had been sent when something broke. An answer that redirects is returned like any other; whoever follows it
calls again, and is checked again. `GuardedSession` is the same for code that wants a `requests.Session`.
"""

from external_apis.transport.bodies import MAX_BODY_BYTES, MAX_STREAM_BYTES, StreamedBody
from external_apis.transport.client_certificate import ClientCertificate
from external_apis.transport.exchange import Answer, Transport, shared_transport
from external_apis.transport.origin import Origin
from external_apis.transport.session import GuardedSession
from external_apis.uploads import Upload

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_STREAM_BYTES",
    "Answer",
    "ClientCertificate",
    "GuardedSession",
    "Origin",
    "StreamedBody",
    "Transport",
    "Upload",
    "shared_transport",
]
