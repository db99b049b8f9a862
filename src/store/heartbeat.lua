-- Records the heartbeat of a replica, and answers with the epoch and the replicas.
-- KEYS: epoch, replicas.
-- ARGV: the own id, the epoch that the replica knows or '', the id of a new epoch, the µs of each limit that it may
-- have spent without the store, '1' if the store may have lost grants, the age in ms up to which a replica is alive,
-- the most members in the answer, the former ids of its state directory, and the members that it remembers, each with
-- id and time.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ms = math.floor(now / 1000)
local function text(number) return string.format('%.0f', number) end

local id = redis.call('HGET', KEYS[1], 'id')
local is_new = not id
local is_other = is_new or (ARGV[2] ~= '' and ARGV[2] ~= id)
if is_new then
  id = ARGV[3]
  redis.call('HSET', KEYS[1], 'id', id)
end
if is_other then
  for i = 9, #ARGV, 2 do
    redis.call('ZADD', KEYS[2], 'NX', ARGV[i + 1], ARGV[i])
  end
end
for former in string.gmatch(ARGV[8], '[^ ]+') do
  redis.call('ZREM', KEYS[2], former)
end
redis.call('ZADD', KEYS[2], text(ms), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(ms - 600000))
local alive = redis.call('ZCOUNT', KEYS[2], text(ms - ARGV[6]), '+inf')
-- The shares of replicas without a heartbeat are reserved, up to the maximum number of replicas. The oldest are
-- removed.
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - math.max(alive, tonumber(ARGV[7])))
local known = redis.call('ZCARD', KEYS[2])
-- The debt of each bucket for replicas that were disconnected: that of an unused bucket at `back_at`, and the sum of
-- all debts. An emptied or restarted store has lost the spent cells: then all buckets are empty at `empty_at`. While
-- other replicas have no heartbeat, a µs of a bucket gives fewer cells.
local owed, is_emptied = math.ceil(ARGV[4] * known / alive), ARGV[5] == '1' or (is_other and ARGV[2] ~= '')
if owed > 0 or is_emptied then
  local before = redis.call('HMGET', KEYS[1], 'back_at', 'owed', 'owed_ever')
  local apart, ever = now - tonumber(before[1] or 0), tonumber(before[3] or 0)
  local lately = math.max(tonumber(before[2] or 0) - math.max(apart, 0), 0) + owed
  if is_emptied then
    lately, owed = 0, 1000000000000
    redis.call('HSET', KEYS[1], 'empty_at', text(now))
  end
  redis.call('HSET', KEYS[1], 'back_at', text(now), 'owed', text(lately), 'owed_ever', text(ever + owed))
end
local members = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[7] - 1, 'WITHSCORES')
return {id, alive, known, members}
