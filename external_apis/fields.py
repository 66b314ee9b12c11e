"""The one encrypted model field: a mapping of named secrets, sealed for its row under its tenant's data key.

Reading rows never decrypts: what comes from the database is the sealed bytes, opened when the attribute is first
read. `QuerySet.update` and `bulk_update` with plain secrets are refused, and so are look-ups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import models
from django.utils.functional import cached_property
from fernet_fields.fields import EncryptedField

from external_apis.crypto import Form, Key, Sealed, Secrets
from external_apis.data_keys import data_keys, key_of
from external_apis.errors import NotSealed, Unreadable, VaultError
from external_apis.keyring import keyring

_TENANT = "external_apis.Tenant"


class SecretsField(EncryptedField, models.Field):  # type: ignore[type-arg]
    """Holds `Secrets`: ``{"access_token": "..."}`` in Python, one AES-256-GCM value in the database."""

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, self.attname, _SecretsAttribute(self))

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Sealed:
        value = model_instance.__dict__.get(self.attname)
        if not isinstance(value, Sealed):
            value = Secrets() if value is None else value
            model_instance.__dict__[self.opened_name] = value
            value = model_instance.__dict__[self.attname] = self.seal(model_instance, value)
        elif not add:
            value = model_instance.__dict__[self.attname] = self.renewed(model_instance, value)
        return value

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if not isinstance(value, Sealed):
            raise NotSealed(f"{self.model.__name__}.{self.name} is stored by saving the object, never by an update.")
        return connection.Database.Binary(bytes(value))

    def value_to_string(self, obj: models.Model) -> str:
        """Serialise the sealed form: a fixture or dump never holds a secret in clear."""
        return self.pre_save(obj, add=False).hex()

    def get_default(self) -> Secrets:
        return Secrets()

    @property
    def opened_name(self) -> str:
        """Where an instance keeps the opened value beside the sealed one."""
        return f"_opened_{self.attname}"

    def identity(self, instance: models.Model) -> str:
        """Name the place a value is sealed for: ``app.model:pk:field``."""
        if not instance.pk:
            raise NotSealed("A secret is sealed for its row, so the row's id comes first.")
        return f"{self.model._meta.label_lower}:{instance.pk}:{self.name}"

    @cached_property
    def tenant_attname(self) -> str | None:
        """The column that names the row's tenant: its foreign key ``tenant``, where it has one."""
        for field in self.model._meta.concrete_fields:
            if field.name == "tenant" and field.related_model and field.related_model._meta.label == _TENANT:
                return field.attname
        return None

    def writing_key(self, instance: models.Model) -> Key:
        """Return the data key of the row's tenant, under which its secrets are sealed now."""
        return data_keys().writing(self._tenant_id(instance))

    def hold_writing_key(self, instance: models.Model) -> None:
        """Keep `writing_key` from being shredded before the row is stored; see `DataKeys.hold`."""
        data_keys().hold(self._tenant_id(instance))

    def _tenant_id(self, instance: models.Model) -> str | None:
        return getattr(instance, self.tenant_attname) if self.tenant_attname else None

    def seal(self, instance: models.Model, values: Mapping[str, str]) -> Sealed:
        plaintext = json.dumps(dict(values), ensure_ascii=False, separators=(",", ":")).encode()
        return self.writing_key(instance).seal(plaintext, self.identity(instance))

    def renewed(self, instance: models.Model, sealed: Sealed) -> Sealed:
        """Return an unchanged value as it is to be stored: under today's key, also where the row was read before a
        rotation that has resealed it since. What does not open stays as it is."""
        key = self.writing_key(instance)
        try:
            if sealed.key_id == key.id:
                return sealed
            identity = self.identity(instance)
            return key.seal(key_of(sealed).open(sealed, identity), identity)
        except VaultError:
            return sealed

    def open(self, instance: models.Model, sealed: Sealed) -> Secrets:
        plaintext = key_of(sealed).open(sealed, self.identity(instance))
        try:
            return Secrets(json.loads(plaintext))
        except ValueError:
            raise Unreadable("The sealed value does not hold named secrets.") from None

    def key_id(self, instance: models.Model) -> str:
        """Return the id of the key that seals the column, without opening it or asking the database.

        Raises `Unreadable` for damaged bytes and `UnknownKey` where the keyring lacks the key.
        """
        value = instance.__dict__.get(self.attname)
        if not isinstance(value, Sealed):
            return self.writing_key(instance).id
        if value.form == Form.UNDER_MASTER_KEY:
            keyring().key(value.key_id)
        return value.key_id


class _SecretsAttribute:
    """Opens the sealed bytes at first access and keeps the opened value beside them on the instance."""

    def __init__(self, field: SecretsField) -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self.field
        state, attname = instance.__dict__, self.field.attname
        if attname not in state:
            instance.refresh_from_db(fields=[attname])
        value = state[attname]
        if not isinstance(value, Sealed):
            return value
        opened = state.get(self.field.opened_name)
        if opened is None:
            opened = state[self.field.opened_name] = self.field.open(instance, value)
        return opened

    def __set__(self, instance: models.Model, value: Mapping[str, str] | Sealed | None) -> None:
        if not isinstance(value, Sealed | Secrets):
            value = Secrets(value or {})
        instance.__dict__.pop(self.field.opened_name, None)
        instance.__dict__[self.field.attname] = value
