"""The kernel: ipykernel's own under our name. Whatever it can do, it can because that one can."""

from __future__ import annotations

from ipykernel.ipkernel import IPythonKernel

from dcengine import __version__

from .banner import banner


class DcengineKernel(IPythonKernel):
    """An IPython kernel that says that it is ours, and which engine it uses."""

    implementation = "dcengine"
    implementation_version = __version__

    @property
    def banner(self) -> str:  # type: ignore[override]
        """What a console shows first; made anew for whoever asks."""
        return f"{super().banner or ''}\n{banner(self.shell)}\n"
