"""Kernels on tagged machines: the kernel's process is itself a job on a worker that has the tags."""
