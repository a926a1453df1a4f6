-- One job, one atomic step: compare the version and nothing else, then write. Knows no status.
--
-- KEYS: job gone feed jobs live ends records refs group
-- ARGV: 1 expected version ('' = no such job)   2 new version   3 snapshot   4 memory   5 heard_at
--       6 flags: n new, e ended, d deleted, g join the group, r renew the owner's keys, t touch only
--       7 now (ms)   8 expires at (ms)   9 index member   10 group   11 key prefix   12 publish command
--       13 channel   14 feed length   15 oldest feed id   16 TTL of the owner's keys (ms)
--       17 TTL of the tombstone after expiry (ms)   18 word of a trailing progress, or ''
--       19 number of records, these; number of references, these; number of groups of records that
--          are not the job's own, these ('' = no group); number of entries, 5 each: event, version,
--          owed head ('' = not owed), owed body, feed body (a body of '=' stands for the snapshot,
--          '' for none); number of owed versions to drop, these; number of owed versions that take
--          the old snapshot as their body, these
-- Answers 0 if the version differs, else the cursors of the entries.
local job, gone, feed = KEYS[1], KEYS[2], KEYS[3]
local flags, id_of_job = ARGV[6], string.sub(ARGV[9], 15)
local function has(flag) return string.find(flags, flag, 1, true) end

local version = redis.call('HGET', job, 'version')
if version ~= (ARGV[1] ~= '' and ARGV[1]) then return 0 end
if not version and redis.call('EXISTS', gone) == 1 then return 0 end
if has('t') then
  redis.call('HSET', job, 'memory', ARGV[4], 'heard_at', ARGV[5])
  return {}
end

local at = 18
local function take()
  at = at + 1
  return ARGV[at]
