"""Where Valkey keeps sums of visits until the roll-up takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from external_apis import valkey
from external_apis.ids import new_id

if TYPE_CHECKING:
    import redis

__all__ = ["OTHER", "QUARTER_SECONDS", "Counted", "Taken", "add", "forget", "take"]

OTHER = "(other)"
"""Stands for all names beyond those that there is room for."""

_PENDING = f"{valkey.PREFIX}{{visits}}:sums"
_TAKEN = f"{valkey.PREFIX}{{visits}}:taken"
_SEEN = f"{valkey.PREFIX}{{visits}}:seen:"
_BATCH_ID = b"batch"  # a field of the sums that are taken
_REMEMBERED_SECONDS = 600
_MOST_NAMED, _MOST_SUMS = 20_000, 40_000  # some 120 bytes each


QUARTER_SECONDS = 900


class Counted(NamedTuple):
    """What one sum is of; ``quarter`` counts those of an hour since 1970, ``tenant`` is empty for the installation."""

    tenant: str
    quarter: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The ``batch_id`` stays the same until the sums are forgotten, so that they are applied once."""

    batch_id: str
    sums: Mapping[Counted, int]


def add(batch_id: str, numbers: Mapping[Counted, int]) -> None:
    """Add a batch, once: the id is remembered for ten minutes. Raises redis-py's errors."""
    client = valkey.client()
    arguments: list[Any] = []
    for counted, number in numbers.items():
        other = counted._replace(name=OTHER) if counted.name else counted
        arguments += (_field(counted), _field(other), number)
    _script(client, _ADD)(keys=[_PENDING, f"{_SEEN}{batch_id}"], args=arguments, client=client)


def take() -> Taken | None:
    """Set apart what waits and return it; what was taken and not forgotten since comes first.

    Raises `ServiceUnavailable` without Valkey, as `forget` does.
    """
    with valkey.translate_errors():
        client = valkey.client()
        found: Any = _script(client, _TAKE)(keys=[_PENDING, _TAKEN], args=[_BATCH_ID, new_id("vis")], client=client)
    fields = dict(zip(found[::2], found[1::2], strict=True))
    if not fields:
        return None
    batch_id = fields.pop(_BATCH_ID).decode()
    return Taken(batch_id, {_counted(name.decode()): int(number) for name, number in fields.items()})


def forget(batch_id: str) -> None:
    """Drop a batch that is in the database, unless another one has taken its place."""
    with valkey.translate_errors():
        client = valkey.client()
        _script(client, _FORGET)(keys=[_TAKEN], args=[_BATCH_ID, batch_id], client=client)


def _field(counted: Counted) -> str:
    return "|".join(map(str, counted))


def _counted(field: str) -> Counted:
    tenant, quarter, kind, name = field.split("|", 3)
    return Counted(tenant, int(quarter), kind, name)


@lru_cache(maxsize=8)
def _script(client: redis.Redis, text: str) -> Any:
    return client.register_script(text)


# KEYS: hash of sums, mark of this batch. ARGV: for each number its name, and the one it goes under when many wait.
_ADD = f"""
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', {_REMEMBERED_SECONDS}) then return 0 end
local size = redis.call('HLEN', KEYS[1])
for i = 1, #ARGV, 3 do
  local name, number = ARGV[i], ARGV[i + 2]
  local is_known = redis.call('HEXISTS', KEYS[1], name) == 1
  if not is_known and size >= {_MOST_NAMED} then
    name = ARGV[i + 1]
    is_known = redis.call('HEXISTS', KEYS[1], name) == 1
  end
  if is_known or size < {_MOST_SUMS} then
    redis.call('HINCRBY', KEYS[1], name, number)
    if not is_known then size = size + 1 end
  end
end
return 1
"""

# KEYS: hash of sums, and of what is taken of it. ARGV: the field of a batch's id, a new id.
_TAKE = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
return redis.call('HGETALL', KEYS[2])
"""

_FORGET = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('DEL', KEYS[1]) end
return 0
"""
