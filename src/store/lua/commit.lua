#!lua flags=allow-oom
-- commit.lua: apply commit n of an epoch to its shard, or change nothing.
--
-- KEYS[1] <ns>:{<shard>}:owner   hash    node, epoch, n, lease_end, inbox_last, outbox_last, outbox_id, inbox_bytes, clean,
--                                       unclean, dead_count, dead_bytes
-- KEYS[2] <ns>:{<shard>}:inbox   stream  KEYS[3] <ns>:{<shard>}:outbox  stream
-- KEYS[4] <ns>:{<shard>}:acks    hash    KEYS[5] <ns>:{<shard>}:lanes   hash    KEYS[6] <ns>:{<shard>}:dead  stream
-- KEYS[7..] the records           <ns>:{<shard>}:c:<c>           string, one for each item of ARGV[4]
--   then the dedupe ids           <ns>:{<shard>}:ids:<c>         string, one for each 3 items of ARGV[5]
--   then the transcripts          <ns>:{<shard>}:transcript:<c>  stream, one for each count in ARGV[12]
--   and only with ARGV[17]        <ns>:{<shard>}:open  hash    <ns>:{<shard>}:full  set    <ns>:{<shard>}:timers  zset
--   then the waiting lists        <ns>:{<shard>}:in:<c> and :out:<c>  stream, one for each list in ARGV[17]
--
-- ARGV[1] epoch (int)   ARGV[2] n (int)   ARGV[3] lease length (ms, int > 0)
-- Lists are MessagePack arrays, cut here by one call each; what is in them is opaque and never looked at.
-- ARGV[4]  records                  bytes each
-- ARGV[5]  dedupe ids               bytes, 0 = keep | 1 = append | 2 = rewrite, life (ms, 0 = leave as it is): for each key
-- ARGV[6]  outbox entry (bytes, empty = none)
-- ARGV[7]  inbox entries done       entry id each            ARGV[8] their size together (bytes, int)
-- ARGV[9]  outbox entries done      entry id each
-- ARGV[10] acknowledgements         entry id, bitmap: for each partly done entry; replaces what was stored
-- ARGV[11] lanes                    conversation key, state or false = remove: for each
-- ARGV[12] transcript lines         count, then so many lines (bytes each): for each key
-- ARGV[13] dead letters             bytes each
-- ARGV[14] transcript: lines kept (int)   ARGV[15] transcript: bytes kept (int)   ARGV[16] transcript: life (ms, int > 0)
-- ARGV[17] to [23] are there together or, as in most commits, not at all: something has to wait, or did.
-- A waiting list is that of a conversation's messages (in:<c>) or that of a lane's replies (out:<c>): one rule serves both.
-- ARGV[17] waiting lists            how many join, id (int) and message or reply (bytes) of each; how many leave, their ids: for
--                                   each list, of which none comes twice. Ids rise and were never given out by the list; what
--                                   leaves may have joined here; the key goes with the last entry
-- ARGV[18] index of the unfinished  conversation key, entry (bytes) or false = remove: for each
-- ARGV[19] timers                   member, due (ms, Redis time) or false = remove: for each
-- ARGV[20] conversations at their bound   key, 1 = joins | 0 = leaves: for each
-- ARGV[21] dead letters done        entry id each; their count and bytes leave those of the owner
-- ARGV[22] inbox entry to add (bytes, empty = none): passes the bound of the inbox
-- ARGV[23] '1' if the heads pending at the acquire are through, else '0'
--
-- Returns {'applied', n, id of the outbox entry or ''}   now, or by an earlier try of the same bytes
--       | {'fenced', stored epoch}                       somebody acquired the shard since
--       | {'rewound', stored n}                          stored epoch or n is below what had been confirmed
-- Fails with CORRUPT if n was applied long ago, a key holds a foreign type, a waiting list gave out an id that would
-- join it, or the inbox or outbox to add to and the clock are behind the highest id seen (attack H10). Every check runs
-- before the first write and no write after it can fail, since Lua does not roll back (open-namespace.lua has checked
-- that the user may run all commands). Sending the same bytes again is safe.
-- A transcript is cut by bytes only when a line of this commit is larger than its share (bytes kept / lines kept); so it
-- holds at most twice the bytes to keep.
-- Cost O(keys + bytes), bounded by the committer (4,000 keys, 4 MiB): about 2 us for a record with ids. What one
-- conversation or lane moves to its list at once, 1 MiB and one message or reply more, may come on top. Nothing here depends
-- on these bounds; a larger commit takes as much longer.

