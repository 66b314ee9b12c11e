"""What became of the rows of an import, for people and for machines; its size does not grow with theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from connections.imports.django_oauth.old_rows import OldRow
from connections.imports.django_oauth.providers import Target

__all__ = ["Tally"]

_EXAMPLES = 20
_UNRENEWABLE = "{}: no client id and secret are known, so its tokens are used until they end and never renewed"

_ASSUMED = (
    "{0}: nobody tells which client its tokens were given to, and no other can renew them; they are taken for those of "
    "{0}'s own client (--file names theirs)"
)


class Tally:
    """Counts rows by outcome, and those that failed or were skipped by their reasons, with a few examples of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._reasons: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, outcome: str, row: OldRow, reason: str = "") -> None:
        """Count a row; ``reason`` holds nothing of its values."""
        self.counts[outcome] += 1
        if not reason:
            return
        key = (outcome, reason)
        self._reasons[key] = self._reasons.get(key, 0) + 1
        examples = self._examples.setdefault(key, [])
        if len(examples) < _EXAMPLES:
            examples.append(row.source_key)

    def facts(self, targets: Collection[Target], notes: Collection[str]) -> dict[str, Any]:
        """Return what ``--json`` tells beside the counts."""
        return {
            "providers": [
                {
                    "name": one.name,
                    "slug": one.slug,
                    "what": one.what,
                    "problem": one.problem,
                    "client": one.has_client,
                    "client_assumed": one.is_client_assumed,
                }
                for one in targets
            ],
            "reasons": [
                {"outcome": outcome, "reason": reason, "count": count, "rows": self._examples[outcome, reason]}
                for (outcome, reason), count in self._reasons.items()
            ],
            "notes": list(notes),
        }

    def lines(self, targets: Collection[Target], notes: Collection[str], *, is_applied: bool) -> list[str]:
        """Return what people are told before the counts."""
        found = list(notes)
        for one in targets:
            found.append(f"{one.name} → {_told(one, is_applied=is_applied)}")
            if not one.problem and not one.has_client:
                found.append(_UNRENEWABLE.format(one.slug))
            if one.is_client_assumed:
                found.append(_ASSUMED.format(one.slug))
        for (outcome, reason), count in self._reasons.items():
            examples = ", ".join(self._examples[outcome, reason][:3])
            found.append(f"{count:,} {outcome}: {reason} ({examples}{', …' if count > 3 else ''})")
        return found


def _told(target: Target, *, is_applied: bool) -> str:
    if target.problem:
        return f"nothing here: {target.problem}"
    if target.what == "new":
        return f"{target.slug}, which {'was made' if is_applied else 'is to be made'} of the catalogue"
    if target.what == "completed":
        return f"{target.slug}, which {'was' if is_applied else 'is to be'} given the client's id and secret"
    return f"{target.slug}, which is here"
