-- What every script begins with: arguments, time, and a task's hash.
--
-- Names of keys, `B` being the tag of a shard (`{prefix:NN}`) and `D` that of one copy of a log (`B:<generation>`):
--   B:t:<id>  task    B:g  generations   B:o  order of listing   B:y  tally   B:p:<mode>  queue   B:w:<kind>  timers
--   B:wl:<kind>  leased timers   B:ld:<kind> / B:lh:<kind>  dirty lanes, waiting / held   B:r:<key>  kept replies
--   B:v:<key>  reserved ids   B:x:<id>  tombstone   B:k:<id>  restore ticket   B:S:<generation>  staged task
--   D:l  log (stream, ids index + 1)   D:h, D:d  holes by last index, their contents   D:k  kind -> number
--   D:r  removed entries by index   D:n  number -> count   D:c  checkpoints   D:s  series   D:i  given ids
--   D:x:<number>  a series' text   D:q, D:Q  idempotency keys, their order   D:L  lanes
--
-- Optional arguments are '' or '=' and the value. Numbers beyond 14 digits must not be concatenated without `int`.
local call = redis.call
local arg_at = 0
local function arg() arg_at = arg_at + 1; return ARGV[arg_at] end
local function num() return tonumber(arg()) end
local function opt()
  local value = arg()
  if value ~= '' then return string.sub(value, 2) end
  return nil
end
local format = string.format
local function int(n) return format('%d', n) end

local SPAN = 1000  -- entries between two checkpoints

local clock = call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local NOW_US = clock[1] * 1000000 + clock[2]

local FIELDS = {'st', 'gen', 'rev', 'seg', 'ep', 'li', 'lt', 'fi', 'sz', 'status', 'type', 'cr', 'aid', 'mode', 'pri',
  'lanes', 'timers', 'dl', 'sn', 'kn', 'linger'}

local function load_task(base, id)
  local key = base .. ':t:' .. id
  local v = call('HMGET', key, unpack(FIELDS))
  if not v[1] then return nil end
  return {base = base, id = id, key = key, data = base .. ':' .. v[2], st = v[1], gen = v[2], rev = tonumber(v[3]),
    seg = v[4], ep = tonumber(v[5]), li = tonumber(v[6]), lt = tonumber(v[7]), fi = tonumber(v[8]),
    sz = tonumber(v[9]), status = v[10], type = v[11] or nil, cr = tonumber(v[12]), aid = v[13] or nil, mode = v[14],
    pri = tonumber(v[15]), lanes = v[16], timers = v[17], dl = v[18], sn = tonumber(v[19]), kn = tonumber(v[20]),
    linger = tonumber(v[21] or 0)}
end

-- The open task, or nil and why not.
local function open_task(base, id, epoch)
  local t = load_task(base, id)
  if not t or t.st ~= 'o' then return nil, {'not_hot'} end
  if epoch and t.ep ~= epoch then return nil, {'epoch', t.ep} end
  return t
end

-- The open task, or a deleted one for a reader that names its epoch.
local function readable(base, id, epoch)
  local t = load_task(base, id)
  if not t or (t.st == 'h' and t.ep ~= epoch) then return nil, {'not_hot'} end
  if epoch and t.ep ~= epoch then return nil, {'epoch', t.ep} end
  return t
end

local function stored(t, rec)
  return {rec or false, t.seg, t.rev, t.li, t.lt, t.fi}
end

local function record_of(t) return call('HGET', t.key, 'rec') end

-- The salt of entries to come.
local function newest_salt(t) return string.match(t.seg, '(%d+)$') end

-- The salt of the segment in which an index lies.
local function salt_at(t, index)
  local salt = '0'
  for first, s in string.gmatch(t.seg, '(%d+) %d+ (%d+)') do
    if tonumber(first) <= index then salt = s end
  end
  return salt
end

local function entry_id(index) return int(index + 1) .. '-0' end

local function entry_at(t, index)
  local id = entry_id(index)
  return call('XRANGE', t.data .. ':l', id, id)[1]
end

-- A stream entry's fields as a table: m (numbers), x (text), s (series id), g (given id).
local function fields_of(entry)
  local f = {}
  local raw = entry[2]
  for i = 1, #raw, 2 do f[raw[i]] = raw[i + 1] end
  return f
end

-- Of an entry's numbers, "time kind [mode [run length byte byte]]".
local function kind_of(m) return tonumber(string.match(m, '^%d+ (%d+)')) end

local function time_of(m) return tonumber(string.match(m, '^(%d+)')) end

local function index_of(entry) return tonumber(string.match(entry[1], '^(%d+)')) - 1 end

local function words(text)
  local found = {}
  for word in string.gmatch(text or '', '%S+') do found[#found + 1] = word end
  return found
end

local function flat(map)
  local out = {}
  for k, v in pairs(map) do out[#out + 1] = k; out[#out + 1] = v end
  return out
end

-- Whether a text stands before another by its bytes, as sorted sets have it ('<' would ask the server's locale).
local function precedes(a, b)
  local at, shorter = 1, math.min(#a, #b)
  while at <= shorter and string.byte(a, at) == string.byte(b, at) do at = at + 1 end
  if at > shorter then return #a < #b end
  return string.byte(a, at) < string.byte(b, at)
end

-- A comparison for table.sort: by a number, then by a text.
local function by(number, text)
  return function(a, b)
    if a[number] ~= b[number] then return a[number] < b[number] end
    return precedes(a[text], b[text])
  end
end