local owner, inbox, outbox, acks, lanes, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local SHARED_KEYS = 6
local ASIDE_KEYS = 3 -- with ARGV[17]
local UNPACK_MAX = 2000 -- values handed to one command, even for pairs; Lua's stack ends at about 8,000
local KEEP, APPEND, REWRITE = 0, 1, 2
local call = redis.call

local epoch, n, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- Fence and replay ---------------------------------------------------------------------------------------------------

local stored = call('HMGET', owner, 'epoch', 'n', 'outbox_id', 'inbox_bytes', 'outbox_last', 'dead_count', 'dead_bytes')
local stored_epoch, stored_n = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
if stored_epoch > epoch then return {'fenced', stored_epoch} end
if stored_epoch < epoch then return {'rewound', stored_n} end
if stored_n == n then return {'applied', n, stored[3] or ''} end
if stored_n < n - 1 then return {'rewound', stored_n} end
if stored_n > n then return redis.error_reply('CORRUPT commit ' .. ARGV[2] .. ' came after ' .. stored[2]) end

-- Arguments ----------------------------------------------------------------------------------------------------------

local records = cmsgpack.unpack(ARGV[4])
local ids = cmsgpack.unpack(ARGV[5])
local outbox_entry = ARGV[6]
local inbox_done, inbox_done_bytes = cmsgpack.unpack(ARGV[7]), tonumber(ARGV[8])
local outbox_done = cmsgpack.unpack(ARGV[9])
local ack_list = cmsgpack.unpack(ARGV[10])
local lane_list = cmsgpack.unpack(ARGV[11])
local transcript_lines = cmsgpack.unpack(ARGV[12])
local dead_letters = cmsgpack.unpack(ARGV[13])
local lines_max, bytes_max, transcript_ttl_ms = tonumber(ARGV[14]), tonumber(ARGV[15]), ARGV[16]

local record_count, ids_count = #records, #ids / 3
local first_ids = SHARED_KEYS + record_count
local first_transcript = first_ids + ids_count

local has_aside = #ARGV >= 17
local waiting_lists, open_list, timer_list, full_list, dead_done = {}, {}, {}, {}, {}
local inbox_entry, heads_are_through = '', false
if has_aside then
  waiting_lists, open_list = cmsgpack.unpack(ARGV[17]), cmsgpack.unpack(ARGV[18])
  timer_list, full_list = cmsgpack.unpack(ARGV[19]), cmsgpack.unpack(ARGV[20])
  dead_done, inbox_entry, heads_are_through = cmsgpack.unpack(ARGV[21]), ARGV[22], ARGV[23] == '1'
end

-- Checks -------------------------------------------------------------------------------------------------------------

local function holds(key, kind)
  local found = call('TYPE', key).ok
  return found == kind or found == 'none'
end

local function last_generated_ms(stream)
  if call('EXISTS', stream) == 0 then return 0 end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local foreign = nil
