-- The state of a series, packed in D:s, and its text, one growing string in D:x:<number>. A run is a stretch of that
-- string; every accumulate entry knows in which bytes its run stands after it, so that a fold is one GETRANGE.
local NUM, MODE, LAST, FIRST, FIELD, DEFAULT, ACC_FIRST, RUN, LEN, BS, BE, COUNT, DATA, KINDS, TOP =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

local function get_series(t, id)
  local packed = call('HGET', t.data .. ':s', id)
  return packed and cmsgpack.unpack(packed)
end

local function put_series(t, id, state) call('HSET', t.data .. ':s', id, cmsgpack.pack(state)) end

local function text_key(t, state) return t.data .. ':x:' .. state[NUM] end

local function drop_series(t, id, state)
  call('HDEL', t.data .. ':s', id)
  call('UNLINK', text_key(t, state))
end

-- The newest entry's own text: from the log, or what was kept of it when it was removed.
local function newest_text(t, state)
  if state[DATA] then return state[DATA] end
  local entry = entry_at(t, state[LAST])
  return entry and fields_of(entry).x or '{"data":null}'
end

-- Every key of one copy of a log.
local function data_keys(data)
  local keys = {}
  for _, suffix in ipairs({'l', 'h', 'd', 'r', 'k', 'n', 'c', 's', 'i', 'q', 'Q', 'L'}) do
    keys[#keys + 1] = data .. ':' .. suffix
  end
  for _, packed in ipairs(call('HVALS', data .. ':s')) do
    keys[#keys + 1] = data .. ':x:' .. cmsgpack.unpack(packed)[NUM]
  end
  return keys
end

local function unlink_data(data)
  for _, key in ipairs(data_keys(data)) do call('UNLINK', key) end
end
