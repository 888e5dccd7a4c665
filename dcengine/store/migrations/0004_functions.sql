-- Functions in full: how a call is to be run, calls that wait for others, values that many calls refer to.

-- Bits of jobs.How.
ALTER TABLE task ADD COLUMN how INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN how INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stage ADD COLUMN how INTEGER NOT NULL DEFAULT 0;

-- The jobs whose results a call takes as arguments: it is blocked until all of them have succeeded.
CREATE TABLE dependency (
    task INTEGER NOT NULL REFERENCES task,
    job INTEGER NOT NULL,  -- perhaps an item of a batch, so without a row
    is_open INTEGER NOT NULL,  -- it has not succeeded yet
    PRIMARY KEY (task, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependency_job ON dependency (job, is_open);
CREATE INDEX dependency_open ON dependency (task) WHERE is_open = 1;

-- Values that were put for calls to refer to; they lie among the blobs and are kept until they expire.
CREATE TABLE value (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER
) STRICT, WITHOUT ROWID;
