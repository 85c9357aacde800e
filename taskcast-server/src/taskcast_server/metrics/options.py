"""What the configuration says about metrics: the section ``metrics``."""

from __future__ import annotations

from typing import Literal

from taskcast_core.config import option
from taskcast_core.values import frozen


@frozen
class MetricsOptions:
    """The section ``metrics``."""

    enabled: bool = option(default=True, help="count, and serve /metrics and /metrics.json")
    access: Literal["public", "admin"] = option("public", help="who may read them: everybody, or the scope admin")
