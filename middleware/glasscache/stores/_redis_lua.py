"""What the server decides in one step: lookups, leases, writes, wake-ups. Works on Redis 6.2 and later, and on Valkey.

Every script has the four keys of one entry, which share a slot: entry, lease, queue, refusal. An entry is stored as
`{window} {stale-while-revalidate} {number}\\n` and its envelope, windows in milliseconds; a lease as
`token|traceparent|machine|acquired|number`, acquired in microseconds by the server's clock, which is the only one here.
"""

from __future__ import annotations

from glasscache._events import MOST_WAITERS_LINKED
from glasscache.stores._redis_scripts import Script

_QUEUE_LIVES = 600_000
"""Milliseconds: who queues has been woken, or has given up, long before."""

ON = """local function on(key, ...)  -- what is of another type was not put there by us, and must not stay in the way
  local got = redis.pcall(...)
  if type(got) == 'table' and got.err then
    if string.find(got.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', key)
    end
    return redis.call(...)
  end
  return got
end
"""

_COMMON = f"""
local entry, lease, queue, refusal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function micros()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000000 + time[2])
end
{ON}local function holds(token)
  local kept = on(lease, 'GET', lease)
  return kept and string.sub(kept, 1, #token + 1) == token .. '|'
end
local function wake(channel, key)
  local waiting, traces = on(queue, 'HGETALL', queue), {{}}
  redis.call('DEL', queue)
  for i = 1, #waiting, 2 do
    redis.call('PUBLISH', channel .. waiting[i], key)
    local trace = string.match(waiting[i + 1], '^%d+|(.+)$')
    if trace and #traces < {MOST_WAITERS_LINKED} then
      traces[#traces + 1] = trace
    end
  end
  return traces
end
"""

GET = Script(_COMMON + "return {on(entry, 'GET', entry), redis.call('PTTL', entry)}")

LOOK = Script(
    _COMMON
    + f"""
local refreshes, fresh_for, waits, number, newer_than, reclaims, machine, trace, lasts = unpack(ARGV)
fresh_for, newer_than = tonumber(fresh_for), tonumber(newer_than)
local value, left = on(entry, 'GET', entry), -1
if value then
  local window, swr, of = string.match(value, '^(%d+) (%d+) (%d+)\\n')
  left = redis.call('PTTL', entry)
  if window == nil or left < 0 then
    return {{'entry', value, 0}}
  elseif tonumber(of) < newer_than then
    value, left = false, -1
  else
    local fresh = left - tonumber(window)
    if (refreshes == '1' and fresh > fresh_for) or (refreshes == '0' and fresh + tonumber(swr) > 0) then
      return {{'entry', value, left}}
    end
  end
end
if redis.call('EXISTS', refusal) == 1 then
  return {{'refused', value, left}}
end
local now, token = micros(), nil
local kept = on(lease, 'GET', lease)
if kept then
  local old, by, of = string.match(kept, '^(%d+)|[^|]*|([^|]*)|%d+|(%d+)$')
  local remains = redis.call('PTTL', lease)
  if old == nil or remains < 0 then
    token = now  -- nobody's: no machine of ours writes such a thing
  elseif tonumber(of) >= newer_than and not (reclaims == '1' and by == machine) then
    local place = 0
    if waits == '1' then
      local known = on(queue, 'HGET', queue, machine)
      if known then
        place = tonumber(string.match(known, '^%d+'))
      else
        place = redis.call('HLEN', queue) + 1
        redis.call('HSET', queue, machine, place .. '|' .. trace)
      end
      redis.call('PEXPIRE', queue, {_QUEUE_LIVES})  -- whenever: a server that takes no writes refuses who waits
    end
    return {{'held', value, left, kept, remains, place, now}}
  elseif tonumber(old) >= tonumber(now) then
    token = string.format('%.0f', tonumber(old) + 1)
  end
end
token = token or now
redis.call('SET', lease, table.concat({{token, trace, machine, now, number}}, '|'), 'PX', lasts)
return {{'granted', value, left, token}}
"""
)

RENEW = Script(_COMMON + "return holds(ARGV[1]) and redis.call('PEXPIRE', lease, ARGV[2]) or 0")

COMMIT = Script(
    _COMMON
    + """
local token, channel, key, value, lives = unpack(ARGV)
if not holds(token) then
  return {0}
end
local kept = redis.pcall('SET', entry, value, 'PX', lives)
redis.call('DEL', lease, refusal)
local traces = wake(channel, key)
if type(kept) == 'table' and kept.err then
  return {-1, kept.err}
end
return {1, unpack(traces)}
"""
)

RELEASE = Script(
    _COMMON
    + """
local token, channel, key, refuse_for = unpack(ARGV)
if not holds(token) then
  return {}
end
redis.call('DEL', lease)
if tonumber(refuse_for) > 0 then
  redis.pcall('SET', refusal, '1', 'PX', refuse_for)
end
return wake(channel, key)
"""
)

SET = Script(_COMMON + "redis.call('SET', entry, ARGV[1], 'PX', ARGV[2]) redis.call('DEL', refusal) return 1")

DELETE = Script(
    _COMMON
    + """
redis.call('DEL', entry, lease, refusal)
wake(ARGV[1], ARGV[2])
return 1
"""
)

REJECT = Script(
    """
local value = redis.call('GET', KEYS[1])
if value and redis.sha1hex(value) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""
)
