"""The Taskcast engine: long-running tasks with resumable event streams."""
