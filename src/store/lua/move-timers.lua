#!lua flags=allow-oom
-- move-timers.lua: take timers that are due away and append what they say to the inbox, or change nothing (R3).
--
-- KEYS[1] <ns>:{<shard>}:owner   hash    epoch, inbox_bytes, inbox_last
-- KEYS[2] <ns>:{<shard>}:inbox   stream  field b: the entry
-- KEYS[3] <ns>:{<shard>}:timers  zset    <generation>|<name>|<conversation key> -> due (ms, Redis time)
-- ARGV[1] epoch (int)   ARGV[2] members, a MessagePack array   ARGV[3] entry (opaque bytes, at most 1 MiB)
--
-- Returns {'moved', entry id, or '' if no member was there any more: then nothing was written}
--       | {'fenced', stored epoch}
-- Whether a timer is due was looked at by who names it. A timer that a commit took away meanwhile stands in the entry
-- all the same, if another one was there: its generation is then not the record's, and it is dropped at the head.
-- Fails with CORRUPT, before any write, if the inbox holds a foreign type, or it and the clock are behind the highest
-- id seen.
-- A repeat finds none of the members. It passes the bound of the inbox, and is allowed at maxmemory, as commits are:
-- what is due frees memory only when it is handled (attack B15).
-- Cost O(members * log(timers) + size of the entry).

local owner, inbox, timers = KEYS[1], KEYS[2], KEYS[3]
local epoch, members, entry = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3]
local UNPACK_MAX = 2000 -- values handed to one command; Lua's stack ends at about 8,000
local call = redis.call

local function last_generated_ms(stream)
  if call('EXISTS', stream) == 0 then return 0 end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local function is_any_there()
  for from = 1, #members, UNPACK_MAX do
    local scores = call('ZMSCORE', timers, unpack(members, from, math.min(from + UNPACK_MAX - 1, #members)))
    for i = 1, #scores do
      if scores[i] then return true end
    end
  end
  return false
end

local stored = call('HMGET', owner, 'epoch', 'inbox_bytes', 'inbox_last')
local stored_epoch = tonumber(stored[1] or 0)
if stored_epoch ~= epoch then return {'fenced', stored_epoch} end
if not is_any_there() then return {'moved', ''} end

local time = call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local highest_ms = tonumber(string.match(stored[3] or '0', '^%d+'))
if highest_ms > now_ms and last_generated_ms(inbox) < highest_ms then
  return redis.error_reply('CORRUPT the inbox is behind the highest id seen, and so is the clock')
end

local id = call('XADD', inbox, '*', 'b', entry) -- the first write: it fails whole if the key has a wrong type
for from = 1, #members, UNPACK_MAX do
  call('ZREM', timers, unpack(members, from, math.min(from + UNPACK_MAX - 1, #members)))
end
call('HSET', owner, 'inbox_bytes', string.format('%.0f', tonumber(stored[2] or 0) + #entry), 'inbox_last', id)
return {'moved', id}
