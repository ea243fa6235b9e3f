#!lua
-- append.lua: add one admitted batch to a shard's inbox, unless the inbox is at its bound. Not fenced: any node may admit.
-- Without allow-oom: at maxmemory Redis refuses it whole, while commits, which free memory, go on (attack B15).
--
-- KEYS[1] <ns>:{<shard>}:owner  hash    inbox_bytes, inbox_last
-- KEYS[2] <ns>:{<shard>}:inbox  stream  field b: the batch
-- ARGV[1] batch (opaque bytes, at most 1 MiB)   ARGV[2] bound of the inbox (bytes, int)
--
-- Returns {'appended', entry id, inbox bytes now} | {'over', inbox bytes}
-- Fails with CORRUPT, before any write, if the new entry's id would be below one that was seen: the stream was lost and the
-- clock is behind, so every message in the entry would be skipped as consumed (attack H10).
-- The first write is the XADD, which fails whole if the key has a wrong type. Not idempotent: a repeat is a second entry,
-- whose messages count as duplicates.
-- Cost O(size of the batch).

local owner, inbox = KEYS[1], KEYS[2]
local batch, inbox_bytes_max = ARGV[1], tonumber(ARGV[2])
local call = redis.call

local function last_generated_ms(stream)
  if call('EXISTS', stream) == 0 then return 0 end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local stored = call('HMGET', owner, 'inbox_bytes', 'inbox_last')
local inbox_bytes = tonumber(stored[1] or 0)
local inbox_bytes_after = inbox_bytes + #batch
if inbox_bytes_after > inbox_bytes_max then return {'over', inbox_bytes} end

local time = call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local highest_ms = tonumber(string.match(stored[2] or '0', '^%d+'))
if highest_ms > now_ms and last_generated_ms(inbox) < highest_ms then
  return redis.error_reply('CORRUPT the inbox is behind the highest id seen, and so is the clock')
end

local id = call('XADD', inbox, '*', 'b', batch)
call('HSET', owner, 'inbox_bytes', string.format('%.0f', inbox_bytes_after), 'inbox_last', id)
return {'appended', id, inbox_bytes_after}
