"""The command line, `taskcast`. Commands import what they need when they run, so that each of them starts quickly."""

from taskcast_server.cli.main import main

__all__ = ["main"]
