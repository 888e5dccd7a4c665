"""The kernel's process: ipykernel's own application, told which kernel and which extension to use."""

from __future__ import annotations

import zmq
from ipykernel.kernelapp import IPKernelApp

from . import stops
from .kernel import DcengineKernel

EXTENSION = "dcengine_kernel.extension"
WAITING_MESSAGES = 20_000  #: for each front end that is slower than the kernel, before zmq leaves the next ones out


class KernelApp(IPKernelApp):
    """ipykernel's application, but that it keeps more of what is printed, and ends where any of its ports is taken."""

    def init_iopub(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Listen at the port of what is printed; raises `zmq.ZMQError` if that is taken."""
        context.setsockopt(zmq.SNDHWM, WAITING_MESSAGES)  # of sockets made from now on; zmq's own is 1,000
        try:
            super().init_iopub(context)  # type: ignore[no-untyped-call]
        except zmq.ZMQError:
            self.iopub_socket.close(linger=0)  # or the end of the process waits for it without end
            raise


def main() -> None:
    """Run the kernel until it is told to end."""
    stops.be_seen()
    # Loaded before the extensions that people name themselves, which therefore all count.
    extensions = [*(IPKernelApp.default_extensions.default() or ()), EXTENSION]
    KernelApp.launch_instance(kernel_class=DcengineKernel, default_extensions=extensions)
