"""A cell's way to a worker and back: read, packed, run there, replayed here, and what it made taken in."""
