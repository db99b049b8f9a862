-- Tries each command that the gateway uses, on a key that ends by itself after a second.
-- KEYS: the key. Answers with each command that is refused, and why, in turns.
local refused = {}
local function try(...)
  local answer = redis.pcall(...)
  local why = type(answer) == 'table' and answer.err
  -- The key is a text, which other types of commands change in no way.
  if why and not string.find(why, 'WRONGTYPE', 1, true) then
    refused[#refused + 1] = string.lower((...))
    refused[#refused + 1] = why
  end
end
try('SET', KEYS[1], '1', 'PX', 1000)
-- Without this key they would make one that does not end.
if #refused == 0 then
  try('INCR', KEYS[1])
  try('HSET', KEYS[1], 'id', '1')
  try('ZADD', KEYS[1], 1, 'a')
end
try('TIME')
try('GET', KEYS[1])
try('HGET', KEYS[1], 'id')
try('HMGET', KEYS[1], 'id')
try('ZREM', KEYS[1], 'a')
try('ZCARD', KEYS[1])
try('ZCOUNT', KEYS[1], 0, 1)
try('ZSCORE', KEYS[1], 'a')
try('ZREVRANGE', KEYS[1], 0, 1)
try('ZRANGEBYSCORE', KEYS[1], 0, 1)
try('ZREMRANGEBYSCORE', KEYS[1], 0, 1)
try('ZREMRANGEBYRANK', KEYS[1], 0, 1)
return refused
