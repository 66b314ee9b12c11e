"""The parts of a statement that looks up stored sums run by run, and adds up what is of one period.

The sums of each run are looked up by themselves: as a join of ranges the planner takes it for one over them all. Times
are seconds since 1970, all of them whole: a thousand are written, read and compared in half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from external_apis.backoffice.periods import Period, join

__all__ = ["FROM_RUNS", "IN_RUN", "PLACE", "arguments_of"]

FROM_RUNS = "FROM unnest(%(grains)s::text[], %(starts)s::float8[], %(ends)s::float8[]) AS run (grain_of, starts, ends)"
IN_RUN = "grain = grain_of AND starts_at >= to_timestamp(starts) AND starts_at < to_timestamp(ends)"
"""The condition on sums, in a ``LATERAL`` of `FROM_RUNS`."""

PLACE = "width_bucket(extract(epoch FROM starts_at)::float8, %(borders)s::float8[]) - 1 AS place"
"""The place of the period, among them all, that a sum is of."""


def arguments_of(periods: Sequence[Period]) -> dict[str, Any]:
    """Return what the parts name, of periods that follow one another."""
    runs = join(periods)
    return {
        "borders": [period.starts_at.timestamp() for period in periods],
        "grains": [run.grain.value for run in runs],
        "starts": [run.starts_at.timestamp() for run in runs],
        "ends": [run.ends_at.timestamp() for run in runs],
    }
