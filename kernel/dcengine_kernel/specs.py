"""Kernelspecs of ours: the folders by which Jupyter finds the kernel, of this environment or of another."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_core.paths import jupyter_data_dir, jupyter_path

from dcengine.errors import DcengineError, InvalidOption
from dcengine.tags import parse

from .tagged import NAME, display_name_for, name_for, provisioning, tags_in

MODULE = "dcengine_kernel"


class KernelNotWritten(DcengineError):
    """The kernelspec cannot be written or removed there."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return (
            f"the kernel in {self.folder} cannot be changed: {self.reason}; "
            "choose a place that is yours: --user, or --prefix PATH"
        )


class KernelNotFound(DcengineError, LookupError):
    """No kernel of ours has this name where it was looked for."""

    def __init__(self, name: str, installed: list[str]) -> None:
        super().__init__(name, installed)
        self.name, self.installed = name, installed

    def __str__(self) -> str:
        known = ", ".join(self.installed) or "none"
        return f"no dcengine kernel named {self.name!r} there; those that Jupyter finds: {known}"


class Spec(NamedTuple):
    """A kernel of ours that Jupyter can find."""

    name: str
    folder: str
    display_name: str
    interpreter: str  #: "python" is the one that Jupyter itself runs in
    tags: str = ""  #: what a worker must have to run it; empty: it runs where Jupyter does


def user_root() -> Path:
    """Return where Jupyter looks for this user's own files."""
    return Path(jupyter_data_dir())


def prefix_root(prefix: str | Path) -> Path:
    """Return where Jupyter looks that is installed in *prefix*."""
    if not str(prefix):
        raise InvalidOption("--prefix", "empty", "the folder of an environment")
    return Path(prefix).expanduser().absolute() / "share/jupyter"


def install(root: Path, name: str | None = None, display_name: str | None = None, *, tags: str = "") -> Path:
    """Install the kernel of this interpreter below *root*, in place of an older one of ours; return its folder.

    With *tags* it runs on a worker that has them. Raises `InvalidOption` for a name that cannot be, or is another
    program's, `InvalidTags` and `KernelNotWritten`.
    """
    from ipykernel.kernelspec import get_kernel_dict

    parse(tags)
    name = name_for(tags) if name is None else name
    folder = _folder(root, name)
    if folder.exists() and _read(folder) is None:
        raise InvalidOption("--name", repr(name), f"another name: {folder} is not dcengine's")
    try:
        with as_file(files(MODULE) / "kernelspec") as source:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        spec = json.loads((folder / "kernel.json").read_text())
        spec["argv"][0] = sys.executable  # so that Jupyter of another environment starts it as well
        spec["metadata"] |= get_kernel_dict()["metadata"]  # what the installed ipykernel can do
        if tags:
            spec["metadata"] |= provisioning(tags)
        spec["display_name"] = display_name or (display_name_for(tags) if name == name_for(tags) else name)
        (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
    except OSError as error:
        raise KernelNotWritten(str(folder), error.strerror or str(error)) from error
    return folder


def uninstall(name: str = NAME, root: Path | None = None) -> Path:
    """Remove the kernel *name* below *root*, None: the one that Jupyter finds first; return where it was.

    Raises `KernelNotFound` and `KernelNotWritten`.
    """
    specs = installed()
    folders = [Path(spec.folder) for spec in specs if spec.name == name] if root is None else [_folder(root, name)]
    if not folders or _read(folders[0]) is None:
        raise KernelNotFound(name, [f"{spec.name} in {spec.folder}" for spec in specs])
    try:
        shutil.rmtree(folders[0])
    except OSError as error:
        raise KernelNotWritten(str(folders[0]), error.strerror or str(error)) from error
    return folders[0]


def installed() -> list[Spec]:
    """Return our kernels that Jupyter of this environment finds; of two with the same name it takes the first."""
    folders = [folder for root in jupyter_path("kernels") for folder in sorted(Path(root).glob("*"))]
    return [spec for folder in folders if (spec := _read(folder)) is not None]


def _folder(root: Path, name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9._-]+", name) or not name.strip("."):
        raise InvalidOption("--name", repr(name), "lower-case letters, digits and - . _")
    return root / "kernels" / name


def _read(folder: Path) -> Spec | None:
    """Return the kernel in *folder*, None if it is not one of ours."""
    try:
        spec: Any = json.loads((folder / "kernel.json").read_text())
        if MODULE in spec["argv"]:
            return Spec(
                folder.name,
                str(folder),
                str(spec["display_name"]),
                str(spec["argv"][0]),
                tags_in(spec.get("metadata", {})),
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
