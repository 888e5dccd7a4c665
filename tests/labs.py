"""Stock Jupyter servers for tests, whose kernels are those of an engine; what a browser does there is in `pages`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from .engines import end, environment, eventually

PATIENCE = 60.0  #: seconds for a server to answer
PLACES = {
    "HOME": "home", "IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
}  # fmt: skip
SETTINGS: dict[str, object] = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are on the page too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs, and the folder whose notebooks it shows."""

    url: str
    folder: Path
    token: str

    def page_of(self, notebook: str) -> str:
        """Return the address of *notebook* alone, in a fresh workspace."""
        return f"{self.url}/doc/tree/{notebook}?token={self.token}&reset"


@contextmanager
def lab(folder: Path, gateway: str, token: str) -> Iterator[Lab]:
    """JupyterLab without anybody's settings, whose kernels are those of *gateway*, asked with *token* there."""
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    _write_settings(folder / PLACES["JUPYTER_CONFIG_DIR"])
    places = {name: str(folder / place) for name, place in PLACES.items()}
    options = {"ServerApp.port": 0, "ServerApp.open_browser": False, "ServerApp.allow_root": True,
               "ServerApp.root_dir": notebooks, "IdentityProvider.token": "of-the-lab",
               "LabApp.expose_app_in_browser": True, "LabApp.extension_manager": "readonly",
               "GatewayClient.url": gateway}  # fmt: skip
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
            env=environment(**places, JUPYTER_GATEWAY_AUTH_TOKEN=token), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield Lab(_address(folder, process), notebooks, "of-the-lab")
        finally:
            end(process)


def _write_settings(config: Path) -> None:
    """Leave out what other packages add to JupyterLab: it takes time, and would be in the pictures."""
    files = {f"lab/user-settings/@jupyterlab/{name}.jupyterlab-settings": values for name, values in SETTINGS.items()}
    files["labconfig/page_config.json"] = {"disabledExtensions": {"ipyparallel-labextension": True}}
    without = dict.fromkeys(["ipyparallel", "jupyter_lsp", "jupyter_server_terminals"], False)
    files["jupyter_server_config.json"] = {"ServerApp": {"jpserver_extensions": without}}
    for name, values in files.items():
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(json.dumps(values))


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return where the lab of *process* answers, once it does."""

    def told() -> str:
        assert process.poll() is None, (folder / "lab.log").read_text()
        for file in (folder / PLACES["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json"):
            try:
                url = str(json.loads(file.read_text())["url"]).rstrip("/").replace("localhost", "127.0.0.1")
                urlopen(f"{url}/api", timeout=5).close()
            except (OSError, ValueError):  # not written to its end, not listening yet
                return ""
            return url
        return ""

    return str(eventually(told, PATIENCE))
