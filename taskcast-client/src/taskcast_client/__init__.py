"""The Taskcast client: follow tasks as they run, resume exactly, work on them as a worker."""
