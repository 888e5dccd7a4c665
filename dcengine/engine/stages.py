"""The stages of all projects: which follows which, and whose tasks are held back. No I/O."""

from __future__ import annotations

from ..jobs import Project, Stage


class Stages:
    """What the engine knows by heart of the projects, so that a hand-over needs no read."""

    def __init__(self) -> None:
        self._projects: dict[str, Project] = {}
        self._places: dict[int, tuple[Project, int]] = {}

    def learn(self, project: Project) -> None:
        """Take *project* as it stands now instead of what was known of it."""
        known = self._projects.get(project.name)
        for stage in known.stages if known is not None else ():
            del self._places[stage.id]
        self._projects[project.name] = project
        self._places.update({stage.id: (project, place) for place, stage in enumerate(project.stages)})

    def first(self, project: str) -> Stage:
        """Return where the jobs of *project* begin."""
        return self._projects[project].stages[0]

    def of(self, project: str) -> tuple[Stage, ...]:
        """Return the stages of *project* in order; none if it is not known."""
        known = self._projects.get(project)
        return known.stages if known is not None else ()

    def now(self, stage: Stage) -> Stage:
        """Return *stage* as it was declared last."""
        project, place = self._places[stage.id]
        return project.stages[place]

    def after(self, stage: int) -> Stage | None:
        """Return where a job goes on after *stage*; None after the last one, and for calls without a project."""
        project, place = self._places.get(stage, (None, 0))
        return project.stages[place + 1] if project is not None and place + 1 < len(project.stages) else None

    def project_of(self, stage: int) -> str | None:
        """Return the name of the project that *stage* belongs to; None for calls without one."""
        project, _ = self._places.get(stage, (None, 0))
        return project.name if project is not None else None

    def is_paused(self, project: str) -> bool:
        """Tell whether the tasks of *project* are held back."""
        known = self._projects.get(project)
        return known is not None and known.is_paused
