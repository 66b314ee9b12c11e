"""Which rows of other tables point at a row: who does so has use for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from django.db import models

__all__ = ["pointed_at"]


def pointed_at(
    model: type[models.Model], ids: Sequence[str], *, ignoring: Collection[type[models.Model]] = ()
) -> dict[str, str]:
    """Return the name of a table that points at a row, by the row's id; one query for each table.

    Tables whose foreign keys are for the record alone (histories, the audit log) do not count, nor does ``ignoring``.
    """
    found: dict[str, str] = {}
    for field in _foreign_keys_to(model):
        if field.model in ignoring:
            continue
        rows = field.model._base_manager.filter(**{f"{field.attname}__in": list(ids)})
        name = f"a {field.model._meta.verbose_name}"
        found |= dict.fromkeys(map(str, rows.order_by().values_list(field.attname, flat=True).distinct()), name)
    return found


def _foreign_keys_to(model: type[models.Model]) -> Iterator[models.ForeignKey[models.Model, models.Model]]:
    for relation in model._meta.get_fields(include_hidden=True):
        if not isinstance(relation, models.ManyToOneRel) or relation.on_delete is models.DO_NOTHING:
            continue
        if isinstance(relation.field, models.ForeignKey):
            yield relation.field
