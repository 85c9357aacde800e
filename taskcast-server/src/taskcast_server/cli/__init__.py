"""The command line, `taskcast`. Commands import what they need when they run, so that each of them starts quickly."""

from taskcast_server.cycles import look_less_often_for_cycles

look_less_often_for_cycles(200_000)  # before all the imports; a server has its own measure

from taskcast_server.cli.main import main  # noqa: E402

__all__ = ["main"]
