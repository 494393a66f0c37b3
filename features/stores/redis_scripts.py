"""Scripts of the Redis store, which the server runs atomically.

Keys, in the order every script takes those it needs (PREFIX is the store's, in braces):

    {PREFIX}:version    "NUMBER TOKEN" of the newest change; absent before the first
    {PREFIX}:values     hash: every key of the store and its value
    {PREFIX}:index      sorted set, all scores 0: the keys that are read in ranges, so in order of their bytes
    {PREFIX}:past:N     hash: what the keys that change N touched held before it ("1" and the value, or "0" for
                        nothing), and under the empty name the version before it; expires
    {PREFIX}:past:N:gone  sorted set: those of them that change N took from the index; expires
    {PREFIX}:lock       token of the writer at work; expires
    {PREFIX}:next       token of the writer that waits longest; expires
"""

from __future__ import annotations

from hashlib import sha1


class Script:
    """A script, and the hash by which a server that has run it knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


_COMMON = """
local function number(version) return tonumber(string.match(version, '^%d+')) or 0 end

local function many(hash, names)
  local found = {}
  for first = 1, #names, 4000 do
    local part = redis.call('HMGET', hash, unpack(names, first, math.min(first + 3999, #names)))
    for i = 1, #part do found[first + i - 1] = part[i] end
  end
  return found
end
"""

_PAST = (
    _COMMON
    + """
-- whether all that was overwritten after version `at` is still known
local function remembered(past, at, now)
  if at == now then return true end
  if redis.call('HGET', past .. number(at) + 1, '') ~= at then return false end
  for n = number(at) + 2, number(now) do
    if redis.call('EXISTS', past .. n) == 0 then return false end
  end
  return true
end

-- the values of `names` as they were at version `at`
local function values_at(values, past, names, at, now)
  local found = many(values, names)
  if at == now then return found end
  for n = number(now), number(at) + 1, -1 do
    local before = many(past .. n, names)
    for i = 1, #names do
      if before[i] then found[i] = string.sub(before[i], 1, 1) == '1' and string.sub(before[i], 2) end
    end
  end
  return found
end
"""
)

READ_PAST = Script(
    _PAST
    + """
local version, values, past = KEYS[1], KEYS[2], KEYS[3]
local at, names = ARGV[1], {}
for i = 2, #ARGV do names[i - 1] = ARGV[i] end
local now = redis.call('GET', version) or ''
if not remembered(past, at, now) then return 0 end
return values_at(values, past, names, at, now)
"""
)
"""KEYS version, values, past. ARGV version to read at, keys...

-> their values at that version; 0 when it is forgotten.
"""

READ_RANGE = Script(
    _PAST
    + """
local version, values, past, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local at, low, high, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = redis.call('GET', version) or ''
if at == '*' then at = now end
if not remembered(past, at, now) then return 0 end
local names = redis.call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, limit)
local last = ''
if #names == limit then
  last = names[limit]
  high = '[' .. last
end
if at ~= now then
  local seen = {}
  for i = 1, #names do seen[names[i]] = true end
  for n = number(at) + 1, number(now) do
    for _, name in ipairs(redis.call('ZRANGEBYLEX', past .. n .. ':gone', low, high)) do
      if not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
end
return {at, last, names, values_at(values, past, names, at, now)}
"""
)
"""KEYS version, values, past, index. ARGV version to read at or *, bounds as ZRANGEBYLEX has them, limit.

-> version read at, last key of the page ("" after the last page), keys in no order, their values (nil for keys that the
version did not have); 0 when the version is forgotten.
"""

ACQUIRE = Script("""
local version, lock, queue = KEYS[1], KEYS[2], KEYS[3]
local token, ttl, wait = ARGV[1], ARGV[2], ARGV[3]
local holder, first = redis.call('GET', lock), redis.call('GET', queue)
if (not holder or holder == token) and (not first or first == token) then
  redis.call('SET', lock, token, 'PX', ttl)
  if first then redis.call('DEL', queue) end
  return redis.call('GET', version) or ''
end
if not first or first == token then redis.call('SET', queue, token, 'PX', wait) end
return 0
""")
"""KEYS version, lock, next. ARGV token, ttl and wait in ms -> the version, once the lock is had; 0 until then."""

RENEW = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
""")
"""KEYS lock. ARGV token, ttl in ms -> 0 when another writer holds the lock."""

RELEASE = Script("""
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 1
""")
"""KEYS lock, next. ARGV token."""

COMMIT = Script(
    _COMMON
    + """
local version, values, past, index, lock = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, base, new, snapshot_ttl, scanned, puts = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local now, n = redis.call('GET', version) or '', number(base) + 1
if now == new or redis.call('HGET', past .. n + 1, '') == new then
  redis.call('SET', version, now)  -- so that this connection, too, can wait for the disk
  return 1
end
local holder = redis.call('GET', lock)
if now ~= base or (holder and holder ~= token) then return 0 end

-- do the write that can fail for lack of memory first; Redis does not reject later writes of a script that has written
local before, gone = past .. n, past .. n .. ':gone'
redis.call('HSET', before, '', base)

local function is_scanned(name) return string.find(scanned, string.sub(name, 1, 1), 1, true) end

for first = 7, 6 + 2 * puts, 2000 do
  local last, names = math.min(first + 1999, 6 + 2 * puts), {}
  for i = first, last, 2 do names[#names + 1] = ARGV[i] end
  local found, kept, fresh = many(values, names), {}, {}
  for i = 1, #names do
    kept[2 * i - 1] = names[i]
    kept[2 * i] = found[i] and '1' .. found[i] or '0'
    if not found[i] and is_scanned(names[i]) then
      fresh[#fresh + 1] = 0
      fresh[#fresh + 1] = names[i]
    end
  end
  redis.call('HSET', before, unpack(kept))
  redis.call('HSET', values, unpack(ARGV, first, last))
  if #fresh > 0 then
    redis.call('ZADD', index, unpack(fresh))
  end
end

for i = 7 + 2 * puts, #ARGV do
  local name = ARGV[i]
  local found = redis.call('HGET', values, name)
  if found then
    redis.call('HSET', before, name, '1' .. found)
    redis.call('HDEL', values, name)
    if is_scanned(name) then
      redis.call('ZREM', index, name)
      redis.call('ZADD', gone, 0, name)
    end
  end
end

redis.call('PEXPIRE', before, snapshot_ttl)
redis.call('PEXPIRE', gone, snapshot_ttl)
redis.call('SET', version, new)
redis.call('DEL', lock)
return 1
"""
)
"""KEYS version, values, past, index, lock. ARGV token, version read at, version to make, ms that the past is kept,
first bytes of the keys that are read in ranges, number of puts, key and value of each put..., keys to delete...

-> 1 when the change is kept, now or by an earlier call of the same; 0 when another writer came between or has the lock,
and nothing is kept.
"""

TAKE_OVER = Script("""
if redis.call('GET', KEYS[6]) == ARGV[1] then return 1 end
for i = 2, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
for i = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RENAME', KEYS[i], KEYS[i + 1])
    redis.call('PERSIST', KEYS[i + 1])
  end
end
return 1
""")
"""KEYS values, index and version of a store, each with its new name. ARGV version of that store -> 0 where one of the
new names is taken.
"""
