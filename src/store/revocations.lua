-- Adds revocations, and answers with those after a sequence number.
-- KEYS: revocations (a sorted set: the entry by its sequence number), their ends (the entry by its end in seconds), the
-- last sequence number, the epoch for which the revocations are complete, the epoch.
-- ARGV: the epoch, the sequence number, the most entries of the answer, the most entries of single tokens, the most
-- entries, '1' if they are complete then, and the new entries, each with its end and '1' if it is about one token.
local epoch = redis.call('HGET', KEYS[5], 'id')
if epoch ~= ARGV[1] then return {0, 0, 0, {}, {}} end
local now = redis.call('TIME')[1]
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)
if #ended > 0 then
  redis.call('ZREM', KEYS[1], unpack(ended))
  redis.call('ZREM', KEYS[2], unpack(ended))
end
local refused = {}
for i = 7, #ARGV, 3 do
  local entry, ends, is_token = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if not redis.call('ZSCORE', KEYS[1], entry) then
    local most = tonumber(is_token == '1' and ARGV[4] or ARGV[5])
    if redis.call('ZCARD', KEYS[1]) >= most then
      refused[#refused + 1] = (i - 7) / 3
    else
      redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[3]), entry)
      redis.call('ZADD', KEYS[2], ends, entry)
    end
  end
end
if ARGV[6] == '1' then redis.call('SET', KEYS[4], epoch) end
local is_complete = redis.call('GET', KEYS[4]) == epoch and 1 or 0
local last = tonumber(redis.call('GET', KEYS[3]) or '0')
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
return {1, is_complete, last, found, refused}
