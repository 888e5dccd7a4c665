"""The kernels that front ends may choose: the engine's own first, then the others of its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dcengine.endpoints import EndpointSettings

from ..tagged import display_name_for, name_for, provisioning

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec

DEFAULT = "dcengine"
SCRIPTS = ("kernel.js", "kernel.css")  #: what may come with a kernelspec beside its pictures


def kernelspecs(settings: EndpointSettings) -> dict[str, KernelSpec]:
    """Return what may be started, by name, the default first; it reads files, so a thread should ask."""
    from jupyter_client.kernelspec import KernelSpecManager

    # A kernel of this name that a user has installed may belong to another environment: here it is always ours.
    specs = {DEFAULT: _own(), **_on_workers(settings.kernel_tags)}
    manager = KernelSpecManager()
    for name in sorted(manager.find_kernel_specs()):
        try:
            specs.setdefault(name, manager.get_kernel_spec(name))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # a folder with a file in it that is no kernelspec
    return specs


def _own() -> KernelSpec:
    """Return the kernel that comes with this package, run by this interpreter."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec

    spec = KernelSpec.from_resource_dir(str(files("dcengine_kernel") / "kernelspec"))
    spec.argv = [sys.executable, *spec.argv[1:]]
    spec.metadata = {**spec.metadata, **get_kernel_dict()["metadata"], **provisioning()}
    return spec


def _on_workers(expressions: Sequence[str]) -> dict[str, KernelSpec]:
    """Return a kernel for each of *expressions*, which runs on a worker that has these tags."""
    specs: dict[str, KernelSpec] = {}
    for tags in dict.fromkeys(expressions):
        spec = _own()
        spec.display_name = display_name_for(tags)
        spec.metadata = {**spec.metadata, **provisioning(tags)}
        name = name_for(tags)
        specs[name if name not in specs else f"{name}-{len(specs) + 1}"] = spec  # gpu>1 and gpu<1 are called alike
    return specs


def model_of(name: str, spec: KernelSpec, prefix: str = "") -> dict[str, Any]:
    """Return *spec* as front ends are told of it; the engine answers below *prefix*."""
    shown = [path.name for path in sorted(Path(spec.resource_dir).glob("*")) if is_shown(path.name)]
    at = f"{prefix}/kernelspecs/{quote(name)}"
    return {
        "name": name,
        "spec": spec.to_dict(),
        "resources": {_resource_name(file): f"{at}/{quote(file)}" for file in shown},
    }


def is_shown(file: str) -> bool:
    """Tell whether *file* of a kernelspec's folder is for front ends; kernel.json is not: its env may hold secrets."""
    return file in SCRIPTS or file.startswith("logo-")


def file_of(spec: KernelSpec, file: str) -> Path | None:
    """Return where *file* of *spec* lies, None unless it is shown and truly in its folder."""
    if not is_shown(file) or "\0" in file:
        return None
    folder = os.path.realpath(spec.resource_dir)
    path = os.path.realpath(os.path.join(folder, file))
    return Path(path) if os.path.dirname(path) == folder and os.path.isfile(path) else None


def _resource_name(file: str) -> str:
    return file if file in SCRIPTS else file.partition(".")[0]
