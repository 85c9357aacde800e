-- requires: 1
--
-- Every task has a number of its own, never used again; all that belongs to it is keyed by that number. Free text (ids,
-- types, names) is BYTEA in UTF-8, because it may hold NUL and lone surrogates, and because bytes sort as the ids in
-- cursors do. JSON is TEXT, exactly as it was published. Times are Unix milliseconds.

-- The record, columns to find tasks by, and the watermark (epoch, last_index, rev).
-- segments: [[first, epoch, salt], …]. kinds: the distinct [type, level] pairs of the log, numbered by their place.
CREATE TABLE taskcast.tasks (
    num BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id BYTEA NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'hot' CHECK (state IN ('hot', 'cold')),
    epoch BIGINT NOT NULL,
    rev BIGINT NOT NULL,
    last_index BIGINT NOT NULL,
    last_timestamp BIGINT NOT NULL,
    segments TEXT NOT NULL,
    kinds TEXT NOT NULL,
    record TEXT NOT NULL,
    status TEXT NOT NULL,
    type BYTEA,
    created_at BIGINT NOT NULL,
    assign_mode TEXT NOT NULL,
    tags BYTEA[] NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX tasks_by_age ON taskcast.tasks (created_at, id);
CREATE INDEX tasks_by_status ON taskcast.tasks (status, created_at, id);
CREATE INDEX tasks_by_type ON taskcast.tasks (type, created_at, id);
CREATE INDEX tasks_by_tag ON taskcast.tasks USING gin (tags);

-- No foreign key and no index but the primary key: this is the table that grows, and that may be partitioned by task.
-- kind: place in the task's kinds. mode: 0 keep-all, 1 accumulate, 2 latest. run, ends_at: of accumulate entries, see
-- the table texts. given_id: of imported events; the ids of all others follow from task, time and index.
CREATE TABLE taskcast.events (
    task BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    kind INTEGER NOT NULL,
    mode SMALLINT,
    run BIGINT,
    ends_at BIGINT,
    series BYTEA,
    given_id BYTEA,
    text TEXT NOT NULL,
    PRIMARY KEY (task, idx)
);
CREATE INDEX events_by_given_id ON taskcast.events (task, given_id) WHERE given_id IS NOT NULL;

-- Runs of entries that are no longer there. counts: [[kind, how many], …].
CREATE TABLE taskcast.holes (
    task BIGINT NOT NULL,
    last BIGINT NOT NULL,
    first BIGINT NOT NULL,
    first_timestamp BIGINT NOT NULL,
    last_timestamp BIGINT NOT NULL,
    counts TEXT NOT NULL,
    cut_series BOOLEAN NOT NULL,
    lost_series BOOLEAN NOT NULL,
    PRIMARY KEY (task, last),
    UNIQUE (task, first)
);

-- How many entries of each kind stand before an index (those of a hole count at its last index), and that index' time.
CREATE TABLE taskcast.checkpoints (
    task BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (task, idx)
);
CREATE INDEX checkpoints_by_time ON taskcast.checkpoints (task, ts, idx);

-- The state of every accumulate and latest series as of the watermark.
-- last_by_kind: [[kind, index], …]. data: the newest payload, where the entry that brought it has no row.
CREATE TABLE taskcast.series (
    task BIGINT NOT NULL,
    id BYTEA NOT NULL,
    mode SMALLINT NOT NULL,
    last_index BIGINT NOT NULL,
    field BYTEA,
    default_field BYTEA,
    run BIGINT NOT NULL,
    length BIGINT,
    last_by_kind TEXT NOT NULL,
    data BYTEA,
    PRIMARY KEY (task, id)
);

-- The texts of accumulate series in pieces, one for each write: a piece begins at a character of its run, and is never
-- changed. (UTF-8, in which lone surrogates survive.)
CREATE TABLE taskcast.texts (
    task BIGINT NOT NULL,
    series BYTEA NOT NULL,
    run BIGINT NOT NULL,
    starts_at BIGINT NOT NULL,
    text BYTEA NOT NULL,
    PRIMARY KEY (task, series, run, starts_at)
);

-- Timers of tasks whose only copy is here.
CREATE TABLE taskcast.timers (
    task BIGINT NOT NULL,
    kind TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (task, kind)
);
CREATE INDEX timers_by_time ON taskcast.timers (kind, due_at);

-- Up to which epoch a deleted task may not come back.
CREATE TABLE taskcast.tombstones (
    id BYTEA PRIMARY KEY,
    epoch BIGINT NOT NULL,
    deleted_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Numbers of deleted tasks whose rows are still to be removed, piece by piece.
CREATE TABLE taskcast.leftovers (task BIGINT PRIMARY KEY);

-- Events that PostgreSQL refused, as they were; in the log, a hole stands in their place.
CREATE TABLE taskcast.dead_rows (
    task BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    reason TEXT NOT NULL,
    text BYTEA NOT NULL,
    set_aside_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (task, idx)
);

CREATE TABLE taskcast.worker_audit (
    id BYTEA PRIMARY KEY,
    worker_id BYTEA NOT NULL,
    at BIGINT NOT NULL,
    action TEXT NOT NULL,
    data TEXT
);
CREATE INDEX worker_audit_by_worker ON taskcast.worker_audit (worker_id, id);
