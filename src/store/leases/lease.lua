-- Takes cells of a limit (GCRA) in advance. Answers how many were granted, the µs until the lease ends, and, if none
-- was granted, the µs until the next cell. -1: the store has another epoch.
-- KEYS: limit, epoch, replicas. ARGV: the epoch, the period in µs, the cells in a period, the burst, the cells that
-- are wanted, the age of a replica that is alive in ms.
local epoch = redis.call('HMGET', KEYS[2], 'id', 'back_at', 'owed', 'owed_ever', 'empty_at')
if epoch[1] ~= ARGV[1] then return {-1, 0, 0} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- The time at which disconnected replicas came back, the debt of an unused bucket at that time, and the sum of all
-- debts, in µs. `empty_at`: the time at which all buckets were empty, because the store had lost the spent cells.
local back_at, owed, owed_ever = tonumber(epoch[2] or 0), tonumber(epoch[3] or 0), tonumber(epoch[4] or 0)
local empty_at = tonumber(epoch[5] or 0)

-- A cell costs part / whole µs. The share of replicas without a heartbeat is reserved, because they may be using it.
local known = math.max(redis.call('ZCARD', KEYS[3]), 1)
local alive = redis.call('ZCOUNT', KEYS[3], string.format('%.0f', math.floor(now / 1000) - ARGV[6]), '+inf')
alive = math.max(math.min(alive, known), 1)
local part, whole = ARGV[2] * known, ARGV[3] * alive
local function cost(cells) return math.ceil(cells * part / whole) end

-- The bucket holds the burst of all replicas, whatever a cell costs now: spent cells keep their cost. A full bucket
-- always gives a cell.
local filled_in = math.ceil(ARGV[4] * ARGV[2] / ARGV[3])
local room = math.max(filled_in, cost(1))

-- The time at which the bucket is full. A value in another format counts as an unused bucket. The debt of a bucket is
-- at most its size, also if the clock was set back.
local tat, is_ours = now, false
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'string' then
  local full_at, settled = string.match(stored, '^(%d+) (%d+)$')
  if full_at then
    is_ours, full_at = true, tonumber(full_at)
    -- The debt of replicas that were disconnected in the meantime.
    local charged = owed_ever - settled
    tat = math.max(full_at, math.min(full_at + charged, back_at + filled_in))
    -- The heartbeat charges this much for a store that was emptied, or restarted with older data.
    if charged >= 1000000000000 and empty_at > 0 then tat = math.max(tat, empty_at + filled_in) end
  end
end
if not is_ours and back_at > 0 then
  local refilled_at = empty_at > 0 and empty_at + filled_in or 0
  tat = math.max(math.min(math.max(refilled_at, back_at) + owed, back_at + filled_in), refilled_at)
end
tat = math.max(math.min(tat, now + room), now)

local free = math.floor((now + room - tat) * whole / part)
local granted = math.min(tonumber(ARGV[5]), free)
if granted < 1 then
  return {0, 0, math.max(tat + cost(1) - room - now, 1)}
end
tat = tat + cost(granted)
-- Kept long enough to charge the losses that are reported before the bucket is full.
local kept_for = math.ceil((tat - now + filled_in) / 1000)
redis.call('SET', KEYS[1], string.format('%.0f %.0f', tat, owed_ever), 'PX', string.format('%.0f', kept_for))
return {granted, tat - now, 0}
