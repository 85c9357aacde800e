-- What a change may ask of a task.
local function guard_failure(t, c)
  if c.guard_aid and t.aid ~= c.guard_aid then return 'assignment' end
  if c.guard_rev and t.rev ~= c.guard_rev then return 'rev' end
  if c.statuses and not string.find(c.statuses, ' ' .. t.status .. ' ', 1, true) then return 'status' end
  return nil
end

-- By what a process knows that the record and the segments it has are the present ones.
local function known_as(t) return t.seg .. ' ' .. t.rev end
