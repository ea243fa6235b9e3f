#!lua flags=allow-oom
-- open-namespace.lua: write what a namespace is made of, once; later calls only read it.
--
-- KEYS[1] <ns>:meta  hash  shards, schema_version, hash_key
-- ARGV[1] shards (int)   ARGV[2] schema version (int)   ARGV[3] key of the id hash (8 opaque bytes)
--
-- Returns {'created' | 'found', shards, schema version, hash key}; for 'found' the stored values, whatever was asked for.
-- Fails with NOPERM, before any write, if the user's ACL forbids a command that some script runs: it would fail in the middle
-- of a commit, and Lua does not roll back.
-- Fails with CORRUPT, before any write, if the hash holds some of its fields but not all: a new hash key beside old ids
-- would let every repeat of a message through.
-- Cost O(1).

local meta = KEYS[1]
local shards, schema_version, hash_key = ARGV[1], ARGV[2], ARGV[3]

local COMMANDS = {
  {'APPEND', 'v'}, {'DEL'}, {'EXISTS'}, {'HDEL', 'f'}, {'HGET', 'f'}, {'HMGET', 'f'}, {'HSET', 'f', 'v'},
  {'MSET', 'v'}, {'PEXPIRE', '1'}, {'SADD', 'm'}, {'SCARD'}, {'SET', 'v'}, {'SMISMEMBER', 'm'}, {'SREM', 'm'},
  {'STRLEN'}, {'TYPE'}, {'XADD', '*', 'f', 'v'}, {'XDEL', '0-1'}, {'XLEN'}, {'XRANGE', '-', '+'},
  {'XREVRANGE', '+', '-'}, {'XTRIM', 'MAXLEN', '1'}, {'ZADD', '1', 'm'}, {'ZMSCORE', 'm'}, {'ZREM', 'm'},
}
for _, command in ipairs(COMMANDS) do
  if not redis.acl_check_cmd(command[1], meta, unpack(command, 2)) then
    return redis.error_reply('NOPERM the ACL forbids ' .. command[1] .. ', which the scripts need')
  end
end
for _, command in ipairs({{'TIME'}, {'XINFO', 'STREAM', meta}}) do
  if not redis.acl_check_cmd(unpack(command)) then
    return redis.error_reply('NOPERM the ACL forbids ' .. command[1] .. ', which the scripts need')
  end
end

local stored = redis.call('HMGET', meta, 'shards', 'schema_version', 'hash_key')
if stored[1] and stored[2] and stored[3] then
  return {'found', tonumber(stored[1]), tonumber(stored[2]), stored[3]}
end
if stored[1] or stored[2] or stored[3] then return redis.error_reply('CORRUPT the meta hash lacks a field') end

redis.call('HSET', meta, 'shards', shards, 'schema_version', schema_version, 'hash_key', hash_key)
return {'created', tonumber(shards), tonumber(schema_version), hash_key}
