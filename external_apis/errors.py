"""Every error that the product raises on purpose.

ApiManagerError
├── NotFound                     404  no such row, or none that the asker may see
│   └── EndpointNotFound              no such address under /api/external
├── Forbidden                    403  the asker is known and may not
├── NotAuthenticated             401  the asker is not known
│   ├── MissingAuthHeader
│   ├── InvalidAuthScheme             another scheme than Bearer
│   ├── InvalidApiKey                 mistyped, unknown, revoked or expired
│   ├── TokenExpired                  a JWT that was good
│   └── InvalidToken                  any other JWT that is not ours
├── Conflict                     409  the change collides with what is stored
│   ├── CallInProgress                a call with this idempotency key is under way
│   ├── CallInDoubt                   nobody knows what became of the call with this idempotency key
│   ├── WorkflowCancelled             somebody ended the run
│   ├── NotUndone                     what is left of the run is for somebody to look at before another one begins
│   ├── NothingToTake                 a run hands over nothing, or did so before
│   ├── ModelUnusable                 the AI model is switched off, or goes through no connection that there is
│   ├── TokensUsedUp                  nothing is left of the AI tokens of who asks
│   └── AnswerNotKept                 the call with this idempotency key was made; its answer was too long to keep
├── LinkUnusable                 410  a connect link that was used, has expired, or is none
├── InvalidInput                 400  the asker's data is wrong; details carry field paths
│   ├── InvalidConfiguration     400  an api_config that its auth type's schema refuses
│   └── FlowRefused              400  an attempt to connect that cannot go on; ``reason`` says why in one word
├── IdempotencyKeyReused         422  the key came with another request before
├── PayloadTooLarge              413  a body over the limit
├── StepFailed                   409  a workflow's step cannot be done; may_have_happened tells whether it did something
│   ├── StepInDoubt                   it may have been done before, and is none that is repeated
│   └── StepAbandoned                 its worker died in it again and again
├── WorkflowBroken               500  a workflow's code does not fit the run, or breaks the rules for workflows
├── ServiceUnavailable           503  our own database or Valkey is away (transient)
│   ├── TooManyCalls                  this process has enough calls under way
│   └── GrantKept                     a provider has agreed, and its answer waits for the database
├── ApiKeyNotConfigured          503  there is no key at all that could be sent
├── VaultError                   500  a sealed value and the keyring do not fit
│   ├── UnknownKey                    sealed under a key id that the keyring does not hold
│   ├── RetiredKey                    this process would write with a key that is retired
│   ├── Unreadable                    truncated, altered, or moved from another row or column
│   └── NotSealed                     an attempt to store a secret in clear
├── ConnectionUnusable           409  the stored connection cannot be used
│   ├── ConnectionExpired
│   ├── ConnectionRevoked
│   ├── ConnectionInactive
│   └── MissingCredential
├── RateLimited                  429  our own limiter gave no slot in time (transient)
├── EgressRefused                502  the egress guard forbids the address
└── CallError                    502  a call to a provider went wrong
    ├── ConnectFailed                 nothing was sent (transient)
    ├── CallTimeout              504  no answer in time; may_have_happened tells whether it was sent
    ├── BadAnswer                     broken off, over the size limit, or not what it claims to be
    │   └── PaginationBroken          pages in a circle, without end, or without a list in them
    ├── GraphqlError                  errors in a GraphQL answer; holds them and the partial data
    ├── GrantRefused                  a token endpoint said no; is_final when the grant is over
    ├── TokenEndpointFailed           a token endpoint gave no usable answer (transient)
    └── UpstreamError                 an answer with an error status
        ├── UpstreamClientError       4xx
        │   ├── UpstreamUnauthorized  401
        │   └── UpstreamRateLimited   429 (transient)
        └── UpstreamServerError       5xx (transient)

``code`` is the stable machine-readable name, ``status`` the HTTP status under which our own REST layers report the
error. A message never contains a secret, a token, the query of a URL or a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "AnswerNotKept",
    "ApiKeyNotConfigured",
    "ApiManagerError",
    "BadAnswer",
    "CallError",
    "CallInDoubt",
    "CallInProgress",
    "CallTimeout",
    "Conflict",
    "ConnectFailed",
    "ConnectionExpired",
    "ConnectionInactive",
    "ConnectionRevoked",
    "ConnectionUnusable",
    "EgressRefused",
    "EndpointNotFound",
    "FlowRefused",
    "Forbidden",
    "GrantKept",
    "GrantRefused",
    "GraphqlError",
    "IdempotencyKeyReused",
    "InvalidApiKey",
    "InvalidAuthScheme",
    "InvalidConfiguration",
    "InvalidInput",
    "InvalidToken",
    "LinkUnusable",
    "MissingAuthHeader",
    "MissingCredential",
    "ModelUnusable",
    "NotAuthenticated",
    "NotFound",
    "NotSealed",
    "NotUndone",
    "NothingToTake",
    "PaginationBroken",
    "PayloadTooLarge",
    "RateLimited",
    "RetiredKey",
    "ServiceUnavailable",
    "StepAbandoned",
    "StepFailed",
    "StepInDoubt",
    "TokenEndpointFailed",
    "TokenExpired",
    "TokensUsedUp",
    "TooManyCalls",
    "UnknownKey",
    "Unreadable",
    "UpstreamClientError",
    "UpstreamError",
    "UpstreamRateLimited",
    "UpstreamServerError",
    "UpstreamUnauthorized",
    "VaultError",
    "WorkflowBroken",
    "WorkflowCancelled",
]


class ApiManagerError(Exception):
    """Root of the tree: ``code``, ``status``, ``message``, ``details`` and ``is_transient`` are all a caller needs."""

    code = "INTERNAL_ERROR"
    status = 500
    is_transient = False

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class NotFound(ApiManagerError):
    code = "NOT_FOUND"
    status = 404


class EndpointNotFound(NotFound):
    code = "ENDPOINT_NOT_FOUND"


class Forbidden(ApiManagerError):
    code = "FORBIDDEN"
    status = 403


class NotAuthenticated(ApiManagerError):
    code = "NOT_AUTHENTICATED"
    status = 401


class MissingAuthHeader(NotAuthenticated):
    code = "MISSING_AUTH_HEADER"


class InvalidAuthScheme(NotAuthenticated):
    code = "INVALID_AUTH_SCHEME"


class InvalidApiKey(NotAuthenticated):
    code = "INVALID_API_KEY"


class TokenExpired(NotAuthenticated):
    code = "TOKEN_EXPIRED"


class InvalidToken(NotAuthenticated):
    code = "INVALID_TOKEN"


class Conflict(ApiManagerError):
    code = "CONFLICT"
    status = 409


class CallInProgress(Conflict):
    code = "IDEMPOTENCY_CALL_IN_PROGRESS"
    is_transient = True


class CallInDoubt(Conflict):
    code = "IDEMPOTENCY_CALL_IN_DOUBT"


class AnswerNotKept(Conflict):
    code = "IDEMPOTENCY_ANSWER_NOT_KEPT"


class WorkflowCancelled(Conflict):
    code = "WORKFLOW_CANCELLED"


class NotUndone(Conflict):
    code = "WORKFLOW_NOT_UNDONE"


class NothingToTake(Conflict):
    code = "NOTHING_TO_TAKE"


class ModelUnusable(Conflict):
    code = "MODEL_UNUSABLE"


class TokensUsedUp(Conflict):
    code = "TOKENS_USED_UP"


class IdempotencyKeyReused(ApiManagerError):
    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422


class LinkUnusable(ApiManagerError):
    code = "CONNECT_LINK_UNUSABLE"
    status = 410


class InvalidInput(ApiManagerError):
    """``details["errors"]`` is a list of ``{"path": "api_config.base_url", "message": "..."}``."""

    code = "VALIDATION_ERROR"
    status = 400

    @classmethod
    def of(cls, path: str, message: str) -> Self:
        """Return the error that names one field."""
        return cls(f"Invalid input: {path}: {message}", details={"errors": [{"path": path, "message": message}]})


class InvalidConfiguration(InvalidInput):
    pass


class FlowRefused(InvalidInput):
    """``reason`` is for machines: unknown, foreign, used, expired, wrong_issuer, denied, unconfirmed, …"""

    code = "OAUTH_FLOW_REFUSED"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, details={"reason": reason})
        self.reason = reason


class PayloadTooLarge(ApiManagerError):
    code = "PAYLOAD_TOO_LARGE"
    status = 413


class StepFailed(ApiManagerError):
    """For a step to raise that cannot be done: it is not tried again."""

    code = "STEP_FAILED"
    status = 409

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened


class StepInDoubt(StepFailed):
    code = "STEP_IN_DOUBT"


class StepAbandoned(StepFailed):
    code = "STEP_ABANDONED"


class WorkflowBroken(ApiManagerError):
    code = "WORKFLOW_BROKEN"


class ServiceUnavailable(ApiManagerError):
    code = "SERVICE_UNAVAILABLE"
    status = 503
    is_transient = True


class TooManyCalls(ServiceUnavailable):
    code = "TOO_MANY_CALLS"


class GrantKept(ServiceUnavailable):
    """Nothing has to be repeated: what the provider gave is stored when the database is back."""


class ApiKeyNotConfigured(ApiManagerError):
    code = "API_KEY_NOT_CONFIGURED"
    status = 503


class VaultError(ApiManagerError):
    code = "VAULT_ERROR"


class UnknownKey(VaultError):
    code = "UNKNOWN_ENCRYPTION_KEY"


class RetiredKey(VaultError):
    code = "RETIRED_ENCRYPTION_KEY"


class Unreadable(VaultError):
    code = "SEALED_VALUE_UNREADABLE"


class NotSealed(VaultError):
    code = "SECRET_NOT_SEALED"


class ConnectionUnusable(ApiManagerError):
    code = "CONNECTION_UNUSABLE"
    status = 409


class ConnectionExpired(ConnectionUnusable):
    code = "CONNECTION_EXPIRED"


class ConnectionRevoked(ConnectionUnusable):
    code = "CONNECTION_REVOKED"


class ConnectionInactive(ConnectionUnusable):
    code = "CONNECTION_INACTIVE"


class MissingCredential(ConnectionUnusable):
    code = "MISSING_CREDENTIAL"


class RateLimited(ApiManagerError):
    """``retry_after_seconds`` is the time until the limiter would give the next slot."""

    code = "RATE_LIMIT_EXCEEDED"
    status = 429
    is_transient = True

    def __init__(self, message: str, *, retry_after_seconds: float, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details={"retry_after_seconds": round(retry_after_seconds, 3), **(details or {})})
        self.retry_after_seconds = retry_after_seconds


class EgressRefused(ApiManagerError):
    code = "EGRESS_REFUSED"
    status = 502


class CallError(ApiManagerError):
    """``request_id`` is the id that the client gave the call; ``attempts`` how often it was sent or tried."""

    code = "CALL_FAILED"
    status = 502

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        attempts: int = 1,
        may_have_happened: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            message,
            details={
                "request_id": request_id,
                "attempts": attempts,
                "may_have_happened": may_have_happened,
                **(details or {}),
            },
        )
        self.request_id = request_id
        self.attempts = attempts
        self.may_have_happened = may_have_happened


class ConnectFailed(CallError):
    code = "CONNECT_FAILED"
    is_transient = True


class CallTimeout(CallError):
    code = "CALL_TIMEOUT"
    status = 504
    is_transient = True


class BadAnswer(CallError):
    code = "BAD_ANSWER"


class PaginationBroken(BadAnswer):
    code = "PAGINATION_BROKEN"


class GraphqlError(CallError):
    """A GraphQL answer with ``errors``, each with ``message``, ``path`` and ``extensions`` as the provider gave them.

    ``data`` is what came beside them. ``is_transient`` and ``retry_after_seconds`` are set when the provider refused
    the operation for its cost. The messages stay out of ``details``: providers like to quote credentials in them.
    """

    code = "GRAPHQL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        errors: Sequence[Mapping[str, Any]],
        data: Any = None,
        retry_after_seconds: float | None = None,
        request_id: str = "",
    ) -> None:
        self.paths = [".".join(map(str, path)) for error in errors if isinstance(path := error.get("path"), list)]
        super().__init__(message, request_id=request_id, may_have_happened=True, details={"paths": self.paths})
        self.errors = list(errors)
        self.data = data
        self.retry_after_seconds = retry_after_seconds


class GrantRefused(CallError):
    """A definite no of a token endpoint, such as ``invalid_client``.

    ``error`` is the provider's code; the message quotes its explanation, bounded and without secrets. ``is_final``
    tells that the grant itself is over (``invalid_grant``), so that only a new consent helps.
    """

    code = "GRANT_REFUSED"

    def __init__(self, message: str, *, error: str, is_final: bool = False) -> None:
        super().__init__(message, details={"error": error, "is_final": is_final})
        self.error = error
        self.is_final = is_final


class TokenEndpointFailed(CallError):
    """A token endpoint could not be reached, or answered with nothing that can be used.

    ``may_have_happened`` is True where the request was sent and no answer of the endpoint came, a gateway's 502 or 504
    among that: then a provider may have renewed the grant. Any other answer counts as one that did not. ``is_lasting``
    tells of an answer that repeating does not change, such as a 404. ``error`` is the provider's code, if it gave one.
    """

    code = "TOKEN_ENDPOINT_FAILED"
    is_transient = True

    def __init__(
        self,
        message: str,
        *,
        may_have_happened: bool = False,
        retry_after_seconds: float | None = None,
        error: str = "",
        is_lasting: bool = False,
    ) -> None:
        super().__init__(message, may_have_happened=may_have_happened)
        self.retry_after_seconds = retry_after_seconds
        self.error = error
        self.is_lasting = is_lasting


class UpstreamError(CallError):
    """The provider answered with an error.

    ``upstream_status`` and ``upstream_request_id`` come from the answer; ``body`` is its beginning, bounded, and stays
    out of the message and of ``details`` because providers like to quote credentials in it.
    """

    code = "UPSTREAM_ERROR"
    wants_refresh = False
    """Whether a renewed credential may help."""

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int,
        upstream_request_id: str = "",
        body: bytes = b"",
        retry_after_seconds: float | None = None,
        request_id: str = "",
        attempts: int = 1,
        may_have_happened: bool = False,
    ) -> None:
        super().__init__(
            message,
            request_id=request_id,
            attempts=attempts,
            may_have_happened=may_have_happened,
            details={"upstream_status": upstream_status, "upstream_request_id": upstream_request_id},
        )
        self.upstream_status = upstream_status
        self.upstream_request_id = upstream_request_id
        self.body = body
        self.retry_after_seconds = retry_after_seconds


class UpstreamClientError(UpstreamError):
    code = "UPSTREAM_CLIENT_ERROR"


class UpstreamUnauthorized(UpstreamClientError):
    code = "UPSTREAM_UNAUTHORIZED"


class UpstreamRateLimited(UpstreamClientError):
    code = "UPSTREAM_RATE_LIMITED"
    is_transient = True


class UpstreamServerError(UpstreamError):
    code = "UPSTREAM_SERVER_ERROR"
    is_transient = True
