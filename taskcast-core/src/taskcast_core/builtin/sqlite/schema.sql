-- Version 1 of the SQLite store's file.
--
-- Every task has a number of its own (never used again while its rows exist), and everything that belongs to it is
-- keyed by that number. Free text (ids, types, names) is kept as UTF-8 BLOB: it may hold lone surrogates, and bytes sort
-- as Python strings do. Times are Unix milliseconds. Lists and mappings are JSON.

-- The record, and columns to find tasks by. state: 0 open, 1 hidden (deleted, still read), 2 restored but not open.
CREATE TABLE tasks (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    segments BLOB NOT NULL,
    record BLOB NOT NULL,
    status TEXT NOT NULL,
    type BLOB,
    created_at INTEGER NOT NULL,
    assign_mode TEXT NOT NULL,
    priority INTEGER NOT NULL,
    linger_until INTEGER
);
CREATE INDEX tasks_by_age ON tasks (state, created_at, id);
CREATE INDEX tasks_by_status ON tasks (state, status, created_at, id);
CREATE INDEX tasks_by_type ON tasks (state, type, status, created_at, id);
CREATE INDEX tasks_waiting ON tasks (priority, created_at, id) WHERE state = 0 AND status = 'pending';

CREATE TABLE tags (
    tag BLOB NOT NULL,
    task_num INTEGER NOT NULL,
    PRIMARY KEY (tag, task_num)
) WITHOUT ROWID;
CREATE INDEX tags_of_task ON tags (task_num);

-- What every commit changes, apart from the record so that publishing does not rewrite it. keys: used so far.
CREATE TABLE heads (
    task_num INTEGER PRIMARY KEY,
    last_index INTEGER NOT NULL,
    last_timestamp INTEGER NOT NULL,
    size INTEGER NOT NULL,
    keys INTEGER NOT NULL
);

-- pos: the task's number times 2**32, plus the index. series: a number of the table series; where the series has no
-- state (keep-all), its id.
CREATE TABLE entries (
    pos INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    series,
    mode INTEGER,
    run INTEGER,
    end INTEGER,
    given_id BLOB,
    text BLOB NOT NULL
);

CREATE TABLE given_ids (
    task_num INTEGER NOT NULL,
    id BLOB NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (task_num, id)
) WITHOUT ROWID;

-- The distinct (type, level) pairs of a task. How many entries of each there have been, checkpoints and entries say.
CREATE TABLE kinds (
    task_num INTEGER NOT NULL,
    num INTEGER NOT NULL,
    type BLOB NOT NULL,
    level TEXT NOT NULL,
    PRIMARY KEY (task_num, num)
) WITHOUT ROWID;

-- Runs of removed entries. counts: [[kind, how many], …].
CREATE TABLE holes (
    task_num INTEGER NOT NULL,
    last INTEGER NOT NULL,
    first INTEGER NOT NULL,
    first_timestamp INTEGER NOT NULL,
    last_timestamp INTEGER NOT NULL,
    counts TEXT NOT NULL,
    cut_series INTEGER NOT NULL,
    lost_series INTEGER NOT NULL,
    PRIMARY KEY (task_num, last)
) WITHOUT ROWID;

-- How many entries of each kind stand before an index; up to version 1, those of a hole count at its last index.
CREATE TABLE checkpoints (
    task_num INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (task_num, idx)
) WITHOUT ROWID;

-- data: the newest payload, where the entry that brought it is not in this file.
CREATE TABLE series (
    task_num INTEGER NOT NULL,
    num INTEGER NOT NULL,
    id BLOB NOT NULL,
    mode INTEGER NOT NULL,
    last_index INTEGER NOT NULL,
    field BLOB,
    default_field BLOB,
    run INTEGER NOT NULL,
    length INTEGER,
    last_by_kind TEXT NOT NULL,
    data BLOB,
    PRIMARY KEY (task_num, num)
) WITHOUT ROWID;

-- The texts of accumulate series in pieces: each begins at a character of its run and is never changed, only joined.
CREATE TABLE texts (
    task_num INTEGER NOT NULL,
    series INTEGER NOT NULL,
    run INTEGER NOT NULL,
    start INTEGER NOT NULL,
    text BLOB NOT NULL,
    PRIMARY KEY (task_num, series, run, start)
) WITHOUT ROWID;

-- Idempotency keys of one task's changes; num counts them, so that the newest are known.
CREATE TABLE keys (
    task_num INTEGER NOT NULL,
    name BLOB NOT NULL,
    num INTEGER NOT NULL,
    body_hash TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    count INTEGER NOT NULL,
    stored BLOB,
    PRIMARY KEY (task_num, name)
) WITHOUT ROWID;
CREATE INDEX keys_by_age ON keys (task_num, num);

-- Replies that outlive their task's log: of creations and transitions.
CREATE TABLE replies (
    num INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    body_hash TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    count INTEGER NOT NULL,
    stored BLOB
);
CREATE INDEX replies_by_end ON replies (expires_at);

-- Task ids that were promised to a creation's idempotency key.
CREATE TABLE reserved (
    num INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    body_hash TEXT NOT NULL,
    task_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX reserved_by_end ON reserved (expires_at);

CREATE TABLE tombstones (
    task_id BLOB PRIMARY KEY,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;

-- Restore tickets; task_num: of the copy that was brought in.
CREATE TABLE restores (
    task_id BLOB PRIMARY KEY,
    token TEXT NOT NULL,
    lease_until INTEGER NOT NULL,
    task_num INTEGER
) WITHOUT ROWID;

-- Tasks that are gone, but whose rows are still to be removed, piece by piece.
CREATE TABLE leftovers (task_num INTEGER PRIMARY KEY);

-- held_until: of a lease, or of a deferral (then without a token). turn: place in the line; NULL when not dirty.
CREATE TABLE lanes (
    task_num INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    cursor INTEGER NOT NULL DEFAULT -1,
    rev INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    token TEXT NOT NULL DEFAULT '',
    held_until INTEGER NOT NULL DEFAULT 0,
    dirty_since INTEGER,
    turn INTEGER,
    PRIMARY KEY (task_num, name)
) WITHOUT ROWID;
CREATE INDEX lanes_in_line ON lanes (kind, turn) WHERE turn IS NOT NULL;

CREATE TABLE letters (
    id BLOB PRIMARY KEY,
    task_id BLOB NOT NULL,
    lane TEXT NOT NULL,
    idx INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    detail BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE timers (
    task_num INTEGER NOT NULL,
    kind TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    hidden_until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task_num, kind)
) WITHOUT ROWID;
CREATE INDEX timers_by_time ON timers (kind, due_at);

CREATE TABLE workers (
    id BLOB PRIMARY KEY,
    worker BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE assignments (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    task_id BLOB NOT NULL UNIQUE,
    worker_id BLOB NOT NULL,
    cost INTEGER NOT NULL,
    assigned_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    hidden_until INTEGER NOT NULL DEFAULT 0,
    confirmed INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL
);
CREATE INDEX assignments_of_worker ON assignments (worker_id);
CREATE INDEX assignments_by_lease ON assignments (lease_until);
