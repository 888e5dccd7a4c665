-- The first schema: functions as jobs and batches, events, counters, credit.
-- Times are integer microseconds since 1970; states are the codes of jobs.State and jobs.JobState.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

CREATE TABLE project (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    last_number INTEGER NOT NULL DEFAULT 0  -- the newest job number within the project
) STRICT;

CREATE TABLE stage (
    id INTEGER PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (project, position),
    UNIQUE (project, name)
) STRICT;

-- A tag expression that work asks for, each text once.
CREATE TABLE need (
    id INTEGER PRIMARY KEY,
    tags TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE function (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    code BLOB NOT NULL
) STRICT;

CREATE TABLE contributor (
    id INTEGER PRIMARY KEY,
    nickname TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project,
    number INTEGER NOT NULL,
    state INTEGER NOT NULL,
    function INTEGER REFERENCES function,
    batch INTEGER REFERENCES batch,
    key TEXT,
    submitter TEXT NOT NULL,
    created INTEGER NOT NULL,
    finished INTEGER
) STRICT;

CREATE UNIQUE INDEX job_number ON job (project, number);
CREATE UNIQUE INDEX job_key ON job (project, key) WHERE key IS NOT NULL;
CREATE INDEX job_open ON job (id) WHERE state = 0;
CREATE INDEX job_failed ON job (id) WHERE state = 2;

-- Hot rows stay small: what travels lies in payload.
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES job,
    stage INTEGER NOT NULL REFERENCES stage,
    batch INTEGER REFERENCES batch,
    generation INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL,
    need INTEGER NOT NULL REFERENCES need,
    priority INTEGER NOT NULL DEFAULT 0,
    function INTEGER REFERENCES function,
    attempt INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    vanished INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    timeout INTEGER,     -- microseconds one run may take
    not_before INTEGER,  -- set while waiting
    worker TEXT          -- who holds it, or held it last
) STRICT;

-- Partial, so that taking the next one costs the same with ten and ten million rows behind it.
CREATE INDEX task_queued ON task (stage, need, priority DESC, id) WHERE state = 0;
CREATE INDEX task_due ON task (not_before) WHERE state = 1;
CREATE INDEX task_leased ON task (id) WHERE state = 3;
CREATE INDEX task_job ON task (job);

CREATE TABLE payload (
    task INTEGER PRIMARY KEY REFERENCES task,
    input BLOB NOT NULL,
    output BLOB  -- the packed result, or the packed failure
) STRICT;

-- The jobs of one map: a reserved range of job ids and numbers, no row per item.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    stage INTEGER NOT NULL REFERENCES stage,
    function INTEGER NOT NULL REFERENCES function,
    need INTEGER NOT NULL REFERENCES need,
    first_job INTEGER NOT NULL UNIQUE,
    first_number INTEGER NOT NULL,
    count INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    timeout INTEGER,
    submitter TEXT NOT NULL,
    state INTEGER NOT NULL,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    finished INTEGER
) STRICT;

CREATE INDEX batch_open ON batch (id) WHERE state = 0;

-- The inputs of a batch, packed in blocks of consecutive items.
CREATE TABLE block (
    batch INTEGER NOT NULL REFERENCES batch,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (batch, first)
) STRICT, WITHOUT ROWID;

-- Consecutive items of a batch that ended alike: their outputs packed, in the order of acceptance.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL REFERENCES batch,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    state INTEGER NOT NULL,
    worker TEXT,
    data BLOB NOT NULL,
    finished INTEGER NOT NULL,
    UNIQUE (batch, first)
) STRICT;

CREATE INDEX chunk_order ON chunk (batch, id);

-- What a job printed, in order.
CREATE TABLE output (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    job INTEGER PRIMARY KEY,
    done REAL NOT NULL,
    total REAL,
    text TEXT NOT NULL
) STRICT;

-- Everything that happened, in order: audit and cursor of the event stream.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    job INTEGER,
    batch INTEGER,
    units INTEGER NOT NULL DEFAULT 1,
    attempt INTEGER,
    worker TEXT,
    detail TEXT
) STRICT;

-- How many tasks, items of batches included, are in each state.
CREATE TABLE counter (
    stage INTEGER NOT NULL REFERENCES stage,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (stage, state)
) STRICT, WITHOUT ROWID;

-- One entry per accepted task or chunk; standing holds the sums.
CREATE TABLE credit (
    id INTEGER PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project,
    contributor INTEGER NOT NULL REFERENCES contributor,
    task INTEGER,
    chunk INTEGER,
    units INTEGER NOT NULL,
    at INTEGER NOT NULL,
    void INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX credit_task ON credit (task) WHERE task IS NOT NULL AND void = 0;
CREATE UNIQUE INDEX credit_chunk ON credit (chunk) WHERE chunk IS NOT NULL AND void = 0;

CREATE TABLE standing (
    project INTEGER NOT NULL REFERENCES project,
    contributor INTEGER NOT NULL REFERENCES contributor,
    units INTEGER NOT NULL,
    PRIMARY KEY (project, contributor)
) STRICT, WITHOUT ROWID;

-- A repeated request gets the answer of the first.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    job INTEGER,
    batch INTEGER
) STRICT, WITHOUT ROWID;

-- The same tasks as text, for people with a SQLite shell.
CREATE VIEW task_text AS
SELECT
    task.id,
    task.job,
    CASE task.state
        WHEN 0 THEN 'queued' WHEN 1 THEN 'waiting' WHEN 2 THEN 'blocked' WHEN 3 THEN 'leased'
        WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed' WHEN 6 THEN 'cancelled'
    END AS state,
    need.tags,
    task.priority,
    task.attempt,
    task.errors,
    task.worker,
    datetime(job.created / 1000000, 'unixepoch') AS created,
    datetime(job.finished / 1000000, 'unixepoch') AS finished
FROM task
JOIN job ON job.id = task.job
JOIN need ON need.id = task.need;

INSERT INTO project (id, name, created) VALUES (1, 'functions', CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER));
INSERT INTO stage (id, project, position, name) VALUES (1, 1, 0, 'call');
INSERT INTO counter (stage, state, n) VALUES (1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 0), (1, 5, 0), (1, 6, 0);
INSERT INTO meta (key, value) VALUES ('epoch', 0), ('created_by', 'dcengine');
