"""PostgreSQL for Taskcast: the long-term archive of tasks and events."""
