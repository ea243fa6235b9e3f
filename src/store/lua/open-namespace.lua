#!lua
-- open-namespace.lua: write what a namespace is made of, once; later calls only read it.
--
-- KEYS[1] <ns>:meta  hash  shards, schema_version, hash_key
-- ARGV[1] shards (int)   ARGV[2] schema version (int)   ARGV[3] key of the id hash (8 opaque bytes)
--
-- Returns {'created' | 'found', shards, schema version, hash key}; for 'found' the stored values, whatever was asked for.
-- Fails with CORRUPT, before any write, if the hash holds some of its fields but not all: a new hash key beside old ids
-- would let every repeat of a message through.
-- Cost O(1).

local meta = KEYS[1]
local shards, schema_version, hash_key = ARGV[1], ARGV[2], ARGV[3]

local stored = redis.call('HMGET', meta, 'shards', 'schema_version', 'hash_key')
if stored[1] and stored[2] and stored[3] then
  return {'found', tonumber(stored[1]), tonumber(stored[2]), stored[3]}
end
if stored[1] or stored[2] or stored[3] then return redis.error_reply('CORRUPT the meta hash lacks a field') end

redis.call('HSET', meta, 'shards', shards, 'schema_version', schema_version, 'hash_key', hash_key)
return {'created', tonumber(shards), tonumber(schema_version), hash_key}
