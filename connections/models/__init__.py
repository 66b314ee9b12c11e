"""The upper floor's tables."""

from connections.models.calls import CallPeriod, ObservedCall, ProviderPeriod, ProviderTotal, Step
from connections.models.connections import ConnectionStatus, ExternalApiConnection
from connections.models.credentials import ExternalApiCredential
from connections.models.grants import Grant, GrantEvent, GrantState
from connections.models.idempotent_calls import IdempotentCall
from connections.models.oauth_flows import ConnectLink, OAuthFlow
from connections.models.usage import UsageBatch

__all__ = [
    "CallPeriod",
    "ConnectLink",
    "ConnectionStatus",
    "ExternalApiConnection",
    "ExternalApiCredential",
    "Grant",
    "GrantEvent",
    "GrantState",
    "IdempotentCall",
    "OAuthFlow",
    "ObservedCall",
    "ProviderPeriod",
    "ProviderTotal",
    "Step",
    "UsageBatch",
]
