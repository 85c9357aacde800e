-- One change to one task, all of it or none of it; see `changes.py` for the arguments.

local function take_variant()
  return {text = opt(), chars = num(), prefix = arg(), prefix_chars = num()}
end

local function take_event()
  local e = {text = arg(), kind = arg(), mode = arg()}
  if e.mode == '' then return e end
  e.series = arg()
  if e.mode == 'a' then
    e.field = opt()
    e.given = take_variant()
    if not e.field then e.inferred = take_variant() end
  end
  return e
end

-- A change that may do anything.
local function take_change(c)
  local key = opt()
  if key then c.key = {name = key, hash = arg(), ttl = num()} end
  if arg() == '1' then c.record = take_record() end
  c.hints = {}
  for _ = 1, num() do
    local series = arg()
    c.hints[series] = {last = num(), prefix = arg(), chars = num()}
  end
  c.events = {}
  for i = 1, num() do c.events[i] = take_event() end
  return c
end

-- ── Idempotency keys ──

local function raw_entries(t, first, count)
  if count == 0 then return {} end
  return call('XRANGE', t.data .. ':l', entry_id(first), entry_id(first + count - 1))
end

-- The reply that a key got before, or nil.
local function recall(t, c)
  local kept = call('GET', c.base .. ':r:' .. c.key.name)
  if kept then
    local k = cmsgpack.unpack(kept)
    if k[1] ~= c.key.hash then return {'conflict'} end
    local entries = t and t.st == 'o' and t.ep == k[2] and raw_entries(t, k[3], k[4]) or {}
    return {'kept', {k[5], k[6], k[7], k[8], k[9], k[10]}, entries, t and call('HGETALL', t.data .. ':k') or {}}
  end
  if not t or t.st ~= 'o' then return nil end
  local packed = call('HGET', t.data .. ':q', c.key.name)
  local k = packed and cmsgpack.unpack(packed)
  if not k or k[2] <= NOW then return nil end
  if k[1] ~= c.key.hash then return {'conflict'} end
  local entries = t.ep == k[3] and raw_entries(t, k[4], k[5]) or {}
  if t.ep ~= k[3] or #entries < k[5] then return {'reply_expired'} end
  return {'replayed', stored(t, record_of(t)), entries, call('HGETALL', t.data .. ':k')}
end

local NEWEST_KEYS = 1000

local function remember(t, c, before)
  local first, count = before.li + 1, #c.events
  if c.record then
    call('SET', c.base .. ':r:' .. c.key.name,
      cmsgpack.pack({c.key.hash, before.ep, first, count, c.record.rec, t.seg, t.rev, t.li, t.lt, t.fi}),
      'PX', c.key.ttl)
    return
  end
  local names, order = t.data .. ':q', t.data .. ':Q'
  local seq = call('HINCRBY', t.key, 'kn', 1)
  call('HSET', names, c.key.name,
    cmsgpack.pack({c.key.hash, math.max(NOW, before.lt) + c.key.ttl, before.ep, first, count, seq}))
  call('RPUSH', order, seq .. ' ' .. c.key.name)
  if call('LLEN', order) > NEWEST_KEYS then
    local old, name = string.match(call('LPOP', order), '^(%d+) (.*)$')
    local packed = call('HGET', names, name)
    if packed and cmsgpack.unpack(packed)[6] == tonumber(old) then call('HDEL', names, name) end
  end
end

-- ── What a change comes to ──

