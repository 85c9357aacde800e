-- Where a task can be found: listing order, tally, queue, timers.
local QUEUE_STEP = 10000000000000

local function tally_of(f) return f.type and f.status .. ' ' .. f.type or f.status end

local function queue_score(f) return f.pri * QUEUE_STEP + f.cr end

local function set_timers(base, id, before, after)
  local old, new = words(before), words(after)
  local was, is = {}, {}
  for i = 1, #old, 2 do was[old[i]] = old[i + 1] end
  for i = 1, #new, 2 do is[new[i]] = new[i + 1] end
  for kind, at in pairs(is) do
    if was[kind] ~= at then
      call('ZADD', base .. ':w:' .. kind, at, id)
      call('ZREM', base .. ':wl:' .. kind, id)
    end
  end
  for kind in pairs(was) do
    if not is[kind] then
      call('ZREM', base .. ':w:' .. kind, id)
      call('ZREM', base .. ':wl:' .. kind, id)
    end
  end
end

local function show(base, id, f)
  call('ZADD', base .. ':o', f.cr, id)
  call('HINCRBY', base .. ':y', tally_of(f), 1)
  if f.status == 'pending' then call('ZADD', base .. ':p:' .. f.mode, queue_score(f), id) end
end

local function hide(base, id, f)
  call('ZREM', base .. ':o', id)
  if call('HINCRBY', base .. ':y', tally_of(f), -1) <= 0 then call('HDEL', base .. ':y', tally_of(f)) end
  if f.status == 'pending' then call('ZREM', base .. ':p:' .. f.mode, id) end
end

-- The fields of a record, as the client sends them.
local function take_record()
  local f = {rec = arg(), status = arg(), type = opt(), cr = num(), aid = opt(), mode = arg(), pri = num()}
  f.lanes, f.timers = arg(), arg()
  return f
end

local function write_record(key, f)
  call('HSET', key, 'rec', f.rec, 'status', f.status, 'cr', int(f.cr), 'mode', f.mode, 'pri', f.pri,
    'lanes', f.lanes, 'timers', f.timers)
  if f.type then call('HSET', key, 'type', f.type) else call('HDEL', key, 'type') end
  if f.aid then call('HSET', key, 'aid', f.aid) else call('HDEL', key, 'aid') end
end
