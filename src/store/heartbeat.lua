-- Says that a replica is alive, and answers with the epoch and the replicas.
-- KEYS: epoch, replicas. ARGV: own id, the epoch that it knows or '', the id of a new epoch, whether cells were spent
-- without the store ('1'), the age of a replica that is alive in ms, the most members in the answer, and the members
-- that it remembers: id and time, in turns.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ms = math.floor(now / 1000)
local function text(number) return string.format('%.0f', number) end

local id = redis.call('HGET', KEYS[1], 'id')
local is_new = not id
local is_other = is_new or (ARGV[2] ~= '' and ARGV[2] ~= id)
if is_new then
  id = ARGV[3]
  redis.call('HSET', KEYS[1], 'id', id, 'empty_at', '0')
end
if ARGV[4] == '1' or (is_other and ARGV[2] ~= '') then
  redis.call('HSET', KEYS[1], 'empty_at', text(now))
end
if is_other then
  for i = 7, #ARGV, 2 do
    redis.call('ZADD', KEYS[2], 'NX', ARGV[i + 1], ARGV[i])
  end
end
redis.call('ZADD', KEYS[2], text(ms), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(ms - 600000))
local alive = redis.call('ZCOUNT', KEYS[2], text(ms - ARGV[5]), '+inf')
local members = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[6] - 1, 'WITHSCORES')
return {id, alive, redis.call('ZCARD', KEYS[2]), members}
