"""The SQLite store: one file, one process, one writer thread; what it has acknowledged is on disk."""
