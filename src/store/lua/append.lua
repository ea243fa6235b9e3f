#!lua
-- append.lua: add one admitted batch to a shard's inbox, unless the inbox is at its bound. Not fenced: any node may admit.
-- Without allow-oom: at maxmemory Redis refuses it whole, while commits, which free memory, go on (attack B15).
--
-- KEYS[1] <ns>:{<shard>}:owner  hash    inbox_bytes, inbox_last
-- KEYS[2] <ns>:{<shard>}:inbox  stream  field b: the batch
-- ARGV[1] batch (opaque bytes, at most 1 MiB)   ARGV[2] bound of the inbox (bytes, int)
--
-- Returns {'appended', entry id, inbox bytes now} | {'over', inbox bytes}
-- The first write is the XADD, which fails whole if the key has a wrong type. Not idempotent: a repeat is a second entry,
-- whose messages count as duplicates.
-- Cost O(size of the batch).

local owner, inbox = KEYS[1], KEYS[2]
local batch, inbox_bytes_max = ARGV[1], tonumber(ARGV[2])

local inbox_bytes = tonumber(redis.call('HGET', owner, 'inbox_bytes') or 0)
local inbox_bytes_after = inbox_bytes + #batch
if inbox_bytes_after > inbox_bytes_max then return {'over', inbox_bytes} end

local id = redis.call('XADD', inbox, '*', 'b', batch)
redis.call('HSET', owner, 'inbox_bytes', string.format('%.0f', inbox_bytes_after), 'inbox_last', id)
return {'appended', id, inbox_bytes_after}
