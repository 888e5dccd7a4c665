"""The table of routes, each with the role it needs, and the application made from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from ..verbs import Verbs
from . import batches, cluster, front, guards, jobs, projects
from .access import ACCESS, ROLES, Access, Role, check_role
from .answers import SUBMISSION_LIMIT, VERBS, answer_errors


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
    Route("GET", "/v1/jobs/{id}", Role.VIEW, jobs.job),
    Route("GET", "/v1/jobs/{id}/result", Role.VIEW, jobs.result),
    Route("GET", "/v1/jobs/{id}/output", Role.VIEW, jobs.output),
    Route("GET", "/v1/jobs/{id}/transcript", Role.VIEW, jobs.transcript),
    Route("GET", "/v1/jobs/{id}/why", Role.VIEW, jobs.why),
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
    Route("POST", "/v1/projects/{name}/run", Role.SUBMIT, projects.run),
    Route("POST", "/v1/projects/{name}/jobs", Role.SUBMIT, projects.add),
    Route("GET", "/v1/projects/{name}/jobs/{number}", Role.VIEW, projects.find_job),
    Route("GET", "/v1/projects/{name}/outputs", Role.VIEW, projects.outputs),
    Route("GET", "/v1/projects/{name}/failed-jobs", Role.VIEW, projects.failed_jobs),
    Route("GET", "/v1/workers", Role.VIEW, cluster.workers),
    Route("GET", "/v1/explain", Role.VIEW, cluster.explain),
    Route("GET", "/v1/leaderboard", Role.VIEW, cluster.leaderboard),
    Route("GET", "/v1/status", Role.VIEW, cluster.status),
    Route("GET", "/v1/cluster", Role.JOIN, cluster.join_ticket),
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
        ]
    )
    app[VERBS] = verbs
    app[ACCESS] = access
    app[ROLES] = {route.handler: route.role for route in ROUTES}
    app[guards.HOSTS] = guards.own_names()
    app[guards.EXTRA_HOSTS] = guards.host_names(allowed_hosts)
    app[SUBMISSION_LIMIT] = submission_limit
    app.on_response_prepare.append(guards.add_headers)
    for method, path, _, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app
