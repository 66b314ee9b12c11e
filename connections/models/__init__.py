"""The upper floor's tables."""

from connections.models.connections import ConnectionStatus, ExternalApiConnection
from connections.models.credentials import ExternalApiCredential
from connections.models.usage import UsageBatch

__all__ = ["ConnectionStatus", "ExternalApiConnection", "ExternalApiCredential", "UsageBatch"]
