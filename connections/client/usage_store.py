"""Where Valkey keeps what was counted until it is taken: sums, the newest single calls, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from external_apis import valkey
from external_apis.ids import new_id

if TYPE_CHECKING:
    import redis

__all__ = ["Taken", "add", "lease", "release", "take"]

# Another name for another form: processes of before and after an update may run side by side.
_PENDING = f"{valkey.PREFIX}{{usage}}:sums:2"
_TAKEN = f"{valkey.PREFIX}{{usage}}:sums-taken:2"
_CALLS = f"{valkey.PREFIX}{{usage}}:calls"
_CALLS_TAKEN = f"{valkey.PREFIX}{{usage}}:calls-taken"
_LEASE = f"{valkey.PREFIX}{{usage}}:lease"
_SEEN = f"{valkey.PREFIX}{{usage}}:seen:"
_LEASE_SECONDS = 360  # longer than a task may take
_REMEMBERED_SECONDS = 600
_BATCH_ID = b"batch"  # a field of the sums that are taken
_NUMBER = b"n"  # ends the fields that count the single calls
_MOST_WAITING, _MOST_WAITING_OF_ONE, _FEWEST_OF_ONE = 5_000, 100, 5
_MOST_FINE_SUMS, _MOST_SUMS, _MOST_TAKEN = 200_000, 400_000, 20_000  # some 120 bytes each


@dataclass(frozen=True, slots=True)
class Taken:
    """``sums`` by name, and single calls in no order; a full one is not all that waits."""

    batch_id: str
    sums: dict[str, bytes]
    calls: list[bytes]
    is_full: bool


def add(batch_id: str, arguments: list[Any]) -> None:
    """Add a batch, once: the id is remembered for ten minutes. Raises redis-py's errors, as all of these do."""
    client = valkey.client()
    _script(client, _ADD)(keys=[_PENDING, f"{_SEEN}{batch_id}", _CALLS], args=arguments, client=client)


def lease() -> str | None:
    """Return who may take what waits, until it is released or six minutes are over; None while somebody else may."""
    holder = new_id("lease")
    return holder if valkey.client().set(_LEASE, holder, nx=True, ex=_LEASE_SECONDS) else None


def take() -> Taken | None:
    """Set apart what waits, or a part of very much, and return it; what was taken and never forgotten comes first."""
    client = valkey.client()
    keys = [_PENDING, _TAKEN, _CALLS, _CALLS_TAKEN]
    if not _script(client, _TAKE)(keys=keys, args=[_BATCH_ID, new_id("use"), _MOST_TAKEN], client=client):
        return None
    sums: Any = client.hgetall(_TAKEN)
    calls: Any = client.hgetall(_CALLS_TAKEN)
    batch_id = sums.pop(_BATCH_ID).decode()
    return Taken(
        batch_id,
        {name.decode(): number for name, number in sums.items()},
        [call for name, call in calls.items() if not name.endswith(_NUMBER)],
        is_full=len(sums) >= _MOST_TAKEN,
    )


def release(holder: str, *, forgets: bool = False) -> None:
    """End the lease, and forget what was taken, unless it is somebody else's by now."""
    client = valkey.client()
    keys = [_LEASE, _TAKEN, _CALLS_TAKEN] if forgets else [_LEASE]
    _script(client, _RELEASE)(keys=keys, args=[holder], client=client)


@lru_cache(maxsize=24)
def _script(client: redis.Redis, text: str) -> Any:
    return client.register_script(text)


# KEYS: hash of sums, mark of this batch, hash of single calls. ARGV: how many arguments are numbers and how many last
# uses; then each number behind the names of its sum and of its hour's; last uses and single calls behind theirs. Of the
# calls the newest stay, in a ring for each name; when many wait the rings of those who come are short.
_ADD = f"""
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', {_REMEMBERED_SECONDS}) then return 0 end
local uses = 3 + ARGV[1]
local calls = uses + ARGV[2]
local size = redis.call('HLEN', KEYS[1])
local function has_room(name, most)
  if size < most then return true end
  return redis.call('HEXISTS', KEYS[1], name) == 1
end
for i = 3, uses - 1, 3 do
  local name = ARGV[i]
  if not has_room(name, {_MOST_FINE_SUMS}) then name = ARGV[i + 1] end
  if has_room(name, {_MOST_SUMS}) then
    if redis.call('HINCRBY', KEYS[1], name, ARGV[i + 2]) == tonumber(ARGV[i + 2]) then size = size + 1 end
  end
end
size = redis.call('HLEN', KEYS[1])
for i = uses, calls - 1, 2 do
  local last = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  if tonumber(ARGV[i + 1]) > last and has_room(ARGV[i], {_MOST_SUMS}) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
for i = calls, #ARGV, 2 do
  local total = tonumber(redis.call('HGET', KEYS[3], '{_NUMBER.decode()}') or 0)
  local room = total < {_MOST_WAITING // 2} and {_MOST_WAITING_OF_ONE} or {_FEWEST_OF_ONE}
  if total < {_MOST_WAITING} or redis.call('HEXISTS', KEYS[3], ARGV[i] .. '{_NUMBER.decode()}') == 1 then
    local place = redis.call('HINCRBY', KEYS[3], ARGV[i] .. '{_NUMBER.decode()}', 1) % room
    local is_new = redis.call('HSET', KEYS[3], ARGV[i] .. place, ARGV[i + 1])
    redis.call('HINCRBY', KEYS[3], '{_NUMBER.decode()}', is_new)
  end
end
return 1
"""

# KEYS: hash of sums and of what is taken of it; hash of calls and of what is taken of it. ARGV: the field of a batch's
# id, a new id, how many sums to take at most. Returns whether there is a batch.
_TAKE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local size = redis.call('HLEN', KEYS[1])
if size == 0 and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
if size > 0 and size <= tonumber(ARGV[3]) then
  redis.call('RENAME', KEYS[1], KEYS[2])
elseif size > 0 then
  local cursor, taken = '0', 0
  repeat
    local found = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 1000)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      if redis.call('HDEL', KEYS[1], found[2][i]) == 1 then
        redis.call('HSET', KEYS[2], found[2][i], found[2][i + 1])
        taken = taken + 1
      end
    end
  until cursor == '0' or taken >= tonumber(ARGV[3])
end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[4]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""

# KEYS: lease, and what goes with it. ARGV: who holds it. Only the holder may end it.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', unpack(KEYS))
"""
