-- Tasks, newest first. KEYS: tags. ARGV: limit, tasks to look at, from (created_at and id, exclusive; or '' and ''),
-- created after, created before ('' or '=' ms), statuses, modes (' a b ' or '' for any), ids (count, -1: any).
-- Reply: {is_last, created_at and id of the last one looked at, {record, ...}}: `is_last` when all were looked at.
local PORTION = 64
local limit, budget, from_at, from_id = num(), num(), tonumber(opt()), arg()
local created_after, created_before = tonumber(opt()), tonumber(opt())
local statuses, modes, ids = opt(), opt(), nil
local n = num()
if n >= 0 then
  ids = {}
  for _ = 1, n do ids[arg()] = true end
end
local floor = created_after and '(' .. int(created_after) or '-inf'
local top = '+inf'
if created_before then top = '(' .. int(created_before) end
if from_at and (not created_before or from_at < created_before) then top = int(from_at) end

-- One reader per shard: a stretch of its order, refilled when it is used up.
local readers = {}
local function refill(r)
  local raw = call('ZREVRANGEBYSCORE', r.base .. ':o', top, floor, 'WITHSCORES', 'LIMIT', r.offset, PORTION)
  r.raw, r.at, r.offset = raw, 1, r.offset + #raw / 2
end
local function is_behind(at, id) return not from_at or at < from_at or (at == from_at and precedes(id, from_id)) end
local function settle(r)
  while true do
    if not r.raw or (r.at > #r.raw and #r.raw == 2 * PORTION) then refill(r) end
    if r.at > #r.raw then
      r.id = nil
      return
    end
    r.id, r.score = r.raw[r.at], tonumber(r.raw[r.at + 1])
    r.at = r.at + 2
    if is_behind(r.score, r.id) then return end
  end
end
for i, base in ipairs(KEYS) do
  readers[i] = {base = base, offset = 0}
  settle(readers[i])
end

local function matches(base, id)
  if ids and not ids[id] then return nil end
  local v = call('HMGET', base .. ':t:' .. id, 'status', 'mode', 'rec')
  if not v[3] then return nil end
  if statuses and not string.find(statuses, ' ' .. v[1] .. ' ', 1, true) then return nil end
  if modes and not string.find(modes, ' ' .. v[2] .. ' ', 1, true) then return nil end
  return v[3]
end

local found, looked, last_at, last_id = {}, 0, -1, ''
while #found < limit and looked < budget do
  local best
  for _, r in ipairs(readers) do
    if r.id and (not best or r.score > best.score or (r.score == best.score and precedes(best.id, r.id))) then best = r end
  end
  if not best then return {1, last_at, last_id, found} end
  looked = looked + 1
  last_at, last_id = best.score, best.id
  local rec = matches(best.base, best.id)
  if rec then found[#found + 1] = rec end
  settle(best)
end
return {0, last_at, last_id, found}
