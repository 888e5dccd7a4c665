"""What must be true of the tables at any moment: each statement selects a sentence for each row that breaks it."""

from __future__ import annotations

from ..jobs import JobState, State
from .names import CURRENT_TASK, FUNCTIONS
from .standings import HOUR, HOURS

# Codes that stand below as numbers would have to be looked up; so each stands by its name.
OPEN, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED = map(int, JobState)
QUEUED, WAITING, BLOCKED, LEASED, SUCCEEDED, FAILED, CANCELLED, RETURNED = map(int, State)

JOBS = (
    f"""
SELECT printf('job %d is %s, but %d of its tasks are not ended', job.id, job_state(job.state), coalesce(live.n, 0))
FROM job
LEFT JOIN (SELECT job, count(*) AS n FROM task WHERE state < {SUCCEEDED} GROUP BY job) AS live ON live.job = job.id
WHERE coalesce(live.n, 0) <> (job.state = {OPEN})
""",
    f"""
SELECT printf('job %d is %s, but its newest task is %s', job.id, job_state(job.state),
    coalesce(task_state(task.state), 'missing'))
FROM job
LEFT JOIN task ON task.id = {CURRENT_TASK}
WHERE job.state IS NOT CASE
    WHEN task.state < {SUCCEEDED} THEN {OPEN}
    WHEN task.state = {SUCCEEDED} THEN {JOB_SUCCEEDED}
    WHEN task.state = {FAILED} THEN {JOB_FAILED}
    WHEN task.state = {CANCELLED} THEN {JOB_CANCELLED}
END
""",
    f"""
SELECT printf('job %d is %s, but has %s time of its end', job.id, job_state(job.state),
    iif(finished IS NULL, 'no', 'a'))
FROM job
WHERE (finished IS NULL) <> (state = {OPEN})
""",
    f"""
SELECT printf('job counter of project %d: %d jobs are %s, but %d in its table', project.id, coalesce(job_counter.n, 0),
    job_state(code.value), coalesce(found.n, 0))
FROM project, json_each('[{OPEN}, {JOB_SUCCEEDED}, {JOB_FAILED}, {JOB_CANCELLED}]') AS code
LEFT JOIN job_counter ON job_counter.project = project.id AND job_counter.state = code.value
LEFT JOIN (SELECT project, state, count(*) AS n FROM job GROUP BY project, state) AS found
    ON found.project = project.id AND found.state = code.value
WHERE project.id <> {FUNCTIONS} AND project.is_deleted = 0 AND job_counter.n IS NOT coalesce(found.n, 0)
""",
)
TASKS = (
    f"""
SELECT printf('task %d of job %d is leased, but to nobody', id, job)
FROM task
WHERE state = {LEASED} AND worker IS NULL
""",
    f"""
SELECT printf('task %d of job %d is leased with %s', id, job,
    iif(token IS NULL, 'a deadline, but no token', 'a token, but no deadline'))
FROM task
WHERE state = {LEASED} AND (token IS NULL) <> (deadline IS NULL)
""",
    f"""
SELECT printf('task %d of job %d is waiting, but for no time', id, job)
FROM task
WHERE state = {WAITING} AND not_before IS NULL
""",
    """
SELECT printf('task %d of job %d has no values', task.id, task.job)
FROM task
WHERE NOT EXISTS (SELECT 1 FROM payload WHERE payload.task = task.id)
""",
    # Values that are not kept for ever may be gone.
    f"""
SELECT printf('task %d of job %d is %s, but has no output', task.id, task.job, task_state(task.state))
FROM task
JOIN payload ON payload.task = task.id
JOIN job ON job.id = task.job
LEFT JOIN batch ON batch.id = task.batch
WHERE task.state IN ({SUCCEEDED}, {FAILED}, {CANCELLED}) AND payload.output IS NULL AND job.keep IS NULL
    AND batch.keep IS NULL
""",
    f"""
SELECT printf('task %d of job %d is %s, but has an output', task.id, task.job, task_state(task.state))
FROM task
JOIN payload ON payload.task = task.id
WHERE task.state < {SUCCEEDED} AND payload.output IS NOT NULL
""",
    f"""
SELECT printf('task %d of job %d takes the output of task %d, which %s', task.id, task.job, task.origin,
    CASE
        WHEN origin.id IS NULL THEN 'is not there'
        WHEN origin.job <> task.job THEN printf('is one of job %d', origin.job)
        ELSE 'is ' || task_state(origin.state)
    END)
FROM task
LEFT JOIN task AS origin ON origin.id = task.origin
WHERE task.origin IS NOT NULL AND task.state <> {RETURNED}
    AND (origin.id IS NULL OR origin.job <> task.job OR origin.state <> {SUCCEEDED})
""",
    """
SELECT printf('task %d of job %d has %d flags, but %d voters', task.id, task.job, task.flags, coalesce(voted.n, 0))
FROM task
LEFT JOIN (SELECT task, count(*) AS n FROM flag GROUP BY task) AS voted ON voted.task = task.id
WHERE task.flags <> coalesce(voted.n, 0)
""",
)
GATHERS = (
    f"""
SELECT printf('task %d of job %d is blocked, but gathers nothing and waits for no argument', id, job)
FROM task
WHERE state = {BLOCKED} AND NOT EXISTS (SELECT 1 FROM gather WHERE gather.task = task.id)
    AND NOT EXISTS (SELECT 1 FROM dependency WHERE dependency.task = task.id AND is_open = 1)
""",
    """
SELECT printf('task %d of job %d gathers %d parts, but there are %d', gather.task, task.job, gather.parts,
    coalesce(part.n, 0))
FROM gather
JOIN task ON task.id = gather.task
JOIN job ON job.id = task.job
JOIN project ON project.id = job.project AND project.is_deleted = 0
LEFT JOIN (SELECT gather, count(*) AS n FROM job WHERE gather IS NOT NULL GROUP BY gather) AS part
    ON part.gather = gather.source
WHERE gather.parts <> coalesce(part.n, 0)
""",
    # A part that has failed is in where such are skipped.
    f"""
SELECT printf('task %d of job %d waits for %d parts, but %d are not in', gather.task, task.job, gather.left,
    coalesce(part.n, 0))
FROM gather
JOIN task ON task.id = gather.task AND task.state = {BLOCKED}
JOIN stage ON stage.id = task.stage
JOIN project ON project.id = stage.project AND project.is_deleted = 0
LEFT JOIN (
    SELECT job.gather, sum(job.state = {OPEN} OR (job.state <> {JOB_SUCCEEDED} AND stage.on_failed_part <> 'skip')) AS n
    FROM job
    JOIN task ON task.id = job.gather
    JOIN stage ON stage.id = task.stage
    GROUP BY job.gather
) AS part ON part.gather = gather.source
WHERE gather.left <> coalesce(part.n, 0)
""",
    f"""
SELECT printf('task %d of job %d is %s, though %s', gather.task, task.job, task_state(task.state),
    iif(task.state = {BLOCKED}, 'it waits for nothing', printf('%d of its parts are not in', gather.left)))
FROM gather
JOIN task ON task.id = gather.task
WHERE CASE
    WHEN task.state = {BLOCKED} THEN gather.left = 0 AND gather.is_open = 0
    WHEN task.state IN ({QUEUED}, {WAITING}, {LEASED}, {SUCCEEDED}) THEN gather.left <> 0
END
""",
)
DEPENDENCIES = (
    f"""
SELECT printf('task %d of job %d is %s, though the result of job %d is not in', task.id, task.job,
    task_state(task.state), min(dependency.job))
FROM dependency
JOIN task ON task.id = dependency.task
WHERE dependency.is_open = 1 AND task.state IN ({QUEUED}, {WAITING}, {LEASED}, {SUCCEEDED})
GROUP BY task.id
""",
    # What has succeeded may be deleted since, or its values may be gone.
    f"""
SELECT printf('task %d takes the result of job %d, which is %s, but is said to %s', dependency.task, dependency.job,
    job_state(job.state), iif(is_open, 'be open', 'have succeeded'))
FROM dependency
JOIN job ON job.id = dependency.job
LEFT JOIN payload ON payload.task = job.id
WHERE (dependency.is_open = 1) = (job.state = {JOB_SUCCEEDED}) AND (is_open = 0 OR payload.output IS NOT NULL)
""",
    f"""
SELECT printf('task %d takes the result of item %d of batch %d, which is %s, but is said to %s', dependency.task,
    dependency.job - batch.first_job, batch.id, iif(chunk.id IS NULL, 'open', task_state(chunk.state)),
    iif(is_open, 'be open', 'have succeeded'))
FROM dependency
JOIN batch ON batch.first_job <= dependency.job AND dependency.job < batch.first_job + batch.count
LEFT JOIN chunk ON chunk.batch = batch.id AND chunk.first <= dependency.job - batch.first_job
    AND dependency.job - batch.first_job < chunk.first + chunk.count
WHERE (dependency.is_open = 1) = (chunk.state IS {SUCCEEDED}) AND (is_open = 0 OR length(chunk.data) > 0)
""",
    f"""
SELECT printf('task %d of job %d is blocked, though job %d is %s', task.id, task.job, job.id, job_state(job.state))
FROM task
JOIN dependency ON dependency.task = task.id AND dependency.is_open = 1
JOIN job ON job.id = dependency.job
WHERE task.state = {BLOCKED} AND job.state <> {OPEN}
""",
)
BATCHES = (
    """
SELECT printf('items %d to %d of batch %d end in chunk %d, though %s', chunk.first, chunk.first + chunk.count - 1,
    batch.id, chunk.id, iif(chunk.first + chunk.count > batch.count, 'there are no such', 'they had ended before'))
FROM (SELECT *, max(first + count) OVER earlier AS ended FROM chunk
    WINDOW earlier AS (PARTITION BY batch ORDER BY first ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS chunk
JOIN batch ON batch.id = chunk.batch
WHERE chunk.first < chunk.ended OR chunk.first + chunk.count > batch.count
""",
    f"""
SELECT printf('batch %d has %d succeeded, %d failed, %d cancelled items, but %d, %d, %d in its chunks', batch.id,
    batch.succeeded, batch.failed, batch.cancelled, coalesce(found.s, 0), coalesce(found.f, 0), coalesce(found.c, 0))
FROM batch
LEFT JOIN (
    SELECT batch, sum(count * (state = {SUCCEEDED})) AS s, sum(count * (state = {FAILED})) AS f,
        sum(count * (state = {CANCELLED})) AS c
    FROM chunk
    GROUP BY batch
) AS found ON found.batch = batch.id
WHERE (batch.succeeded, batch.failed, batch.cancelled)
    <> (coalesce(found.s, 0), coalesce(found.f, 0), coalesce(found.c, 0))
""",
    f"""
SELECT printf('batch %d is %s with %d succeeded, %d failed, %d cancelled of %d items', id, job_state(state), succeeded,
    failed, cancelled, count)
FROM batch
WHERE state <> CASE
    WHEN succeeded + failed + cancelled < count THEN {OPEN}
    WHEN failed > 0 THEN {JOB_FAILED}
    WHEN cancelled > 0 THEN {JOB_CANCELLED}
    ELSE {JOB_SUCCEEDED}
END
""",
    f"""
SELECT printf('task %d of batch %d is %s, but %s', task.id, task.batch, task_state(task.state),
    iif(chunk.id IS NULL, 'no chunk says so', 'a chunk says ' || task_state(chunk.state)))
FROM task
JOIN batch ON batch.id = task.batch
LEFT JOIN chunk ON chunk.batch = batch.id AND chunk.first = task.job - batch.first_job
WHERE chunk.state IS NOT iif(task.state < {SUCCEEDED}, NULL, task.state)
""",
    # Events from before schema 3 do not say it as exactly as that.
    """
SELECT printf('items %d to %d of batch %d are %s, but no event tells of it', ended.first,
    ended.first + ended.count - 1, ended.batch, task_state(ended.state))
FROM (
    SELECT chunk.batch, chunk.first, chunk.count, chunk.state
    FROM chunk
    JOIN batch ON batch.id = chunk.batch
    WHERE batch.first_job >= coalesce((SELECT value FROM meta WHERE key = 'told_from'), 1)
    EXCEPT
    SELECT event.batch, event.job - batch.first_job, event.units, event.state
    FROM event
    JOIN batch ON batch.id = event.batch
) AS ended
""",
    f"""
SELECT printf('chunk %d of batch %d has %d entries of credit, %d units in all, for %d items %s', chunk.id, chunk.batch,
    coalesce(given.n, 0), coalesce(given.units, 0), chunk.count, task_state(chunk.state))
FROM chunk
LEFT JOIN (SELECT chunk, count(*) AS n, sum(units) AS units FROM credit WHERE chunk IS NOT NULL GROUP BY chunk) AS given
    ON given.chunk = chunk.id
WHERE (coalesce(given.n, 0), coalesce(given.units, 0))
    <> (chunk.state = {SUCCEEDED}, iif(chunk.state = {SUCCEEDED}, chunk.count, 0))
""",
    """
SELECT printf('credit %d is for chunk %d, which is not there', credit.id, credit.chunk)
FROM credit
WHERE credit.chunk IS NOT NULL AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.id = credit.chunk)
""",
)
SPANS = ("units", *HOURS)
STANDINGS = (
    """
SELECT printf('contributor %d has %d units of credit in project %d, but %d by its entries', of.contributor,
    coalesce(standing.units, 0), of.project, coalesce(given.units, 0))
FROM (SELECT project, contributor FROM standing UNION SELECT project, contributor FROM credit) AS of
JOIN project ON project.id = of.project AND project.is_deleted = 0
LEFT JOIN standing ON standing.project = of.project AND standing.contributor = of.contributor
LEFT JOIN (
    SELECT project, contributor, sum(units) AS units FROM credit WHERE void = 0 GROUP BY project, contributor
) AS given ON given.project = of.project AND given.contributor = of.contributor
WHERE coalesce(standing.units, 0) <> coalesce(given.units, 0)
""",
    f"""
SELECT printf('contributor %d has %d units of hour %d in project %d, but %d by its entries', of.contributor,
    coalesce(earning.units, 0), of.hour, of.project, coalesce(given.units, 0))
FROM (
    SELECT hour, project, contributor FROM earning
    UNION
    SELECT at / {HOUR}, project, contributor FROM credit
    WHERE at / {HOUR} > (SELECT value FROM meta WHERE key = 'hour') - {HOURS["month"]}
) AS of
JOIN project ON project.id = of.project AND project.is_deleted = 0
LEFT JOIN earning ON earning.hour = of.hour AND earning.project = of.project
    AND earning.contributor = of.contributor
LEFT JOIN (
    SELECT at / {HOUR} AS hour, project, contributor, sum(units) AS units
    FROM credit
    WHERE void = 0
    GROUP BY 1, project, contributor
) AS given ON given.hour = of.hour AND given.project = of.project AND given.contributor = of.contributor
WHERE coalesce(earning.units, 0) <> coalesce(given.units, 0)
""",
    *(
        f"""
SELECT printf('contributor %d has %d units of the last {span} in project %d, but %d by its hours',
    standing.contributor, standing.{span}, standing.project, coalesce(sum(earning.units), 0))
FROM standing
JOIN project ON project.id = standing.project AND project.is_deleted = 0
LEFT JOIN earning ON earning.project = standing.project AND earning.contributor = standing.contributor
    AND earning.hour > (SELECT value FROM meta WHERE key = 'hour') - {hours}
GROUP BY standing.project, standing.contributor
HAVING standing.{span} <> coalesce(sum(earning.units), 0)
"""
        for span, hours in HOURS.items()
    ),
    *(
        f"""
SELECT printf('project %d has %d contributors with %d in column {span} of their standings, but %d with %d in all',
    total.project, sum(standing.{span} > 0), sum(standing.{span}), total.{span}_contributors, total.{span})
FROM standing_total AS total
JOIN project ON project.id = total.project AND project.is_deleted = 0
LEFT JOIN standing ON standing.project = total.project
GROUP BY total.project
HAVING (total.{span}, total.{span}_contributors)
    <> (coalesce(sum(standing.{span}), 0), coalesce(sum(standing.{span} > 0), 0))
"""
        for span in SPANS
    ),
)
INVARIANTS = (*JOBS, *TASKS, *GATHERS, *DEPENDENCIES, *BATCHES, *STANDINGS)
