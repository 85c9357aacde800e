"""Redis for Taskcast: the short-term store and broadcast shared by many nodes."""
