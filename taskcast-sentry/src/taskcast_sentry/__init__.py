"""Sentry for Taskcast: errors and traces of tasks, with secrets scrubbed."""
