"""A short-term store for Taskcast that keeps a journal file."""
