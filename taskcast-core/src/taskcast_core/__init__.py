"""The Taskcast engine: long-running tasks with resumable event streams, embeddable, with memory and SQLite stores."""
