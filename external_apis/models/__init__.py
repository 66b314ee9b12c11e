"""The ground floor's tables."""

from external_apis.models.accounts import Account
from external_apis.models.api_keys import ApiKey, DigestSecret, KeyMode, KeyType
from external_apis.models.audit import AuditEvent
from external_apis.models.catalogue import CatalogueEntry
from external_apis.models.encryption_keys import DataKey, EncryptionKey
from external_apis.models.outbox import OutboxEvent
from external_apis.models.providers import Category, Environment, ExternalApi, ProviderStatus
from external_apis.models.tenants import Partner, Tenant

__all__ = [
    "Account",
    "ApiKey",
    "AuditEvent",
    "CatalogueEntry",
    "Category",
    "DataKey",
    "DigestSecret",
    "EncryptionKey",
    "Environment",
    "ExternalApi",
    "KeyMode",
    "KeyType",
    "OutboxEvent",
    "Partner",
    "ProviderStatus",
    "Tenant",
]
