#!lua flags=allow-oom
-- acquire.lua: make a node the owner of a shard under a new epoch, or change nothing.
--
-- KEYS[1] <ns>:{<shard>}:owner   hash    node, incarnation, epoch, n, lease_end, inbox_last, outbox_last, outbox_id,
--                                       inbox_bytes, clean, unclean
-- KEYS[2] <ns>:{<shard>}:inbox   stream
-- KEYS[3] <ns>:{<shard>}:outbox  stream
-- ARGV[1] node id (text)   ARGV[2] observed epoch (int, 0 if never owned)   ARGV[3] lease length (ms, int > 0)
-- ARGV[4] incarnation: name of the process (text, empty = one that nobody else has)
--
-- Returns {'acquired', epoch, was clean (0 or 1), inbox bytes, unclean ends, highest id that the inbox gave out}
--       | {'held', node, lease left (ms)}                   another node's lease lives
--       | {'changed', epoch}                                the epoch is not the observed one
--       | {'rewound', 'inbox' | 'outbox', last id, highest id seen}   Redis lost writes
-- Every check runs before the first write. A shard that nobody owned yet counts as clean.
-- Unclean ends count the processes that ended as owner without a release that says drained; a commit sets them to 0. An
-- owner that acquires again in the same process has not ended, and a drained one leaves the count as it is.
-- Allowed at maxmemory, as are the other scripts of ownership: a shard that nobody can own frees nothing (attack B15).
-- Cost O(bytes in the inbox), which has a bound (64 MiB): its bytes are counted anew, in pages.

local owner, inbox, outbox = KEYS[1], KEYS[2], KEYS[3]
local node, observed_epoch, lease_ms, incarnation = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local PAGE = 16 -- entries; one is at most 1 MiB
local call = redis.call

local function integer(value)
  return string.format('%.0f', value)
end

local function redis_time_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function is_below(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_seq) < tonumber(b_seq))
end

-- The highest id that the stream ever gave out; XDEL and restarts keep it. A stream that is gone gave out none.
local function last_generated_id(stream)
  if call('EXISTS', stream) == 0 then return '0-0' end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

local function stream_bytes(stream)
  local sum, from = 0, '-'
  while true do
    local page = call('XRANGE', stream, from, '+', 'COUNT', PAGE)
    for i = 1, #page do sum = sum + #page[i][2][2] end
    if #page < PAGE then return sum end
    from = '(' .. page[#page][1]
  end
end

local stored = call('HMGET', owner, 'node', 'epoch', 'lease_end', 'inbox_last', 'outbox_last', 'clean', 'incarnation',
  'unclean')
local stored_node, epoch = stored[1], tonumber(stored[2] or 0)
local lease_end, now_ms = tonumber(stored[3] or 0), redis_time_ms()

if stored_node and stored_node ~= node and lease_end > now_ms then
  return {'held', stored_node, lease_end - now_ms}
end
if epoch ~= observed_epoch then return {'changed', epoch} end

local highest_seen = {inbox = stored[4] or '0-0', outbox = stored[5] or '0-0'}
local last_id = {inbox = last_generated_id(inbox), outbox = last_generated_id(outbox)}
for _, name in ipairs({'inbox', 'outbox'}) do
  if is_below(last_id[name], highest_seen[name]) then
    return {'rewound', name, last_id[name], highest_seen[name]}
  end
end
local inbox_bytes = stream_bytes(inbox)
local was_clean = (not stored[2] or stored[6] == '1') and 1 or 0
local is_same_process = incarnation ~= '' and stored[7] == incarnation
local unclean_ends = tonumber(stored[8] or 0)
if was_clean == 0 and not is_same_process then unclean_ends = unclean_ends + 1 end

call('HSET', owner, 'node', node, 'epoch', integer(epoch + 1), 'n', '0', 'lease_end', integer(now_ms + lease_ms),
  'inbox_last', last_id.inbox, 'outbox_last', last_id.outbox, 'outbox_id', '', 'inbox_bytes', integer(inbox_bytes),
  'clean', '0', 'incarnation', incarnation, 'unclean', integer(unclean_ends))
return {'acquired', epoch + 1, was_clean, inbox_bytes, unclean_ends, last_id.inbox}
