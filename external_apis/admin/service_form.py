"""Forms that store through the service layer, so that the admin and REST can never differ."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import models, transaction

from external_apis.errors import ApiManagerError
from external_apis.tenancy import EVERYTHING, Scope


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """Calls `store` as the last step of its validation, because Django's admin has no place for errors after it.

    The admin validates a form once, in a transaction, and only of somebody who may store it.
    """

    scope: Scope = EVERYTHING

    def store(self) -> models.Model:
        """Write the row through a service and return it; raises the service's errors."""
        raise NotImplementedError

    def field_for(self, path: str) -> str | None:
        """Name the form field that a problem at ``path`` of the service's body belongs to."""
        return path if path in self.fields else None

    def part_of(self, field: str, path: str) -> str:
        """Return how a message begins that is about a part of a field alone."""
        return ""

    def _post_clean(self) -> None:
        # Instead of Django's: the service validates, and constraints are the database's.
        if self.errors:
            return
        try:
            with transaction.atomic():
                self.instance = self.store()
        except ApiManagerError as error:
            self._report(error)

    def _report(self, error: ApiManagerError) -> None:
        problems = error.details.get("errors")
        if not problems:
            self.add_error(None, error.message)
            return
        told = []
        for problem in problems:
            field, path = self.field_for(problem["path"]), problem["path"]
            told.append((field, f"{self.part_of(field, path) if field else f'{path}: '}{problem['message']}"))
        for field, message in told:  # only now: an error takes away what the field was cleaned to
            self.add_error(field, message)

    def save(self, commit: bool = True) -> Any:
        """Return the row that `store` has written."""
        return self.instance

    def _save_m2m(self) -> None:
        """Nothing: services write everything."""

    save_m2m = _save_m2m
