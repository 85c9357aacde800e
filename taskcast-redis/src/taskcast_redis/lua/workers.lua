-- Workers and assignments, all in one slot so that reserving is one step.
--   B:W  worker id -> worker   B:a  assignment id -> assignment   B:at  task id -> assignment id
--   B:aw:<worker>  its assignments   B:al  assignments by end of lease   B:ah  by when other sweepers may look again
local B = KEYS[1]

local function get_assignment(id)
  local packed = call('HGET', B .. ':a', id)
  return packed and cmsgpack.unpack(packed)  -- {id, task, worker, cost, assigned at, lease until, confirmed, status}
end

local function put_assignment(a) call('HSET', B .. ':a', a[1], cmsgpack.pack(a)) end

local function assignments_of(worker)
  local found = {}
  for _, id in ipairs(call('SMEMBERS', B .. ':aw:' .. worker)) do found[#found + 1] = get_assignment(id) end
  return found
end

local function used_slots(worker)
  local used = 0
  for _, a in ipairs(assignments_of(worker)) do used = used + a[4] end
  return used
end

local function extend(a, lease)
  a[6] = NOW + lease
  put_assignment(a)
  call('ZADD', B .. ':al', int(a[6]), a[1])
  call('ZREM', B .. ':ah', a[1])
end

local function end_assignment(a)
  call('HDEL', B .. ':a', a[1])
  call('HDEL', B .. ':at', a[2])
  call('SREM', B .. ':aw:' .. a[3], a[1])
  call('ZREM', B .. ':al', a[1])
  call('ZREM', B .. ':ah', a[1])
end
