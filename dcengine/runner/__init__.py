"""What runs on a worker: unpack, child process, output capture, progress, result."""
