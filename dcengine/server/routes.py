"""The table of routes, each with the role it needs, and the application made from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from ..config import ShownSetting
from ..endpoints import Endpoint
from ..verbs import Verbs
from ..verbs.figures import Measured
from . import (
    archives,
    batches,
    cluster,
    contributors,
    describing,
    events,
    failures,
    front,
    guards,
    items,
    jobs,
    leases,
    looks,
    mine,
    openapi,
    outsiders,
    projects,
    protocols,
    reference,
    tokens,
    ui,
    upkeep,
    uploads,
    values,
    webhooks,
    workloads,
)
from .access import ACCESS, ROLES, Access, Holder, Role, check_role
from .answers import SUBMISSION_LIMIT, VERBS, answer_errors
from .endpoints import mount_endpoints
from .limits import LIMITS, STREAMED, Limits
from .metrics import MEASURED, metrics
from .proxies import PROXIES, Proxies
from .rates import RATES, Rates, limit_volunteers
from .repeats import REPEATS, Repeats, answer_repeats, keep_repeats
from .speaking import TABLE, Route
from .traffic import TRAFFIC, Traffic, accompany, add_request_id

PROBES = ("/healthz", "/readyz")  #: which balancers also ask by HEAD
OPEN = None  #: the role of a route that needs no token

ROUTES = (
    Route("GET", "/", OPEN, ui.dashboard),
    Route("GET", "/ui/{file:[a-z_/]+[.][a-z]+}", OPEN, ui.dashboard_file),
    Route("GET", "/healthz", OPEN, front.healthz),
    Route("GET", "/readyz", OPEN, front.readyz),
    Route("GET", "/metrics", Role.VIEW, metrics),
    Route("GET", "/v1/", OPEN, reference.page),
    Route("GET", "/v1/reference.css", OPEN, reference.style),
    Route("GET", "/v1/openapi.json", OPEN, openapi.openapi),
    Route("POST", "/v1/jobs", Role.SUBMIT, jobs.submit),
    Route("GET", "/v1/jobs", Role.VIEW, jobs.jobs),
    Route("GET", "/v1/jobs/found", Role.VIEW, jobs.find),
    Route("POST", "/v1/jobs/cancel-unfinished", Role.SUBMIT, jobs.cancel_unfinished),
    Route("POST", "/v1/jobs/ends", Role.VIEW, jobs.ends),
    Route("POST", "/v1/jobs/priority", Role.SUBMIT, jobs.prioritize),
    Route("POST", "/v1/jobs/retry", Role.SUBMIT, jobs.retry),
    Route("GET", "/v1/jobs/{id}", Role.VIEW, jobs.job),
    Route("GET", "/v1/jobs/{id}/result", Role.VIEW, jobs.result),
    Route("GET", "/v1/jobs/{id}/output", Role.VIEW, jobs.output),
    Route("GET", "/v1/jobs/{id}/transcript", Role.VIEW, jobs.transcript),
    Route("GET", "/v1/jobs/{id}/why", Role.VIEW, jobs.why),
    Route("GET", "/v1/jobs/{id}/history", Role.VIEW, jobs.history),
    Route("GET", "/v1/jobs/{id}/story", Role.VIEW, looks.story),
    Route("GET", "/v1/jobs/{id}/picture", Role.VIEW, looks.picture),
    Route("GET", "/v1/jobs/{id}/bytes", Role.VIEW, looks.bytes_of_job),
    Route("POST", "/v1/jobs/{id}/edit", Role.SUBMIT, jobs.edit),
    Route("POST", "/v1/jobs/{id}/interrupt", Role.SUBMIT, jobs.interrupt),
    Route("POST", "/v1/jobs/{id}/kill", Role.SUBMIT, jobs.kill),
    Route("POST", "/v1/jobs/{id}/tell", Role.SUBMIT, jobs.tell),
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
    Route("POST", "/v1/projects/{name}/items", Role.SUBMIT, items.add),
    Route("POST", "/v1/projects/{name}/files", Role.SUBMIT, uploads.add_file),
    Route("POST", "/v1/described-projects", Role.SUBMIT, describing.describe_project),
    Route("GET", "/v1/patterns", Role.VIEW, items.read_pattern),
    Route("GET", "/v1/projects/{name}/jobs/{number}", Role.VIEW, projects.find_job),
    Route("GET", "/v1/projects/{name}/throughput", Role.VIEW, projects.throughput),
    Route("GET", "/v1/projects/{name}/outputs", Role.VIEW, projects.outputs),
    Route("GET", "/v1/projects/{name}/newest-outputs", Role.VIEW, projects.newest_outputs),
    Route("GET", "/v1/projects/{name}/samples", Role.VIEW, looks.samples),
    Route("GET", "/v1/projects/{name}/failed-jobs", Role.VIEW, projects.failed_jobs),
    Route("GET", "/v1/projects/{name}/stages/{stage}/outputs.zip", Role.VIEW, archives.outputs_as_zip),
    Route("POST", "/v1/projects/{name}/webhooks", Role.ADMIN, webhooks.add),
    Route("GET", "/v1/projects/{name}/webhooks", Role.ADMIN, webhooks.webhooks),
    Route("DELETE", "/v1/projects/{name}/webhooks/{id}", Role.ADMIN, webhooks.remove),
    Route("POST", "/v1/projects/{name}/webhooks/{id}/test", Role.ADMIN, webhooks.test),
    Route("GET", "/v1/projects/{name}/webhooks/{id}/deliveries", Role.ADMIN, webhooks.deliveries),
    Route("POST", "/v1/projects/{name}/stages/{stage}/lease", Role.WORKER, leases.lease),
    Route("POST", "/v1/tasks/heartbeat", Role.WORKER, leases.heartbeat),
    Route("POST", "/v1/tasks/complete", Role.WORKER, leases.complete),
    Route("POST", "/v1/tasks/fail", Role.WORKER, leases.fail),
    Route("POST", "/v1/tasks/flag", Role.WORKER, leases.flag),
    Route("POST", "/v1/tasks/release", Role.WORKER, leases.release),
    Route("POST", "/v1/projects/{name}/stages/{stage}/workers", Role.WORKER, outsiders.register),
    Route("POST", "/v1/registered-worker", Role.WORKER, outsiders.look),
    Route("POST", "/v1/registered-worker/lease", Role.WORKER, outsiders.lease),
    Route("POST", "/v1/registered-worker/held", Role.WORKER, outsiders.held),
    Route("POST", "/v1/registered-worker/leave", Role.WORKER, outsiders.leave),
    Route("POST", "/v1/registered-worker/progress", Role.WORKER, outsiders.progress),
    Route("GET", "/v1/outside-workers", Role.VIEW, outsiders.outside_workers),
    Route("GET", "/v1/outside-workers/found", Role.VIEW, outsiders.found),
    Route("GET", "/v1/events", Role.VIEW, events.events),
    Route("GET", "/v1/failures", Role.VIEW, failures.groups),
    Route("POST", "/v1/failures/retry", Role.SUBMIT, failures.retry),
    Route("POST", "/v1/values", Role.SUBMIT, values.put),
    Route("GET", "/v1/values/{digest}", Role.VIEW, values.value),
    Route("GET", "/v1/values/{digest}/content", Role.VIEW, values.content),
    Route("DELETE", "/v1/values/{digest}", Role.SUBMIT, values.delete),
    Route("GET", "/v1/values/{digest}/bytes", Role.WORKER, uploads.file_bytes),
    Route("GET", "/v1/workloads", Role.VIEW, workloads.workloads),
    Route("POST", "/v1/workloads/{workload}", Role.SUBMIT, workloads.start_workload),
    Route("GET", "/v1/workers", Role.VIEW, cluster.workers),
    Route("POST", "/v1/workers/tag", Role.SUBMIT, cluster.tag_worker),
    Route("GET", "/v1/explain", Role.VIEW, cluster.explain),
    Route("GET", "/v1/sessions", Role.VIEW, cluster.sessions),
    Route("POST", "/v1/sessions/end", Role.SUBMIT, cluster.end_session),
    Route("GET", "/v1/leaderboard", Role.VIEW, cluster.leaderboard),
    Route("GET", "/v1/standing", Role.VIEW, cluster.standing),
    Route("GET", "/v1/status", Role.VIEW, cluster.status),
    Route("GET", "/v1/settings", Role.VIEW, front.settings),
    Route("GET", "/v1/me", Holder.ANY, front.me),
    Route("GET", "/v1/mine", Holder.ANY, mine.mine),
    Route("GET", "/v1/mine/jobs", Holder.ANY, mine.my_jobs),
    Route("GET", "/v1/contributor", Role.VIEW, contributors.contributor),
    Route("GET", "/v1/cluster", Role.JOIN, cluster.join_ticket),
    Route("POST", "/v1/tokens", Role.ADMIN, tokens.create),
    Route("GET", "/v1/tokens", Role.ADMIN, tokens.tokens),
    Route("POST", "/v1/tokens/{id}/revoke", Role.ADMIN, tokens.revoke),
    Route("POST", "/v1/contributors/ban", Role.ADMIN, contributors.ban),
    Route("POST", "/v1/contributors/unban", Role.ADMIN, contributors.unban),
    Route("GET", "/v1/contributors/banned", Role.ADMIN, contributors.banned),
    Route("POST", "/v1/backup", Role.ADMIN, upkeep.backup),
    Route("POST", "/v1/vacuum", Role.ADMIN, upkeep.vacuum),
)


def application(
    verbs: Verbs,
    *,
    access: Access,
    measured: Measured | None = None,
    known_project: protocols.Known = protocols.nothing_known,
    allowed_hosts: Iterable[str] = (),
    proxies: Proxies | None = None,
    limits: Limits | None = None,
    endpoints: Sequence[Endpoint] = (),
    rates: Rates | None = None,
    submission_limit: int = 1 << 30,
    open_metrics: bool = False,
    shown_settings: Sequence[ShownSetting] = (),
    forms: workloads.Forms | None = None,
) -> web.Application:
    """Return the application that serves *verbs* to the tokens that *access* knows.

    It answers to this machine's own names; *allowed_hosts* adds others: the bound address, names
    of proxies. A submission may have *submission_limit* bytes. *measured* is the engine, where it is in this process.
    *known_project* says what is known of a project that old clients ask for. *endpoints* answer beside the API.
    *shown_settings* are told to those who may look. *forms* are the workloads that can be started here.
    """
    app = web.Application(
        middlewares=[
            accompany,
            answer_errors,
            guards.guard,
            check_role,
            limit_volunteers,
            answer_repeats,
        ]
    )
    app[VERBS] = verbs
    app[MEASURED] = measured
    app[ACCESS] = access
    app[ROLES] = {route.handler: route.role for route in ROUTES} | ({metrics: OPEN} if open_metrics else {})
    app[PROXIES] = proxies or Proxies()
    app[TRAFFIC] = Traffic(app[PROXIES].prefix)
    app[LIMITS] = limits or Limits()
    app[RATES] = rates or Rates()
    app[STREAMED] = frozenset({values.put, uploads.add_file, workloads.start_workload})
    app[guards.HOSTS] = guards.own_names()
    app[guards.EXTRA_HOSTS] = guards.host_names(allowed_hosts)
    app[SUBMISSION_LIMIT] = submission_limit
    app[front.SETTINGS] = list(shown_settings)
    app[workloads.FORMS] = forms or workloads.NoForms()
    app[workloads.UNDER_WAY] = []
    app[REPEATS] = Repeats()
    app[TABLE] = ROUTES
    app.cleanup_ctx.append(keep_repeats)
    app.on_response_prepare.append(guards.add_headers)
    app.on_response_prepare.append(add_request_id)
    probes = {route.path: route.handler for route in ROUTES if route.path in PROBES}
    # A proxy may cut the prefix off before it asks, or not.
    for prefix in dict.fromkeys(("", app[PROXIES].prefix)):
        for method, path, _, handler in sorted(ROUTES, key=lambda route: route.handler is not leases.lease):
            app.router.add_route(method, prefix + path, handler)  # what is asked most is found first
        for path in PROBES:
            app.router.add_route("HEAD", prefix + path, probes[path])
        protocols.mount(app, known_project, prefix)
        mount_endpoints(app, endpoints, prefix)
    return app
