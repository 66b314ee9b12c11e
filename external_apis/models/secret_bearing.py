"""Rows that hold secrets: one sealed column, and beside it what may be shown of each secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from django.db import models, transaction

from external_apis.crypto import Sealed, Secrets
from external_apis.errors import Unreadable, VaultError
from external_apis.fields import SecretsField

SECRET_COLUMNS = ("secrets", "secret_hints")
"""What a history leaves out."""

_HINT_CHARACTERS = 4
# A hint gives away little of a long random token and too much of a password.
_SHORTEST_HINTED = 20


class SecretFacts(TypedDict):
    """All that an answer may say of a secret."""

    keyVersion: str
    fingerprint: str
    hint: str


def secrets_field(model: type[models.Model]) -> SecretsField:
    """Return the sealed column of a `SecretBearing` model."""
    field = model._meta.get_field("secrets")
    assert isinstance(field, SecretsField)  # noqa: S101 (tells the type checker)
    return field


class SecretBearing(models.Model):
    """``secrets`` is sealed; the fingerprints are keyed and part of the history; hints are the last characters.

    Fingerprints are keyed by the data key: they stay the same when a master key is rotated, and say nothing any more
    once the tenant is shredded.
    """

    secrets = SecretsField(default=dict, editable=False)
    secret_fingerprints = models.JSONField(default=dict, blank=True, editable=False)
    secret_hints = models.JSONField(default=dict, blank=True, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.__dict__.get("secrets"), Sealed) or "secrets" not in self.__dict__:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            secrets_field(type(self)).hold_writing_key(self)
            self.describe_secrets()
            if (update_fields := kwargs.get("update_fields")) is not None:
                kwargs["update_fields"] = {*update_fields, "secrets", "secret_fingerprints", "secret_hints"}
            super().save(*args, **kwargs)

    def describe_secrets(self) -> None:
        """Bring fingerprints and hints up to date with the secrets (``bulk_create`` does not call `save`)."""
        values: Mapping[str, str] = self.secrets
        key = secrets_field(type(self)).writing_key(self)
        self.secret_fingerprints = {name: key.fingerprint(value) for name, value in values.items()}
        self.secret_hints = {
            name: value[-_HINT_CHARACTERS:] for name, value in values.items() if len(value) >= _SHORTEST_HINTED
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stored secret by its name; none where the column is damaged."""
        return self.secret_fingerprints if _is_text_by_name(self.secret_fingerprints) else {}

    def secrets_beside(self, replaced: Collection[str]) -> Secrets:
        """Return the opened secrets, to which a change of the names in ``replaced`` is applied.

        A column that does not open counts as empty when the change replaces or removes everything that it held: that
        is how such a row is mended. Otherwise raises `VaultError`.
        """
        try:
            opened: Secrets = self.secrets
        except VaultError:
            if not _is_text_by_name(self.secret_fingerprints) or set(self.fingerprints) - set(replaced):
                raise
            opened = Secrets()
        return opened

    def secret_facts(self) -> dict[str, SecretFacts]:
        """Describe each secret by name, opening nothing.

        Raises `VaultError` where the columns are damaged or the key is not in the keyring.
        """
        key_id = secrets_field(type(self)).key_id(self)
        if not _is_text_by_name(self.secret_fingerprints) or not _is_text_by_name(self.secret_hints):
            raise Unreadable("What is noted about the sealed values is damaged.")
        return {
            name: SecretFacts(keyVersion=key_id, fingerprint=fingerprint, hint=self.secret_hints.get(name, ""))
            for name, fingerprint in self.fingerprints.items()
        }


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
