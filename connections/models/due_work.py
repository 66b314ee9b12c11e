"""Work that waits for its time, in rows that any worker may take."""

from __future__ import annotations

from django.db import models


class DueWork(models.Model):
    """A row of work: whoever claims it moves ``due_at`` on by a lease, so it is due again when its worker dies.

    ``due_at`` is null when there is nothing to be done. ``fence`` is the number of the last claim, and a claim's
    outcome is stored only while that is still the row's (see `connections.due_work`, and for deliveries, which are
    claimed by their endpoints, `connections.webhooks.outbound.claims`). ``attempts`` counts the claims of
    one piece of work, the one under way among them. A subclass indexes ``due_at`` where it is not null.
    """

    due_at = models.DateTimeField(null=True, blank=True)
    fence = models.BigIntegerField(default=0, editable=False)
    attempts = models.PositiveIntegerField(default=0)

    class Meta:
        abstract = True
