-- Where logs stand. KEYS: tags. ARGV: how many, then per position: number of its tag, id, index.
-- Reply per position: nil, or {epoch, last index, status, salt, time of the entry there (-1: none), given id or nil}.
local found = {}
for i = 1, num() do
  local base, id, index = KEYS[num()], arg(), num()
  local t = load_task(base, id)
  found[i] = false
  if t then
    local entry = index >= 0 and index <= t.li and entry_at(t, index)
    local f = entry and fields_of(entry)
    found[i] = {t.ep, t.li, t.status, salt_at(t, index), f and time_of(f.m) or -1, f and f.g or false}
  end
end
return found
