#!lua
-- append.lua: add one admitted batch to a shard's inbox, if there is room for it. Not fenced: any node may admit.
-- Without allow-oom: at maxmemory Redis refuses it whole, while commits, which free memory, go on (attack B15).
--
-- KEYS[1] <ns>:{<shard>}:owner  hash    inbox_bytes, inbox_last
-- KEYS[2] <ns>:{<shard>}:inbox  stream  field b: the batch
-- KEYS[3] <ns>:{<shard>}:full   set     keys of the conversations whose waiting list is at its bound
-- KEYS[4] <ns>:{<shard>}:from   hash    source shard -> last place taken from it; there only with ARGV[4] and [5]
-- ARGV[1] batch (opaque bytes, at most 1 MiB)   ARGV[2] bound of the inbox (bytes, int)
-- ARGV[3] conversations asked about, a MessagePack array of keys (empty = none)
-- ARGV[4] source shard (int)   ARGV[5] place of these sends in its outbox (entry id)
--
-- Returns {'appended', entry id, inbox bytes now, how many conversations are full}
--       | {'taken'}                 this place or a later one was taken from that shard before (attack B9)
--       | {'full', {key, ...}}      those asked about that are full, in their order
--       | {'over', inbox bytes}     the inbox would pass its bound
-- asked in this order, all before the first write.
-- Fails with CORRUPT, before any write, if the new entry's id would be below one that was seen: the stream was lost and the
-- clock is behind, so every message in the entry would be skipped as consumed (attack H10).
-- The first write is the XADD, which fails whole if the key has a wrong type. Without a place it is not idempotent: a
-- repeat is a second entry, whose messages count as duplicates.
-- Cost O(size of the batch + conversations asked about).

local owner, inbox, full, taken_from = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local batch, inbox_bytes_max = ARGV[1], tonumber(ARGV[2])
local source, place = ARGV[4], ARGV[5]
local UNPACK_MAX = 2000 -- values handed to one command; Lua's stack ends at about 8,000
local call = redis.call

local function last_generated_ms(stream)
  if call('EXISTS', stream) == 0 then return 0 end
  local info = call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return tonumber(string.match(info[i + 1], '^%d+')) end
  end
end

local function is_above(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms > b_ms or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
end

local function full_ones(conversations)
  local found = {}
  for from = 1, #conversations, UNPACK_MAX do
    local to = math.min(from + UNPACK_MAX - 1, #conversations)
    local is_full = call('SMISMEMBER', full, unpack(conversations, from, to))
    for i = 1, #is_full do
      if is_full[i] == 1 then found[#found + 1] = conversations[from + i - 1] end
    end
  end
  return found
end

if source then
  local last = call('HGET', taken_from, source)
  if last and not is_above(place, last) then return {'taken'} end
end

local full_count = call('SCARD', full)
if full_count > 0 and #ARGV[3] > 0 then
  local named = full_ones(cmsgpack.unpack(ARGV[3]))
  if #named > 0 then return {'full', named} end
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
if source then call('HSET', taken_from, source, place) end
return {'appended', id, inbox_bytes_after, full_count}
