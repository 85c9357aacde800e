-- Makes changes to tasks, each all of it or none of it, in runs of changes to one task; see `changes.py` for the
-- arguments. KEYS: tags of shards. Reply: the time, then one outcome per change: {last index, time, first index} where
-- a change has done nothing but append, else its first element says which.

-- What the changes of one run have in common: the task, what is asked of it, and its limits.
local function take_run()
  local base, id, known, a = KEYS[num()], arg(), arg(), cmsgpack.unpack(arg())
  return {base = base, id = id, known = known, ring = a[1], statuses = a[2], guard_rev = a[3], guard_aid = a[4],
    max_events = a[5], max_bytes = a[6], max_series = a[7], max_types = a[8]}
end

-- What most calls do without.
local made
local function general()
  made = made or make_general()
  return made
end

-- ── Changes that only append, and to no series: what they write once for all of them waits until the end of the run ──

-- The task as the run finds it, so much of it as is needed here; nil where its changes have to be looked at one by one.
local function begin_run(r)
  local key = r.base .. ':t:' .. r.id
  local v = call('HMGET', key, 'st', 'gen', 'rev', 'seg', 'ep', 'li', 'lt', 'fi', 'sz', 'status', 'cr', 'aid', 'lanes',
    'dl')
  if v[1] ~= 'o' or r.known ~= v[4] .. ' ' .. v[3] then return nil end
  local t = {base = r.base, id = r.id, key = key, data = r.base .. ':' .. v[2], rev = tonumber(v[3]), seg = v[4],
    ep = v[5], li = tonumber(v[6]), lt = math.max(NOW, tonumber(v[7])), fi = tonumber(v[8]), sz = tonumber(v[9]),
    status = v[10], cr = v[11], aid = v[12], lanes = v[13], dl = v[14]}
  if guard_failure(t, r) then return nil end
  return {t = t, ears = ears_of(t, r.ring), stamp = int(t.lt), numbers = {}, lines = {}, heads = {}, counts = {},
    first = t.li + 1, size = 0, head = {}, body = {}}
end

-- How many bytes the events from an argument on have; nil if they must not be appended, or bring a kind that is new.
local function fitting(run, r, from, to)
  local t, size = run.t, 0
  if t.li + 1 + (to - from + 1) / 2 > r.max_events then return nil end
  for i = from, to, 2 do
    size = size + #ARGV[i]
    local kind = ARGV[i + 1]
    if not run.lines[kind] then
      local number = call('HGET', t.data .. ':k', kind)
      if not number then return nil end
      run.numbers[kind], run.lines[kind] = number, run.stamp .. ' ' .. number
      run.heads[kind] = #kind .. ' 0 - -1 -1 ' .. run.stamp .. ' '
    end
  end
  return t.sz + size <= r.max_bytes and size or nil
end

local function settle_counts(run)
  for kind, n in pairs(run.counts) do call('HINCRBY', run.t.data .. ':n', run.numbers[kind], n) end
  run.counts = {}
end

-- Says what was appended since it was said last.
local function ring_run(run)
  local t = run.t
  if run.ears and t.li >= run.first then send_bell(t, run.ears, run.first, run.head, run.body) end
  run.first, run.size, run.head, run.body = t.li + 1, 0, {}, {}
end

local function append(run, from, to, size)
  local t = run.t
  local log, lines, heads, counts = t.data .. ':l', run.lines, run.heads, run.counts
  local head, body = run.head, run.body
  local rings = run.ears
  if run.size + size > LARGE_BELL then
    ring_run(run)
    head, body, rings = run.head, run.body, rings and size <= LARGE_BELL
  end
  for i = from, to, 2 do
    local text, kind, index = ARGV[i], ARGV[i + 1], t.li + 1
    if index % SPAN == 0 and index > t.fi then
      settle_counts(run)
      counts = run.counts
      general().write_checkpoint(t, index, general().totals(t))
    end
    call('XADD', log, index + 1, 'm', lines[kind], 'x', text)
    counts[kind] = (counts[kind] or 0) + 1
    t.li = index
    if rings then
      head[#head + 1] = heads[kind] .. #text
      body[#body + 1] = kind
      body[#body + 1] = text
    end
  end
  t.sz, run.size = t.sz + size, run.size + size
  if size > LARGE_BELL then ring_run(run) end
end

local function end_run(run)
  if not next(run.counts) then return end
  local t = run.t
  settle_counts(run)
  call('HSET', t.key, 'li', t.li, 'lt', run.stamp, 'sz', int(t.sz))
  mark(t)
  ring_run(run)
end

-- A change of a run, as one that may do anything.
local function any_change(r, from, to)
  local c = setmetatable({hints = {}, events = {}}, {__index = r})
  for i = from, to, 2 do c.events[#c.events + 1] = {text = ARGV[i], kind = ARGV[i + 1], mode = ''} end
  return c
end

local function append_all(r, changes, outcomes)
  local run
  for _ = 1, changes do
    local from = arg_at + 2
    local to = from - 1 + 2 * num()
    arg_at = to
    run = run or begin_run(r)
    local size = run and fitting(run, r, from, to)
    if size then
      append(run, from, to, size)
      outcomes[#outcomes + 1] = {run.t.li, run.t.lt, run.t.fi}
    else
      if run then end_run(run) end
      run = nil
      outcomes[#outcomes + 1] = general().commit(any_change(r, from, to))
    end
  end
  if run then end_run(run) end
end

local outcomes = {NOW}
for _ = 1, num() do
  local r = take_run()
  local changes = num()
  if changes > 0 then append_all(r, changes, outcomes)
  else outcomes[#outcomes + 1] = general().commit(general().take_change(r)) end
end
return outcomes
