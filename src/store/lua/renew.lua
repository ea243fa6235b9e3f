#!lua flags=allow-oom
-- renew.lua: lengthen the lease of the owner, or change nothing. Commits renew it too; this is for an idle shard.
--
-- KEYS[1] <ns>:{<shard>}:owner  hash
-- ARGV[1] epoch (int)   ARGV[2] lease length (ms, int > 0), counted from now on Redis' clock
--
-- Returns {'renewed'} | {'fenced', stored epoch}. A lease that ran out is renewed as long as nobody else acquired.
-- Cost O(1).

local owner = KEYS[1]
local epoch, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

local stored_epoch = tonumber(redis.call('HGET', owner, 'epoch') or 0)
if stored_epoch ~= epoch then return {'fenced', stored_epoch} end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', owner, 'lease_end', string.format('%.0f', now_ms + lease_ms), 'clean', '0')
return {'renewed'}
