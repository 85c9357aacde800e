"""Figures of a running server: counted in plain integers while it works, gathered when somebody asks for them."""

from taskcast_server.metrics.meters import ServerMeters
from taskcast_server.metrics.options import MetricsOptions

__all__ = ["MetricsOptions", "ServerMeters"]
