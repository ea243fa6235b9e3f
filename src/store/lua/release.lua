#!lua flags=allow-oom
-- release.lua: give the lease back, or change nothing.
--
-- KEYS[1] <ns>:{<shard>}:owner  hash
-- ARGV[1] epoch (int)   ARGV[2] '1' if everything was drained, else '0'
--
-- Returns {'released'} | {'fenced', stored epoch}. The epoch stays: the next owner raises it.
-- Cost O(1).

local owner = KEYS[1]
local epoch, clean = tonumber(ARGV[1]), ARGV[2]

local stored_epoch = tonumber(redis.call('HGET', owner, 'epoch') or 0)
if stored_epoch ~= epoch then return {'fenced', stored_epoch} end

redis.call('HSET', owner, 'lease_end', '0', 'clean', clean)
return {'released'}
