-- Staged projects in full: lease stages, parts, feedback, credit over time, import, values outside the file.

-- Who brings work, each name once: the queue takes turns between them.
CREATE TABLE submitter (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

INSERT INTO submitter (name)
SELECT submitter FROM job UNION SELECT submitter FROM batch;

ALTER TABLE project ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0;  -- its rows are being removed

ALTER TABLE stage ADD COLUMN crash_retries INTEGER NOT NULL DEFAULT 2;
ALTER TABLE stage ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE stage ADD COLUMN kind TEXT NOT NULL DEFAULT 'function';
ALTER TABLE stage ADD COLUMN shape TEXT NOT NULL DEFAULT 'map';
ALTER TABLE stage ADD COLUMN lease_seconds REAL NOT NULL DEFAULT 600;
ALTER TABLE stage ADD COLUMN back_off REAL NOT NULL DEFAULT 0.1;
ALTER TABLE stage ADD COLUMN back_off_limit REAL NOT NULL DEFAULT 60;
ALTER TABLE stage ADD COLUMN votes INTEGER NOT NULL DEFAULT 1;
ALTER TABLE stage ADD COLUMN generations INTEGER NOT NULL DEFAULT 3;
ALTER TABLE stage ADD COLUMN credit TEXT NOT NULL DEFAULT 'task';
ALTER TABLE stage ADD COLUMN on_failed_part TEXT NOT NULL DEFAULT 'fail';
ALTER TABLE stage ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;

ALTER TABLE job ADD COLUMN brought_by INTEGER REFERENCES submitter;
UPDATE job SET brought_by = (SELECT id FROM submitter WHERE name = job.submitter);
ALTER TABLE job DROP COLUMN submitter;
ALTER TABLE job RENAME COLUMN brought_by TO submitter;
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;  -- that of its stage is added to it
UPDATE job SET priority = coalesce((SELECT priority FROM task WHERE task.id = job.id), 0) WHERE project = 1;
ALTER TABLE job ADD COLUMN parent INTEGER REFERENCES job;   -- whose output this one is a part of
ALTER TABLE job ADD COLUMN gather INTEGER REFERENCES task;  -- the task that waits for it as one of its parts
ALTER TABLE job ADD COLUMN keep INTEGER;     -- microseconds that its values are kept after its end; for ever
ALTER TABLE job ADD COLUMN expires INTEGER;  -- when they are removed

ALTER TABLE batch ADD COLUMN brought_by INTEGER REFERENCES submitter;
UPDATE batch SET brought_by = (SELECT id FROM submitter WHERE name = batch.submitter);
ALTER TABLE batch DROP COLUMN submitter;
ALTER TABLE batch RENAME COLUMN brought_by TO submitter;
ALTER TABLE batch ADD COLUMN not_before INTEGER;
ALTER TABLE batch ADD COLUMN keep INTEGER;
ALTER TABLE batch ADD COLUMN expires INTEGER;

ALTER TABLE task ADD COLUMN submitter INTEGER NOT NULL DEFAULT 0;
UPDATE task SET submitter = coalesce((SELECT submitter FROM job WHERE job.id = task.job), 0);
ALTER TABLE task ADD COLUMN contributor INTEGER REFERENCES contributor;  -- who holds it, or held it last
ALTER TABLE task ADD COLUMN token INTEGER;     -- known to its holder alone
ALTER TABLE task ADD COLUMN deadline INTEGER;  -- of an outside worker's lease, as it was given
ALTER TABLE task ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN finished INTEGER;

-- Indexes hold what is looked for and nothing else: rows that only wait enter one of them.
DROP INDEX task_queued;
CREATE INDEX task_queued ON task (stage, need, submitter, priority DESC, id) WHERE state = 0 AND flags = 0;
CREATE INDEX task_flagged ON task (stage, need, id) WHERE state = 0 AND flags > 0;
DROP INDEX task_job;
CREATE INDEX task_later ON task (job, id) WHERE id >= 1099511627776;  -- a job's first task has the job's own id
DROP INDEX task_stage;
CREATE INDEX task_ended ON task (stage, job) WHERE stage > 1 AND state IN (4, 5);
CREATE INDEX task_blocked ON task (stage, id) WHERE state = 2;
CREATE INDEX task_batch ON task (batch) WHERE batch IS NOT NULL;
DROP INDEX job_open;
CREATE INDEX job_part ON job (gather, id) WHERE gather IS NOT NULL;
CREATE INDEX job_expires ON job (expires) WHERE expires IS NOT NULL;
CREATE INDEX batch_expires ON batch (expires) WHERE expires IS NOT NULL;

-- What became of the jobs of each project, as jobs.JobState; the built-in one has none.
CREATE TABLE job_counter (
    project INTEGER NOT NULL REFERENCES project,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (project, state)
) STRICT, WITHOUT ROWID;

INSERT INTO job_counter (project, state, n)
SELECT project.id, code.value, (SELECT count(*) FROM job WHERE job.project = project.id AND job.state = code.value)
FROM project, json_each('[0, 1, 2, 3]') AS code
WHERE project.id > 1;

-- The parts that a blocked gather counts down.
CREATE TABLE gather (
    task INTEGER PRIMARY KEY REFERENCES task,
    source INTEGER NOT NULL,  -- the gather that the parts name: another one once the job was sent back to this stage
    parts INTEGER NOT NULL,
    left INTEGER NOT NULL,    -- not in yet, and not skipped
    is_open INTEGER NOT NULL DEFAULT 0,  -- more parts are being added
    is_cut INTEGER NOT NULL DEFAULT 0    -- it has ended; what is open of its parts is to be cancelled
) STRICT;

CREATE INDEX gather_cut ON gather (task) WHERE is_cut = 1;

-- Distinct voters on the input of one task, so of one generation.
CREATE TABLE flag (
    task INTEGER NOT NULL REFERENCES task,
    voter TEXT NOT NULL,
    reason TEXT NOT NULL,
    worker TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (task, voter)
) STRICT, WITHOUT ROWID;

-- Credit by contributor and hour, and the sums over the last hours that leaderboards show.
CREATE TABLE earning (
    hour INTEGER NOT NULL,  -- since 1970
    project INTEGER NOT NULL REFERENCES project,
    contributor INTEGER NOT NULL REFERENCES contributor,
    units INTEGER NOT NULL,
    PRIMARY KEY (hour, project, contributor)
) STRICT, WITHOUT ROWID;

ALTER TABLE standing ADD COLUMN day INTEGER NOT NULL DEFAULT 0;    -- units of the last 24 hours
ALTER TABLE standing ADD COLUMN week INTEGER NOT NULL DEFAULT 0;
ALTER TABLE standing ADD COLUMN month INTEGER NOT NULL DEFAULT 0;  -- 30 days
CREATE INDEX standing_units ON standing (project, units DESC);
CREATE INDEX standing_day ON standing (project, day DESC);
CREATE INDEX standing_week ON standing (project, week DESC);
CREATE INDEX standing_month ON standing (project, month DESC);

INSERT INTO meta (key, value) VALUES ('hour', CAST(strftime('%s', 'now') AS INTEGER) / 3600);  -- up to which the sums are right
INSERT INTO earning (hour, project, contributor, units)
SELECT at / 3600000000, project, contributor, sum(units)
FROM credit
WHERE void = 0 AND at / 3600000000 > CAST(strftime('%s', 'now') AS INTEGER) / 3600 - 720
GROUP BY 1, 2, 3;
UPDATE standing SET
    day = coalesce((SELECT sum(units) FROM earning WHERE earning.project = standing.project
        AND earning.contributor = standing.contributor AND hour > CAST(strftime('%s', 'now') AS INTEGER) / 3600 - 24), 0),
    week = coalesce((SELECT sum(units) FROM earning WHERE earning.project = standing.project
        AND earning.contributor = standing.contributor AND hour > CAST(strftime('%s', 'now') AS INTEGER) / 3600 - 168), 0),
    month = coalesce((SELECT sum(units) FROM earning WHERE earning.project = standing.project
        AND earning.contributor = standing.contributor), 0);

-- How far an import has come, so that it can be taken up where it stopped.
CREATE TABLE import (
    project INTEGER NOT NULL REFERENCES project,
    name TEXT NOT NULL,
    items INTEGER NOT NULL,
    digest BLOB NOT NULL,  -- of the items so far
    root INTEGER,          -- the job whose parts they are, where a gather waits for them
    updated INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

ALTER TABLE request ADD COLUMN answer TEXT;  -- for requests that are answered with more than an id

-- Values outside the file, by their digest; written down before they are stored.
CREATE TABLE blob (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A value that lies outside begins with a B and has 41 bytes; only such rows are in these.
CREATE INDEX payload_input_blob ON payload (input) WHERE length(input) = 41 AND substr(input, 1, 1) = x'42';
CREATE INDEX payload_output_blob ON payload (output) WHERE length(output) = 41 AND substr(output, 1, 1) = x'42';
CREATE INDEX block_blob ON block (data) WHERE length(data) = 41 AND substr(data, 1, 1) = x'42';
CREATE INDEX chunk_blob ON chunk (data) WHERE length(data) = 41 AND substr(data, 1, 1) = x'42';

-- Every event says what it moved, so that all the rest can be told from them.
ALTER TABLE event ADD COLUMN task INTEGER;
ALTER TABLE event ADD COLUMN stage INTEGER;
ALTER TABLE event ADD COLUMN state INTEGER;        -- the task's, after it
ALTER TABLE event ADD COLUMN contributor INTEGER;
ALTER TABLE event ADD COLUMN credit INTEGER;       -- given, or taken back below zero
ALTER TABLE event ADD COLUMN seconds REAL;         -- that the run took
-- What went wrong with a job: few events, so they can be found.
-- Ranges, because SQLite builds a set for every row of a longer IN (...).
CREATE INDEX event_trouble ON event (job, seq) WHERE kind BETWEEN 5 AND 7 OR kind BETWEEN 10 AND 12;

INSERT INTO meta (key, value) VALUES ('id', lower(hex(randomblob(8))));
INSERT INTO counter (stage, state, n) SELECT id, 7, 0 FROM stage;  -- returned
DROP VIEW task_text;
CREATE VIEW task_text AS
SELECT
    task.id,
    task.job,
    stage.name AS stage,
    task.generation,
    CASE task.state
        WHEN 0 THEN 'queued' WHEN 1 THEN 'waiting' WHEN 2 THEN 'blocked' WHEN 3 THEN 'leased'
        WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed' WHEN 6 THEN 'cancelled' WHEN 7 THEN 'returned'
    END AS state,
    need.tags,
    task.priority,
    task.attempt,
    task.errors,
    task.flags,
    task.worker,
    datetime(job.created / 1000000, 'unixepoch') AS created,
    datetime(task.finished / 1000000, 'unixepoch') AS finished
FROM task
JOIN job ON job.id = task.job
JOIN stage ON stage.id = task.stage
JOIN need ON need.id = task.need;

-- What the contributors of a project have earned together, and how many of them have earned something.
CREATE TABLE standing_total (
    project INTEGER PRIMARY KEY REFERENCES project,
    units INTEGER NOT NULL,
    day INTEGER NOT NULL,
    week INTEGER NOT NULL,
    month INTEGER NOT NULL,
    units_contributors INTEGER NOT NULL,
    day_contributors INTEGER NOT NULL,
    week_contributors INTEGER NOT NULL,
    month_contributors INTEGER NOT NULL
) STRICT;

INSERT INTO standing_total
SELECT project, sum(units), sum(day), sum(week), sum(month), sum(units > 0), sum(day > 0), sum(week > 0), sum(month > 0)
FROM standing
GROUP BY project;

CREATE TRIGGER standing_inserted AFTER INSERT ON standing BEGIN
    INSERT INTO standing_total
    VALUES (
        new.project, new.units, new.day, new.week, new.month, new.units > 0, new.day > 0, new.week > 0, new.month > 0
    )
    ON CONFLICT (project) DO UPDATE SET
        units = units + excluded.units, day = day + excluded.day, week = week + excluded.week,
        month = month + excluded.month, units_contributors = units_contributors + excluded.units_contributors,
        day_contributors = day_contributors + excluded.day_contributors,
        week_contributors = week_contributors + excluded.week_contributors,
        month_contributors = month_contributors + excluded.month_contributors;
END;

CREATE TRIGGER standing_updated AFTER UPDATE ON standing BEGIN
    UPDATE standing_total SET
        units = units + new.units - old.units, day = day + new.day - old.day, week = week + new.week - old.week,
        month = month + new.month - old.month,
        units_contributors = units_contributors + (new.units > 0) - (old.units > 0),
        day_contributors = day_contributors + (new.day > 0) - (old.day > 0),
        week_contributors = week_contributors + (new.week > 0) - (old.week > 0),
        month_contributors = month_contributors + (new.month > 0) - (old.month > 0)
    WHERE project = new.project;
END;

-- The parts of a job that nothing waits for.
CREATE INDEX job_loose_part ON job (parent, id) WHERE parent IS NOT NULL AND gather IS NULL;

-- The ids below these were given away once, though their rows may be deleted.
INSERT INTO meta (key, value) VALUES ('next_job', 1), ('next_task', 1);

-- The first job whose events tell all of it: those from before do not say which task they moved.
INSERT INTO meta (key, value)
VALUES (
    'told_from',
    1 + max((SELECT coalesce(max(id), 0) FROM job), (SELECT coalesce(max(first_job + count - 1), 0) FROM batch))
);
