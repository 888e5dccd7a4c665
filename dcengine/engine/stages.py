"""The stages of all projects: which follows which, and whose tasks are held back. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from ..jobs import Project, Stage, closing_gather


class Following(NamedTuple):
    """Where a job goes on after a stage."""

    stage: Stage | None = None  #: its next one, or, after an expand, where its parts begin; None at its end
    gather: Stage | None = None  #: after an expand, where it waits for its parts


END = Following()


class Stages:
    """What the engine knows by heart of the projects, so that a hand-over needs no read."""

    def __init__(self) -> None:
        self._projects: dict[str, Project] = {}
        self._places: dict[int, tuple[Project, int]] = {}

    def learn(self, project: Project) -> None:
        """Take *project* as it stands now instead of what was known of it."""
        self.forget(project.name)
        self._projects[project.name] = project
        self._places.update({stage.id: (project, place) for place, stage in enumerate(project.stages)})

    def forget(self, project: str) -> None:
        """Know nothing of *project* any more."""
        known = self._projects.pop(project, None)
        for stage in known.stages if known is not None else ():
            del self._places[stage.id]

    def get(self, stage: int) -> Stage | None:
        """Return the stage with the id *stage* as it was declared last; None for calls without a project."""
        project, place = self._places.get(stage, (None, 0))
        return project.stages[place] if project is not None else None

    def of(self, project: str) -> tuple[Stage, ...]:
        """Return the stages of *project* in order; none if it is not known."""
        known = self._projects.get(project)
        return known.stages if known is not None else ()

    def named(self, project: str, name: str) -> Stage | None:
        """Return the stage of *project* called *name*."""
        return next((stage for stage in self.of(project) if stage.name == name), None)

    def after(self, stage: int) -> Following:
        """Return where a job goes on after *stage*; a part ends where a gather waits for it."""
        project, place = self._places.get(stage, (None, 0))
        if project is None or place + 1 == len(project.stages):
            return END
        following = project.stages[place + 1]
        if project.stages[place].shape == "expand":
            return Following(following, closing_gather(project.stages, place + 1))
        return END if following.shape == "gather" else Following(following)

    def project_of(self, stage: int) -> str | None:
        """Return the name of the project that *stage* belongs to; None for calls without one."""
        project, _ = self._places.get(stage, (None, 0))
        return project.name if project is not None else None

    def project(self, name: str) -> Project | None:
        """Return the project called *name* as it was declared last."""
        return self._projects.get(name)

    def is_open(self, project: str | None = None) -> bool:
        """Tell whether anybody may lease tasks of *project*, or of some project, without a token."""
        if project is None:
            return any(known.is_open for known in list(self._projects.values()))
        found = self._projects.get(project)
        return found is not None and found.is_open

    def is_paused(self, project: str) -> bool:
        """Tell whether the tasks of *project* are held back."""
        known = self._projects.get(project)
        return known is not None and known.is_paused
