-- The text of a run up to an entry. KEYS[1]: tag. ARGV: id, epoch, series id, index.
-- Reply: {'done', entry's text, total or nil} or {'not_retained', index}.
local t, why = readable(KEYS[1], arg(), tonumber(opt()))
if not t then return why end
local series, index = arg(), num()
local state = get_series(t, series)
local entry = state and index >= 0 and entry_at(t, index)
local f = entry and fields_of(entry)
if not f or f.s ~= series then return {'not_retained', index} end
local len, bs, be = string.match(f.m, '^%d+ %d+ a %d+ (%-?%d+) (%d+) (%d+)$')
if not len then return {'not_retained', index} end
if len == '-1' then return {'done', f.x, false} end
if bs == be then return {'done', f.x, ''} end
return {'done', f.x, call('GETRANGE', text_key(t, state), bs, int(be - 1))}
