-- Makes changes to tasks, each all of it or none of it, in runs of changes to one task; see `changes.py` for the arguments.
-- KEYS: tags of shards. Reply: the time, then one outcome per change: {last index, time, first index} where a change has
-- done nothing but append, else its first element says which.

-- ── Changes that only append, and to no series: what they write once for all of them waits until the end of the run ──

-- The task as the run finds it; nil where its changes have to be looked at one by one.
local function begin_run(r)
  local t = load_task(r.base, r.id)
  if not t or t.st ~= 'o' or r.known ~= known_as(t) or guard_failure(t, r) then return nil end
  t.lt = math.max(NOW, t.lt)
  return {t = t, ring = r.ring, stamp = int(t.lt), numbers = {}, lines = {}, counts = {}, first = t.li + 1, size = 0,
    head = {}, body = {}}
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
  if run.ring ~= '' and t.li >= run.first then send_bell(t, run.ring, run.first, run.head, run.body) end
  run.first, run.size, run.head, run.body = t.li + 1, 0, {}, {}
end

local function append(run, from, to, size)
  local t = run.t
  local log, lines, counts, head, body = t.data .. ':l', run.lines, run.counts, run.head, run.body
  local rings = run.ring ~= ''
  if run.size + size > LARGE_BELL then
    ring_run(run)
    head, body, rings = run.head, run.body, rings and size <= LARGE_BELL
  end
  for i = from, to, 2 do
    local text, kind, index = ARGV[i], ARGV[i + 1], t.li + 1
    if index % SPAN == 0 and index > t.fi then
      settle_counts(run)
      counts = run.counts
      write_checkpoint(t, index, totals(t))
    end
    call('XADD', log, format('%d-0', index + 1), 'm', lines[kind], 'x', text)
    counts[kind] = (counts[kind] or 0) + 1
    t.li = index
    if rings then
      head[#head + 1] = format('%d 0 - -1 -1 %s %d', #kind, run.stamp, #text)
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
  call('HSET', t.key, 'li', int(t.li), 'lt', run.stamp, 'sz', int(t.sz))
  mark(t)
  ring_run(run)
end

-- A change of a run, as one that may do anything.
local function general(r, from, to)
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
      outcomes[#outcomes + 1] = commit(general(r, from, to))
    end
  end
  if run then end_run(run) end
end

local outcomes = {NOW}
for _ = 1, num() do
  local r = take_run()
  local changes = num()
  if changes > 0 then append_all(r, changes, outcomes)
  else outcomes[#outcomes + 1] = commit(take_change(r)) end
end
return outcomes
