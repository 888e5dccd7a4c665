"""The table of routes, each with the role it needs, and the application made from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from ..verbs import Verbs
from . import batches, cluster, front, guards, jobs, leases, projects, upkeep, values
from .access import ACCESS, ROLES, Access, Role, check_role
from .answers import SUBMISSION_LIMIT, VERBS, answer_errors
from .repeats import REPEATS, Repeats, answer_repeats, keep_repeats


class Route(NamedTuple):
    """One address: who may ask, and who answers."""

    method: str
    path: str
    role: Role | None
    handler: Handler


OPEN = None  #: the role of a route that needs no token

ROUTES = (
    Route("GET", "/", OPEN, front.front_page),
    Route("GET", "/healthz", OPEN, front.healthz),
    Route("GET", "/readyz", OPEN, front.readyz),
    Route("POST", "/v1/jobs", Role.SUBMIT, jobs.submit),
    Route("GET", "/v1/jobs", Role.VIEW, jobs.jobs),
    Route("POST", "/v1/jobs/cancel-unfinished", Role.SUBMIT, jobs.cancel_unfinished),
    Route("POST", "/v1/jobs/ends", Role.VIEW, jobs.ends),
    Route("POST", "/v1/jobs/retry", Role.SUBMIT, jobs.retry),
    Route("GET", "/v1/jobs/{id}", Role.VIEW, jobs.job),
    Route("GET", "/v1/jobs/{id}/result", Role.VIEW, jobs.result),
    Route("GET", "/v1/jobs/{id}/output", Role.VIEW, jobs.output),
    Route("GET", "/v1/jobs/{id}/transcript", Role.VIEW, jobs.transcript),
    Route("GET", "/v1/jobs/{id}/why", Role.VIEW, jobs.why),
    Route("GET", "/v1/jobs/{id}/history", Role.VIEW, jobs.history),
    Route("POST", "/v1/jobs/{id}/edit", Role.SUBMIT, jobs.edit),
    Route("POST", "/v1/jobs/{id}/interrupt", Role.SUBMIT, jobs.interrupt),
    Route("POST", "/v1/jobs/{id}/kill", Role.SUBMIT, jobs.kill),
    Route("POST", "/v1/jobs/{id}/cancel", Role.SUBMIT, jobs.cancel),
    Route("POST", "/v1/batches", Role.SUBMIT, batches.submit),
    Route("GET", "/v1/batches", Role.VIEW, batches.batches),
    Route("GET", "/v1/batches/{id}", Role.VIEW, batches.batch),
    Route("GET", "/v1/batches/{id}/reports", Role.VIEW, batches.reports),
    Route("GET", "/v1/batches/{id}/failures", Role.VIEW, batches.failures),
    Route("POST", "/v1/batches/{id}/cancel", Role.SUBMIT, batches.cancel),
    Route("POST", "/v1/batches/{id}/retry", Role.SUBMIT, batches.retry),
    Route("POST", "/v1/projects", Role.SUBMIT, projects.declare),
    Route("GET", "/v1/projects", Role.VIEW, projects.projects),
    Route("GET", "/v1/projects/{name}", Role.VIEW, projects.project),
    Route("DELETE", "/v1/projects/{name}", Role.SUBMIT, projects.delete),
    Route("GET", "/v1/projects/{name}/deletion", Role.VIEW, projects.deletion),
    Route("POST", "/v1/projects/{name}/run", Role.SUBMIT, projects.run),
    Route("POST", "/v1/projects/{name}/pause", Role.SUBMIT, projects.pause),
    Route("POST", "/v1/projects/{name}/cancel", Role.SUBMIT, projects.cancel),
    Route("POST", "/v1/projects/{name}/retry", Role.SUBMIT, projects.retry),
    Route("GET", "/v1/projects/{name}/imports", Role.VIEW, projects.imported),
    Route("POST", "/v1/projects/{name}/jobs", Role.SUBMIT, projects.add),
    Route("GET", "/v1/projects/{name}/jobs/{number}", Role.VIEW, projects.find_job),
    Route("GET", "/v1/projects/{name}/outputs", Role.VIEW, projects.outputs),
    Route("GET", "/v1/projects/{name}/failed-jobs", Role.VIEW, projects.failed_jobs),
    Route("POST", "/v1/projects/{name}/stages/{stage}/lease", Role.WORKER, leases.lease),
    Route("POST", "/v1/tasks/heartbeat", Role.WORKER, leases.heartbeat),
    Route("POST", "/v1/tasks/complete", Role.WORKER, leases.complete),
    Route("POST", "/v1/tasks/fail", Role.WORKER, leases.fail),
    Route("POST", "/v1/tasks/flag", Role.WORKER, leases.flag),
    Route("POST", "/v1/tasks/release", Role.WORKER, leases.release),
    Route("POST", "/v1/values", Role.SUBMIT, values.put),
    Route("GET", "/v1/values/{digest}", Role.VIEW, values.value),
    Route("GET", "/v1/values/{digest}/content", Role.VIEW, values.content),
    Route("DELETE", "/v1/values/{digest}", Role.SUBMIT, values.delete),
    Route("GET", "/v1/workers", Role.VIEW, cluster.workers),
    Route("POST", "/v1/workers/tag", Role.SUBMIT, cluster.tag_worker),
    Route("GET", "/v1/explain", Role.VIEW, cluster.explain),
    Route("GET", "/v1/leaderboard", Role.VIEW, cluster.leaderboard),
    Route("GET", "/v1/standing", Role.VIEW, cluster.standing),
    Route("GET", "/v1/status", Role.VIEW, cluster.status),
    Route("GET", "/v1/cluster", Role.JOIN, cluster.join_ticket),
    Route("POST", "/v1/backup", Role.ADMIN, upkeep.backup),
    Route("POST", "/v1/vacuum", Role.ADMIN, upkeep.vacuum),
)


def application(
    verbs: Verbs, *, access: Access, allowed_hosts: Iterable[str] = (), submission_limit: int = 1 << 30
) -> web.Application:
    """Return the application that serves *verbs* to the tokens that *access* knows.

    It answers to this machine's own names; *allowed_hosts* adds others: the bound address, names
    of proxies. A submission may have *submission_limit* bytes.
    """
    app = web.Application(
        middlewares=[
            answer_errors,
            guards.check_host,
            guards.check_origin,
            guards.refuse_compression,
            check_role,
            answer_repeats,
        ]
    )
    app[VERBS] = verbs
    app[ACCESS] = access
    app[ROLES] = {route.handler: route.role for route in ROUTES}
    app[guards.HOSTS] = guards.own_names()
    app[guards.EXTRA_HOSTS] = guards.host_names(allowed_hosts)
    app[SUBMISSION_LIMIT] = submission_limit
    app[REPEATS] = Repeats()
    app.cleanup_ctx.append(keep_repeats)
    app.on_response_prepare.append(guards.add_headers)
    for method, path, _, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app