-- The part of the series' text that an accumulate entry stands at the end of.
local function accumulate(plan, e, state, is_new, was)
  local default = state[DEFAULT]
  if not default then
    local infers = not e.field and not e.given.text and e.inferred.text
    default = infers and 'text' or 'delta'
    state[DEFAULT], state[ACC_FIRST] = default, e.index
  end
  local field, variant = e.field or 'delta', e.given
  if not e.field and default == 'text' then
    field, variant = 'text', e.inferred
    e.text = string.sub(e.text, 1, -2) .. ',"seriesAccField":"text"}'
    e.changed = true
  end
  local added, prefix, chars = variant.text, '', 0
  local continues = added and not is_new and state[FIELD] == field and state[LEN] >= 0
  if not continues then
    state[RUN] = state[RUN] + 1
    if added and was then  -- another field than before: the newest payload may hold text to start from
      local hint = plan.hints[e.series]
      if plan.touched[e.series] then
        prefix, chars = variant.prefix, variant.prefix_chars
      elseif hint and hint.last == was then
        prefix, chars = hint.prefix, hint.chars
      else
        plan.needs[#plan.needs + 1] = {e.series, was, field, newest_text(plan.t, state)}
      end
    end
    state[BS], state[LEN] = state[TOP], added and 0 or -1
  end
  if added then
    state[LEN] = state[LEN] + chars + variant.chars
    state[TOP] = state[TOP] + #prefix + #added
    local parts = plan.parts[e.series] or {}
    parts[#parts + 1] = prefix
    parts[#parts + 1] = added
    plan.parts[e.series] = parts
  end
  state[FIELD], state[BE] = field, state[TOP]
  state[KINDS][plan.kinds[e.kind]] = e.index
  e.tail = table.concat({' a', state[RUN], state[LEN], int(state[BS]), int(state[BE])}, ' ')
  e.run, e.len = state[RUN], state[LEN]
end

local function into_series(plan, e)
  local state = plan.series[e.series]
  if state == nil then
    state = get_series(plan.t, e.series)
    if not state then
      state = {plan.sn, false, -1, e.index, false, false, -1, -1, -1, 0, 0, 0, false, {}, 0}
      plan.sn = plan.sn + 1
      plan.new_series = plan.new_series + 1
    end
    plan.series[e.series] = state
  end
  local was = state[MODE] and state[LAST] or nil
  if e.mode == 'a' then
    accumulate(plan, e, state, not was, was)
  else
    if state[MODE] == 'l' and not state[DATA] then
      plan.replaced[#plan.replaced + 1] = state[LAST]
      state[COUNT] = state[COUNT] - 1
    end
    state[FIELD], state[LEN], e.tail = false, -1, ' l'
  end
  state[MODE], state[LAST], state[DATA] = e.mode, e.index, false
  state[COUNT] = state[COUNT] + 1
  plan.touched[e.series] = true
end

-- Numbers for the kinds of the events; the new ones, and how many types there would be.
local function number_kinds(plan, events)
  for _, e in ipairs(events) do
    if not plan.kinds[e.kind] then
      local known = call('HGET', plan.t.data .. ':k', e.kind)
      if not known then
        plan.kn = plan.kn or call('HLEN', plan.t.data .. ':k')
        known = plan.kn + #plan.new_kinds
        plan.new_kinds[#plan.new_kinds + 1] = e.kind
      end
      plan.kinds[e.kind] = tonumber(known)
    end
  end
end

local function types_with(plan)
  local types, n = {}, 0
  local function note(kind)
    local type = string.match(kind, '^%S+ (.*)$')
    if not types[type] then
      types[type] = true
      n = n + 1
    end
  end
  for _, kind in ipairs(call('HKEYS', plan.t.data .. ':k')) do note(kind) end
  for _, kind in ipairs(plan.new_kinds) do note(kind) end
  return n
end

local MOST_TEXT = 500000000  -- a string of Redis takes 512 MiB

local function over_limit(plan, c)
  local t, n = plan.t, #c.events
  if n == 0 then return nil end
  if t.li + 1 + n > c.max_events then return {'limit', 'maxEventsPerTask', c.max_events} end
  local size = 0
  for _, e in ipairs(c.events) do size = size + #e.text end
  plan.size = size
  if t.sz + size > c.max_bytes then return {'limit', 'maxBytesPerTask', c.max_bytes} end
  for _, state in pairs(plan.series) do
    if state[TOP] > MOST_TEXT then return {'limit', 'maxBytesPerSeries', MOST_TEXT} end
  end
  if next(plan.touched) and call('HLEN', t.data .. ':s') + plan.new_series > c.max_series then
    return {'limit', 'maxSeriesPerTask', c.max_series}
  end
  if #plan.new_kinds > 0 and types_with(plan) > c.max_types then return {'limit', 'maxEventTypes', c.max_types} end
  return nil
end

local function plan_of(t, c)
  local plan = {t = t, hints = c.hints, series = {}, touched = {}, parts = {}, replaced = {}, needs = {}, kinds = {},
    new_kinds = {}, new_series = 0, sn = t.sn, size = 0}
  number_kinds(plan, c.events)
  for i, e in ipairs(c.events) do
    e.index = t.li + i
    if e.mode == 'a' or e.mode == 'l' then into_series(plan, e)
    elseif e.mode == 'k' then e.tail = ' k'
    else e.tail = '' end
  end
  return plan
end

-- ── Making it true ──

local function write_events(plan, c, now)
  local t, D, counts = plan.t, plan.t.data, {}
  local function settle()
    for kind, n in pairs(counts) do call('HINCRBY', D .. ':n', kind, n) end
    counts = {}
  end
  for i, kind in ipairs(plan.new_kinds) do call('HSET', D .. ':k', kind, plan.kn + i - 1) end
  local stamp = int(now) .. ' '
  for _, e in ipairs(c.events) do
    if e.index % SPAN == 0 and e.index > t.fi then
      settle()
      write_checkpoint(t, e.index, totals(t))
    end
    local kind = plan.kinds[e.kind]
    if e.series then
      call('XADD', D .. ':l', entry_id(e.index), 'm', stamp .. kind .. e.tail, 'x', e.text, 's', e.series)
    else
      call('XADD', D .. ':l', entry_id(e.index), 'm', stamp .. kind, 'x', e.text)
    end
    counts[kind] = (counts[kind] or 0) + 1
  end
  settle()
  for id, parts in pairs(plan.parts) do call('APPEND', text_key(t, plan.series[id]), table.concat(parts)) end
  for id, state in pairs(plan.series) do put_series(t, id, state) end
end

local function remove_replaced(plan)
  local t = plan.t
  for _, index in ipairs(plan.replaced) do
    local entry = entry_at(t, index)
    if entry then
      local m = fields_of(entry).m
      call('XDEL', t.data .. ':l', entry_id(index))
      dig(t, {{index, time_of(m), kind_of(m), 0, 0}})
    end
  end
end

local function write_head(plan, c, now)
  local t = plan.t
  if #c.events > 0 then
    t.li, t.lt, t.sz = t.li + #c.events, now, t.sz + plan.size
    call('HSET', t.key, 'li', int(t.li), 'lt', int(t.lt), 'sz', int(t.sz), 'sn', plan.sn)
  end
  local f = c.record
  if not f then return end
  if f.status ~= t.status or f.type ~= t.type or f.mode ~= t.mode or f.pri ~= t.pri or f.cr ~= t.cr then
    hide(t.base, t.id, t)
    show(t.base, t.id, f)
  end
  if f.timers ~= t.timers then set_timers(t.base, t.id, t.timers, f.timers) end
  t.rev = t.rev + 1
  t.status, t.cr, t.lanes = f.status, f.cr, f.lanes
  write_record(t.key, f)
  call('HSET', t.key, 'rev', t.rev)
end

local function ring(t, c, before)
  local ears = ears_of(t, c.ring)
  if not ears then return end
  local head, body, size = {}, {}, 0
  for _, e in ipairs(c.events) do size = size + #e.text end
  if size <= LARGE_BELL then
    local stamp = int(t.lt)
    for i, e in ipairs(c.events) do
      local series, mode = e.series or '', e.mode == '' and '-' or e.mode
      head[i] = table.concat({#e.kind, #series, mode, e.run or -1, e.len or -1, stamp, #e.text}, ' ')
      body[i] = e.kind .. series .. e.text
    end
  end
  send_bell(t, ears, before.li + 1, head, body)
end

local function commit(c)
  local t = load_task(c.base, c.id)
  if c.key then
    local known = recall(t, c)
    if known then return known end
  end
  if not t or t.st ~= 'o' then return {'not_hot'} end
  local failed = guard_failure(t, c)
  if failed then return {'guard', failed, stored(t, record_of(t))} end
  local plan = plan_of(t, c)
  if #plan.needs > 0 then return {'needs', plan.needs} end
  local over = over_limit(plan, c)
  if over then return over end
  local before, now = {ep = t.ep, li = t.li, lt = t.lt}, math.max(NOW, t.lt)
  if #c.events > 0 then write_events(plan, c, now) end
  write_head(plan, c, now)
  if #plan.replaced > 0 then remove_replaced(plan) end
  if c.key then remember(t, c, before) end
  mark(t)
  ring(t, c, before)
  local runs = {}
  for _, e in ipairs(c.events) do
    if e.run then
      runs[#runs + 1] = e.run
      runs[#runs + 1] = e.len
      runs[#runs + 1] = e.changed and 1 or 0
    end
  end
  local rec = nil
  if not c.record and c.known ~= known_as(t) then rec = record_of(t) end
  return {'done', stored(t, rec), now, runs}
end

return {take_change = take_change, commit = commit, write_checkpoint = write_checkpoint, totals = totals}
