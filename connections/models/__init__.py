"""The upper floor's tables."""

from connections.models.calls import CallPeriod, ObservedCall, ProviderPeriod, ProviderTotal, Step
from connections.models.connections import ConnectionStatus, ExternalApiConnection
from connections.models.credentials import ExternalApiCredential
from connections.models.failing_calls import FailingCalls
from connections.models.grants import Grant, GrantEvent, GrantState
from connections.models.idempotent_calls import IdempotentCall
from connections.models.imports import (
    EnvironmentVariable,
    ImportedRow,
    ImportKind,
    ImportOutcome,
    ImportRun,
    ImportState,
)
from connections.models.oauth_flows import ConnectLink, OAuthFlow
from connections.models.usage import UsageBatch
from connections.models.webhook_endpoints import (
    DeliveryAttempt,
    DeliveryStatus,
    DisabledReason,
    WebhookDelivery,
    WebhookEndpoint,
)
from connections.models.webhook_events import EventStatus, WebhookEvent, WebhookRefusal
from connections.models.workflows import RunState, StepState, UndoState, WorkflowRun, WorkflowStep
from connections.models.write_backs import OldDatabase, WriteBack

__all__ = [
    "CallPeriod",
    "ConnectLink",
    "ConnectionStatus",
    "DeliveryAttempt",
    "DeliveryStatus",
    "DisabledReason",
    "EnvironmentVariable",
    "EventStatus",
    "ExternalApiConnection",
    "ExternalApiCredential",
    "FailingCalls",
    "Grant",
    "GrantEvent",
    "GrantState",
    "IdempotentCall",
    "ImportKind",
    "ImportOutcome",
    "ImportRun",
    "ImportState",
    "ImportedRow",
    "OAuthFlow",
    "ObservedCall",
    "OldDatabase",
    "ProviderPeriod",
    "ProviderTotal",
    "RunState",
    "Step",
    "StepState",
    "UndoState",
    "UsageBatch",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookRefusal",
    "WorkflowRun",
    "WorkflowStep",
    "WriteBack",
]
