"""The kernel's process: ipykernel's own application, told which kernel and which extension to use."""

from __future__ import annotations

from ipykernel.kernelapp import IPKernelApp

from . import stops
from .kernel import DcengineKernel

EXTENSION = "dcengine_kernel.extension"


def main() -> None:
    """Run the kernel until it is told to end."""
    stops.be_seen()
    # Loaded before the extensions that people name themselves, which therefore all count.
    extensions = [*(IPKernelApp.default_extensions.default() or ()), EXTENSION]
    IPKernelApp.launch_instance(kernel_class=DcengineKernel, default_extensions=extensions)
