"""An engine in memory that takes imports in as the store does: the next items of one, or none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dcengine.codec import loads, unpack
from dcengine.errors import ImportChanged, NotFound
from dcengine.verbs import AddedJobs, ImportRecord, ItemsSubmission, JobStatus, ProjectStatus, StageStatus


class Engine:
    """Both the way to the engine and the engine; what is asked is answered at once."""

    def __init__(self, *, gathers: bool = False) -> None:
        self.values: list[Any] = []
        self.submissions: list[ItemsSubmission] = []
        self.records: dict[tuple[str, str], ImportRecord] = {}
        self.roots: dict[int, str] = {}  #: task states by id
        self.keys: set[str] = set()
        self.failing: Callable[[ItemsSubmission], Exception | None] = lambda submission: None
        self.name, self.is_paused = "photos", False
        self._gathers = gathers

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, verb)(*args, **kwargs)

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.call(verb, *args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def project(self, name: str) -> ProjectStatus:
        if name != self.name:
            raise NotFound("project", name)
        stages = [StageStatus(name="load", tags="", counts={})]
        return ProjectStatus(name=name, is_paused=self.is_paused, stages=stages, open=len(self.values))

    def imported(self, project: str, name: str) -> ImportRecord | None:
        return self.records.get((project, name))

    def job(self, id: int) -> JobStatus:
        state = "succeeded" if self.roots[id] == "succeeded" else "open"
        return JobStatus(id=id, name="", state=state, task_state=self.roots[id], project="photos", number=id)

    def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        if error := self.failing(submission):
            raise error
        self.submissions.append(submission)
        values = [loads(value) for block in submission.blocks for value in unpack(block)]
        assert len(values) == submission.count
        step = submission.imported
        if step is not None:
            record = self.records.get((submission.project, step.name))
            items, digest = (record.items, record.digest) if record else (0, b"")
            if items >= step.offset + len(values):
                return AddedJobs(0, 0, 0, record.root if record else None, len(values))
            if (items, digest) != (step.offset, step.before):
                raise ImportChanged(step.name, items)
        if submission.keys is not None:
            values = [value for value, key in zip(values, submission.keys, strict=True) if key not in self.keys]
            self.keys.update(submission.keys)
        root = submission.root
        if self._gathers and root is None:
            root = len(self.roots) + 1
            self.roots[root] = "blocked"
        if step is not None:
            self.records[submission.project, step.name] = ImportRecord(
                items=step.offset + submission.count, digest=step.after, updated=1.0, root=root
            )
        self.values += values
        return AddedJobs(1, 1, len(values), root, submission.count - len(values))