if (#inbox_done > 0 or #inbox_entry > 0) and not holds(inbox, 'stream') then foreign = 'inbox' end
if (#outbox_done > 0 or #outbox_entry > 0) and not holds(outbox, 'stream') then foreign = 'outbox' end
if (#outbox_done > 0 or #ack_list > 0) and not holds(acks, 'hash') then foreign = 'acks' end
if #lane_list > 0 and not holds(lanes, 'hash') then foreign = 'lanes' end
if (#dead_letters > 0 or #dead_done > 0) and not holds(dead, 'stream') then foreign = 'dead' end
for i = 1, ids_count do
  -- STRLEN is the cheapest command that refuses every other type; the refusal ends the script here, before any write.
  if ids[3 * i - 1] == APPEND then call('STRLEN', KEYS[first_ids + i]) end
end
local transcript_count, at = 0, 1
while at <= #transcript_lines do
  transcript_count = transcript_count + 1
  if not holds(KEYS[first_transcript + transcript_count], 'stream') then foreign = 'transcript' end
  at = at + 1 + transcript_lines[at]
end

-- Where in ARGV[17] the list at `at` ends its joining, and where the next list begins.
local function ends_of_list(at)
  local leaving = at + 1 + 2 * waiting_lists[at]
  return leaving, leaving + 1 + waiting_lists[leaving]
end

local first_aside = first_transcript + transcript_count
local first_list = first_aside + (has_aside and ASIDE_KEYS or 0)
local open, full, timers = KEYS[first_aside + 1], KEYS[first_aside + 2], KEYS[first_aside + 3]
if #open_list > 0 and not holds(open, 'hash') then foreign = 'open' end
if #full_list > 0 and not holds(full, 'set') then foreign = 'full' end
if #timer_list > 0 and not holds(timers, 'zset') then foreign = 'timers' end
local list_count, has_used_id = 0, false
at = 1
while at <= #waiting_lists do
  list_count = list_count + 1
  local list, leaving, next_list = KEYS[first_list + list_count], ends_of_list(at)
  if not holds(list, 'stream') then
    foreign = 'waiting list'
  elseif waiting_lists[at] > 0 then
    local last = last_generated_ms(list)
    for i = at + 1, leaving - 1, 2 do
      if waiting_lists[i] <= last then has_used_id = true end
      last = waiting_lists[i]
    end
  end
  at = next_list
end

local time = call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local highest_ms = tonumber(string.match(stored[5] or '0', '^%d+'))
if foreign then return redis.error_reply('CORRUPT the ' .. foreign .. ' key holds a foreign type') end
if #outbox_entry > 0 and highest_ms > now_ms and last_generated_ms(outbox) < highest_ms then
  return redis.error_reply('CORRUPT the outbox is behind the highest id seen, and so is the clock')
end
local inbox_highest_ms = 0
if #inbox_entry > 0 then inbox_highest_ms = tonumber(string.match(call('HGET', owner, 'inbox_last') or '0', '^%d+')) end
if inbox_highest_ms > now_ms and last_generated_ms(inbox) < inbox_highest_ms then
  return redis.error_reply('CORRUPT the inbox is behind the highest id seen, and so is the clock')
end
if has_used_id then return redis.error_reply('CORRUPT a waiting list gave out an id before that joins it now') end
if #KEYS ~= first_list + list_count then
  return redis.error_reply('CORRUPT the number of keys does not match the lists')
end

-- Writes -------------------------------------------------------------------------------------------------------------

local function integer(value)
  return string.format('%.0f', value)
end

local function call_in_chunks(list, command, ...)
  local count = #list
  local first = {...}
  for from = 1, count, UNPACK_MAX do
    local to = math.min(from + UNPACK_MAX - 1, count)
    if #first == 0 then
      call(command, unpack(list, from, to))
    else
      call(command, first[1], unpack(list, from, to))
    end
  end
end

local pairs_to_set = {}
for i = 1, record_count do
  pairs_to_set[2 * i - 1] = KEYS[SHARED_KEYS + i]
  pairs_to_set[2 * i] = records[i]
end
call_in_chunks(pairs_to_set, 'MSET')

for i = 1, ids_count do
  local key, change, ttl_ms = KEYS[first_ids + i], ids[3 * i - 1], ids[3 * i]
  if change == APPEND then
    call('APPEND', key, ids[3 * i - 2])
  elseif change == REWRITE then
    call('SET', key, ids[3 * i - 2], 'KEEPTTL')
  end
  if ttl_ms > 0 then call('PEXPIRE', key, ttl_ms) end
end

local owner_fields = {'n', ARGV[2], 'clean', '0'}
local function set_owner(field, value)
  owner_fields[#owner_fields + 1] = field
  owner_fields[#owner_fields + 1] = value
end

local outbox_id = ''
if #outbox_entry > 0 then
  outbox_id = call('XADD', outbox, '*', 'b', outbox_entry)
  set_owner('outbox_last', outbox_id)
end
set_owner('outbox_id', outbox_id)

local inbox_bytes = tonumber(stored[4] or 0)
if #inbox_done > 0 then
  call_in_chunks(inbox_done, 'XDEL', inbox)
  inbox_bytes = math.max(0, inbox_bytes - inbox_done_bytes)
end
if #inbox_entry > 0 then
  set_owner('inbox_last', call('XADD', inbox, '*', 'b', inbox_entry))
  inbox_bytes = inbox_bytes + #inbox_entry
end
if #inbox_done > 0 or #inbox_entry > 0 then set_owner('inbox_bytes', integer(inbox_bytes)) end

call_in_chunks(ack_list, 'HSET', acks)
call_in_chunks(outbox_done, 'XDEL', outbox)
call_in_chunks(outbox_done, 'HDEL', acks)

for i = 1, #lane_list, 2 do
  if lane_list[i + 1] then
    call('HSET', lanes, lane_list[i], lane_list[i + 1])
  else
    call('HDEL', lanes, lane_list[i])
  end
end

local dead_count, dead_bytes = tonumber(stored[6] or 0) + #dead_letters, tonumber(stored[7] or 0)
for i = 1, #dead_letters do
  call('XADD', dead, '*', 'b', dead_letters[i])
  dead_bytes = dead_bytes + #dead_letters[i]
end
for i = 1, #dead_done do
  local letter = call('XRANGE', dead, dead_done[i], dead_done[i])[1]
  if letter then
    call('XDEL', dead, dead_done[i])
    dead_count, dead_bytes = dead_count - 1, dead_bytes - #letter[2][2]
  end
end
if #dead_letters > 0 or #dead_done > 0 then
  set_owner('dead_count', integer(math.max(0, dead_count)))
  set_owner('dead_bytes', integer(math.max(0, dead_bytes)))
end

local function cut_to_bytes(transcript)
  local sum, oldest_kept = 0, nil
  local newest_first = call('XREVRANGE', transcript, '+', '-')
  for i = 1, #newest_first do
    sum = sum + #newest_first[i][2][2]
    if sum > bytes_max and oldest_kept then return call('XTRIM', transcript, 'MINID', '=', oldest_kept) end
    oldest_kept = newest_first[i][1]
  end
end

at = 1
for i = 1, transcript_count do
  local transcript, has_large_line = KEYS[first_transcript + i], false
  for line = at + 1, at + transcript_lines[at] do
    call('XADD', transcript, 'MAXLEN', '=', lines_max, '*', 'b', transcript_lines[line])
    has_large_line = has_large_line or #transcript_lines[line] > bytes_max / lines_max
  end
  if has_large_line then cut_to_bytes(transcript) end
  call('PEXPIRE', transcript, transcript_ttl_ms)
  at = at + 1 + transcript_lines[at]
end

at = 1
for i = 1, list_count do
  local list, leaving, next_list = KEYS[first_list + i], ends_of_list(at)
  for joining = at + 1, leaving - 1, 2 do
    call('XADD', list, integer(waiting_lists[joining]) .. '-0', 'b', waiting_lists[joining + 1])
  end
  local ids = {}
  for id = leaving + 1, next_list - 1 do ids[#ids + 1] = integer(waiting_lists[id]) .. '-0' end
  call_in_chunks(ids, 'XDEL', list)
  if #ids > 0 and call('XLEN', list) == 0 then call('DEL', list) end
  at = next_list
end

for i = 1, #open_list, 2 do
  if open_list[i + 1] then
    call('HSET', open, open_list[i], open_list[i + 1])
  else
    call('HDEL', open, open_list[i])
  end
end
for i = 1, #timer_list, 2 do
  if timer_list[i + 1] then
    call('ZADD', timers, integer(timer_list[i + 1]), timer_list[i])
  else
    call('ZREM', timers, timer_list[i])
  end
end
for i = 1, #full_list, 2 do call(full_list[i + 1] == 1 and 'SADD' or 'SREM', full, full_list[i]) end
if heads_are_through then set_owner('unclean', '0') end

set_owner('lease_end', integer(now_ms + lease_ms))
call('HSET', owner, unpack(owner_fields))
return {'applied', n, outbox_id}
