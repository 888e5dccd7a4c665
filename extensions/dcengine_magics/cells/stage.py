"""``--stage PROJECT.STAGE``: the body of a cell as the function of a stage."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

import msgspec

from dcengine import Project, api
from dcengine.cautions import warn_of_versions
from dcengine.errors import NotFound, NotPicklable
from dcengine.verbs import ProjectStatus

from .each import Counted
from .errors import InvalidCell
from .item import RunStage
from .packing import Prepared

INPUT = "item"  #: what a stage's cell calls its input, unless ``--each`` names it


def declare(options: argparse.Namespace, cell: Prepared, items: Iterable[Any] | None) -> Project | None:
    """Make *cell* a stage of a project, its other stages as they are; send *items* through and return the project.

    A new stage comes behind those that there are. Without *items* it is declared, and nothing runs for it.
    """
    name, stage = options.stage
    _check_is_ours(name, stage)
    status = _declared(name, stage, options, cell)
    project = Project(name)
    if items is None:
        print(_told(status, stage))
        return None
    counted = Counted(items)
    try:
        project.add(counted)
    except NotPicklable as error:
        raise counted.refusal(error) from None
    return project.run()


def _declared(name: str, stage: str, options: argparse.Namespace, cell: Prepared) -> ProjectStatus:
    alone = Project(name)
    alone.stage(
        name=stage, tags=options.tags, devices=options.devices, timeout=options.timeout, retries=options.retries
    )(RunStage(f"cell In[{cell.number}]", cell.packed()))
    link = api.current()
    status: ProjectStatus = link.call("declare_project", msgspec.structs.replace(alone.spec(), is_partial=True))
    warn_of_versions(link.told, name, status.other_versions)
    return status


def _check_is_ours(name: str, stage: str) -> None:
    """Refuse a stage whose tasks people outside do: it would be theirs no more."""
    try:
        status: ProjectStatus = api.current().call("project", name)
    except NotFound:
        return
    if any(each.name == stage and each.kind == "lease" for each in status.stages):
        raise InvalidCell(f"stage {stage} of project {name} is done by outside workers; choose another name for yours")


def _told(status: ProjectStatus, stage: str) -> str:
    way = " -> ".join(each.name for each in status.stages)
    return (
        f"stage {stage} of project {status.name} is declared; its stages are {way}\n"
        f"--each sends items through from here, as dcengine.Project({status.name!r}).add(items) does from anywhere"
    )
