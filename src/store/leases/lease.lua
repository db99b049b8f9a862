-- Takes cells of a limit (GCRA) in advance. Answers how many were granted, the µs until the lease ends, and, if none was
-- granted, the µs until the next cell. -1: the store has another epoch.
-- KEYS: limit, epoch, replicas. ARGV: the epoch, the period in µs, the cells in a period, the burst, the cells that are
-- wanted, the age of a replica that is alive in ms.
local epoch = redis.call('HMGET', KEYS[2], 'id', 'empty_at')
if epoch[1] ~= ARGV[1] then return {-1, 0, 0} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The share of replicas that are not heard of is withheld: they may be spending it.
local known = math.max(redis.call('ZCARD', KEYS[3]), 1)
local alive = redis.call('ZCOUNT', KEYS[3], string.format('%.0f', math.floor(now / 1000) - ARGV[6]), '+inf')
alive = math.max(math.min(alive, known), 1)

-- A cell lasts part / whole µs.
local part, whole, burst = ARGV[2] * known, ARGV[3] * alive, tonumber(ARGV[4])
local function cells_last(cells) return math.ceil(cells * part / whole) end
-- The bucket, in time. It does not grow where cells last longer, or what was used up would come back.
local room = math.max(math.ceil(burst * ARGV[2] / ARGV[3]), cells_last(1))

-- The time at which the bucket is full: later than now by what is used up.
local tat = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local empty_at = tonumber(epoch[2])
if empty_at > 0 then tat = math.max(tat, empty_at + room) end
local free = math.floor((now - tat + room) * whole / part)
local granted = math.min(tonumber(ARGV[5]), free)
if granted < 1 then
  local wait = tat + cells_last(1) - now - room
  return {0, 0, math.max(wait, 1)}
end
tat = tat + cells_last(granted)
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
return {granted, tat - now, 0}
