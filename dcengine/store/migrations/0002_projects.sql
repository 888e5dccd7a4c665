-- Projects with stages: what each stage runs, and tasks whose input is another task's output.

ALTER TABLE project ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;  -- its tasks are not handed out

-- A stage that is no longer declared keeps its row, so that its outputs stay readable; its position is below zero.
-- The built-in stage has no function of its own: each of its tasks brings one.
ALTER TABLE stage ADD COLUMN function INTEGER REFERENCES function;
ALTER TABLE stage ADD COLUMN need INTEGER REFERENCES need;
ALTER TABLE stage ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stage ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stage ADD COLUMN timeout INTEGER;  -- microseconds one run may take

-- The task whose output is this one's input; its own payload.input is empty then.
ALTER TABLE task ADD COLUMN origin INTEGER REFERENCES task;

-- How many ends of its process a task is forgiven.
ALTER TABLE task ADD COLUMN crash_retries INTEGER NOT NULL DEFAULT 2;

-- How jobs left a stage, in order; the tasks of the built-in stage stay out of it, they are never listed so.
CREATE INDEX task_stage ON task (stage, job) WHERE stage > 1;
