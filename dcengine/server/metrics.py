"""The engine in numbers, as Prometheus reads them: made at the moment of the scrape of what is in memory anyway.

No label can take values without end: projects and stages are named, jobs, workers and nicknames are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .._version import __version__
from ..verbs.figures import Distribution, Figures, Measured
from .sending import Answer
from .speaking import speaks, text_of
from .traffic import TRAFFIC, Traffic

MEASURED = web.AppKey[Measured | None]("dcengine.measured")  #: None: the engine is not in this process

PLACE = ("project", "stage")

Values = Mapping[Any, float]  #: by the values of the labels, a tuple


@speaks(answer=text_of("Prometheus text, or OpenMetrics where that is asked for."))
async def metrics(request: web.Request) -> web.Response:
    """Return what the engine counts and measures of itself."""
    engine = request.app[MEASURED]
    figures = None if engine is None else await engine.figures()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Scrape(figures, request.app[TRAFFIC]))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Answer(body=encode(registry), headers={"Content-Type": content_type})


class _Scrape(Collector):
    """What one scrape answers."""

    def __init__(self, figures: Figures | None, traffic: Traffic) -> None:
        self._figures, self._traffic = figures, traffic

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not collect

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("dcengine_build", "The version that runs.", {"version": __version__})
        yield from _of_traffic(self._traffic)
        if self._figures is not None:
            yield from _of_work(self._figures)
            yield from _of_workers(self._figures)
            yield from _of_inside(self._figures)


def _of_traffic(traffic: Traffic) -> Iterator[Metric]:
    requests = CounterMetricFamily("dcengine_http_requests", "Requests answered.", labels=("path", "method", "status"))
    seconds = HistogramMetricFamily(
        "dcengine_http_request_seconds", "From a request to its answer, waiting for news included.",
        labels=("path", "method"),
    )  # fmt: skip
    for route in traffic:
        seconds.add_metric((route.path, route.method), route.seconds.buckets(), route.seconds.total)
        for status, n in route.statuses.items():
            requests.add_metric((route.path, route.method, str(status)), n)
    yield requests
    yield seconds
    yield _gauge("dcengine_http_requests_under_way", "Requests that are being answered.", {(): traffic.under_way})


def _of_work(figures: Figures) -> Iterator[Metric]:
    tasks = {(project, stage, state): n for project, stage, state, n in figures.tasks}
    yield _gauge("dcengine_tasks", "Tasks, items of batches included, by where they are.", tasks, (*PLACE, "state"))
    jobs = {(project, state): n for project, state, n in figures.jobs}
    yield _gauge("dcengine_jobs", "Jobs of projects by their state.", jobs, ("project", "state"))
    yield _gauge("dcengine_leases", "Tasks in the hands of outside workers.", figures.leases, PLACE)
    yield _counter("dcengine_tasks_accepted", "Tasks and items whose result was accepted.", figures.accepted, PLACE)
    yield _counter("dcengine_leases_expired", "Leases that ended by themselves.", figures.expired, PLACE)
    refused = {(): figures.refused}
    yield _counter("dcengine_stale_answers_refused", "Answers under a lease that had ended.", refused)


def _of_workers(figures: Figures) -> Iterator[Metric]:
    outside = {(project,): n for project, n in figures.outside_workers.items()}
    yield _gauge("dcengine_outside_workers", "Outside workers connected.", outside, ("project",))
    workers = {(state,): n for state, n in figures.workers.items()}
    yield _gauge("dcengine_dask_workers", "Dask workers by their state.", workers, ("state",))
    slots = {(state,): n for state, n in figures.slots.items()}
    yield _gauge("dcengine_dask_slots", "Slots of Dask workers.", slots, ("state",))


def _of_inside(figures: Figures) -> Iterator[Metric]:
    yield _histogram("dcengine_store_commit_seconds", "A transaction with its commit.", figures.commits)
    yield _histogram("dcengine_store_operations", "Operations in one transaction.", figures.operations)
    inbox = {(): figures.inbox}
    yield _gauge("dcengine_store_inbox_operations", "Operations that wait to be written.", inbox)
    yield _gauge("dcengine_store_inbox_bytes", "Bytes of their payload.", {(): figures.inbox_bytes})
    held = {(): figures.held_log}
    yield _gauge("dcengine_store_held_log_bytes", "Of a log that somebody who reads keeps from being emptied.", held)
    yield _histogram("dcengine_loop_lag_seconds", "By how much the event loop comes too late.", figures.lag)


def _gauge(name: str, about: str, values: Values, labels: tuple[str, ...] = ()) -> Metric:
    return _filled(GaugeMetricFamily(name, about, labels=labels), values)


def _counter(name: str, about: str, values: Values, labels: tuple[str, ...] = ()) -> Metric:
    return _filled(CounterMetricFamily(name, about, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> GaugeMetricFamily | CounterMetricFamily:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram(name: str, about: str, distribution: Distribution) -> Metric:
    family = HistogramMetricFamily(name, about, labels=())
    family.add_metric((), distribution.buckets(), distribution.total)
    return family
