"""Kernels that run on a worker with certain tags: how they are called, and what makes Jupyter start them there."""

from __future__ import annotations

import re
from typing import Any

NAME = "dcengine"  #: of the kernel that runs where Jupyter does
PROVISIONER = "dcengine"  #: as the entry point is called that starts kernels on workers
TAGS = "KERNEL_DCENGINE_TAGS"  #: in the environment of a kernel that is asked for: where it is to run
NAME_LIMIT = 100  #: characters of a name that is made of tags


def name_for(tags: str) -> str:
    """Return the name of the kernel that runs on a worker with *tags*."""
    if not tags:
        return NAME
    words = re.findall(r"[a-z0-9]+", tags.lower()) or ["tags"]
    return "-".join([NAME, *words])[:NAME_LIMIT]


def display_name_for(tags: str) -> str:
    """Return what people read who may choose the kernel that runs on a worker with *tags*."""
    return f"{NAME} ({tags})" if tags else NAME


def provisioning(tags: str = "") -> dict[str, Any]:
    """Return what a kernelspec says so that its kernels run on a worker with *tags*, or those their start asks for."""
    return {"kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {"tags": tags} if tags else {}}}


def tags_in(metadata: dict[str, Any]) -> str:
    """Return the tags that a worker needs by the *metadata* of a kernelspec, empty if it runs where Jupyter does."""
    return str(metadata.get("kernel_provisioner", {}).get("config", {}).get("tags", ""))
