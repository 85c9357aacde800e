-- A filter on types, levels and status events: takes its arguments, answers by kind ("level type").
local function take_view()
  local view = {status = arg() == '1'}
  local levels, types = num(), nil
  if levels >= 0 then
    view.levels = {}
    for _ = 1, levels do view.levels[arg()] = true end
  end
  types = num()
  if types >= 0 then
    view.types = {}
    for i = 1, types do view.types[i] = arg() end
  end
  return view
end

local function type_matches(pattern, type)
  if pattern == '*' or pattern == type then return true end
  return string.sub(pattern, -2) == '.*' and string.sub(type, 1, #pattern - 1) == string.sub(pattern, 1, -2)
end

local function any_type(patterns, type)
  if not patterns then return true end
  for _, pattern in ipairs(patterns) do
    if type_matches(pattern, type) then return true end
  end
  return false
end

local function sees(view, kind)
  local level, type = string.match(kind, '^(%S+) (.*)$')
  if not view.status and type == 'taskcast:status' then return false end
  if view.levels and not view.levels[level] then return false end
  return any_type(view.types, type)
end

-- Which kind numbers a view lets through.
local function visible_kinds(t, view)
  local found, raw = {}, call('HGETALL', t.data .. ':k')
  for i = 1, #raw, 2 do
    if sees(view, raw[i]) then found[tonumber(raw[i + 1])] = true end
  end
  return found
end

local function total_of(visible, counts)
  local n = 0
  for kind, count in pairs(counts) do
    if visible[kind] then n = n + count end
  end
  return n
end