end
local snapshot, published, cursors = ARGV[3], {}, {}
-- First, so that a key that is not ours stops the script before it has written anything.
for _ = 1, tonumber(take()) do redis.call('RPUSH', KEYS[7], take()) end
for _ = 1, tonumber(take()) do redis.call('SADD', KEYS[8], take()) end
local odd, odd_groups = ARGV[11] .. 'groups:' .. id_of_job, {}
for _ = 1, tonumber(take()) do
  odd_groups[#odd_groups + 1] = take()
  redis.call('SADD', odd, odd_groups[#odd_groups])
end
local newest = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'
local owed = {}
for _ = 1, tonumber(take()) do
  local event, number, head, kept, body = take(), take(), take(), take(), take()
  if body == '=' then body = snapshot end
  local fields = {'prev', last, 'event', event, 'job', id_of_job, 'version', number}
  if body ~= '' then
    fields[9], fields[10] = 'body', body
  end
  local id = redis.call('XADD', feed, 'MAXLEN', '~', ARGV[14], '*', unpack(fields))
  published[#published + 1] = table.concat({id, last, event, number, id_of_job}, ' ') .. '\n' .. body
  cursors[#cursors + 1] = id
  if head ~= '' then
    owed[#owed + 1] = 'owe:' .. number
    owed[#owed + 1] = id .. ' ' .. head .. '\n' .. kept
  end
  last = id
end

if has('d') then
  redis.call('DEL', job, KEYS[7], KEYS[8])
  for _, index in ipairs({KEYS[4], KEYS[5], KEYS[9]}) do redis.call('ZREM', index, ARGV[9]) end
  redis.call('ZREM', KEYS[6], ARGV[9] .. ' ' .. ARGV[10])
  for _, group in ipairs(redis.call('SMEMBERS', odd)) do
    redis.call('ZREM', ARGV[11] .. 'rgroup:' .. group, ARGV[9])
    redis.call('ZREM', KEYS[6], ARGV[9] .. ' ' .. group)
  end
  redis.call('DEL', odd)
  redis.call('SET', gone, 'deleted', 'PX', ARGV[17])
else
  local drop = {}
  for _ = 1, tonumber(take()) do drop[#drop + 1] = 'owe:' .. take() end
  if #drop > 0 then redis.call('HDEL', job, unpack(drop)) end
  local moves = tonumber(take())
  if moves > 0 then
    local before = redis.call('HGET', job, 'snapshot')
    for _ = 1, moves do
      local field = 'owe:' .. take()
      local head = redis.call('HGET', job, field)
      if head then redis.call('HSET', job, field, head .. before) end
    end
  end
  redis.call('HSET', job, 'version', ARGV[2], 'snapshot', snapshot, 'memory', ARGV[4],
    'heard_at', ARGV[5], unpack(owed))
  -- A key that may have been made just now must not be left without a TTL.
  if has('n') then
    redis.call('ZADD', KEYS[4], 0, ARGV[9])
    if not has('e') then redis.call('ZADD', KEYS[5], 0, ARGV[9]) end
    for _, key in ipairs({feed, KEYS[4], KEYS[5]}) do redis.call('PEXPIRE', key, ARGV[16]) end
  end
  if has('g') then redis.call('ZADD', KEYS[9], 0, ARGV[9]) end
  if has('e') then
    redis.call('ZREM', KEYS[5], ARGV[9])
    redis.call('ZADD', KEYS[6], ARGV[8], ARGV[9] .. ' ' .. ARGV[10])
    redis.call('PEXPIRE', KEYS[6], ARGV[16])
    redis.call('SET', gone, 'expired', 'PXAT', ARGV[8] + ARGV[17])
  end
  -- All of them at the end, so that each is taken out again, and now and then, so that they live on.
  if has('e') or has('r') then odd_groups = redis.call('SMEMBERS', odd) end
  for _, group in ipairs(odd_groups) do
    if group ~= '' then
      redis.call('ZADD', ARGV[11] .. 'rgroup:' .. group, 0, ARGV[9])
      redis.call('PEXPIRE', ARGV[11] .. 'rgroup:' .. group, ARGV[16])
      if ARGV[8] ~= '0' then redis.call('ZADD', KEYS[6], ARGV[8], ARGV[9] .. ' ' .. group) end
    end
    if ARGV[8] ~= '0' then redis.call('PEXPIREAT', odd, ARGV[8]) end
  end
  if ARGV[8] ~= '0' then
    for _, key in ipairs({job, KEYS[7], KEYS[8]}) do redis.call('PEXPIREAT', key, ARGV[8]) end
  end
end

-- More than this commit can have put in: else they would pile up.
local most = 20 + 2 * #odd_groups
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', ARGV[7], 'LIMIT', 0, most)) do
  local space = string.find(expired, ' ', 1, true)
  local member, group = string.sub(expired, 1, space - 1), string.sub(expired, space + 1)
  redis.call('ZREM', KEYS[6], expired)
  redis.call('ZREM', KEYS[4], member)
  redis.call('ZREM', ARGV[11] .. 'group:' .. group, member)
  redis.call('ZREM', ARGV[11] .. 'rgroup:' .. group, member)
end
if has('r') then
  -- The last entry always stays, whatever the clocks say: resuming compares with it.
  local oldest = math.min(ARGV[15], string.match(last, '^%d+'))
  redis.call('XTRIM', feed, 'MINID', '~', string.format('%.0f', oldest))
  for _, key in ipairs({feed, KEYS[4], KEYS[5], KEYS[6]}) do redis.call('PEXPIRE', key, ARGV[16]) end
end
if ARGV[10] ~= '' then redis.call('PEXPIRE', KEYS[9], ARGV[16]) end

if ARGV[18] ~= '' then
  published[#published + 1] = table.concat({last, '-', ARGV[18], ARGV[2], id_of_job}, ' ') .. '\n' .. snapshot
end
for _, message in ipairs(published) do redis.call(ARGV[12], ARGV[13], message) end
return cursors
