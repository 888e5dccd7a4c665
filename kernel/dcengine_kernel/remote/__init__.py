"""A kernel on a worker: the job that hosts it there, the line to whoever asked for it, and what that end does."""
