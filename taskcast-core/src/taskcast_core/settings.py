"""The bounds and rhythms of an engine, part by part."""

from __future__ import annotations

from attrs import field

from taskcast_core.archive import ArchiveSettings
from taskcast_core.contracts.task_log import LogLimits
from taskcast_core.deadlines import SweepSettings
from taskcast_core.followers import FollowerSettings
from taskcast_core.hub import HubSettings
from taskcast_core.retention import RetentionSettings
from taskcast_core.values import frozen
from taskcast_core.workers import WorkerSettings


@frozen
class EngineSettings:
    """Bounds and rhythms of an engine.

    Attributes:
        background: run deadlines, cleanup and followers in this process (any number of processes may).
        max_lag: a reader that is this many entries behind is closed, with a cursor that can be resumed.
        max_batch: events per publish.
    """

    background: bool = True
    limits: LogLimits = field(factory=LogLimits)
    hub: HubSettings = field(factory=HubSettings)
    sweep: SweepSettings = field(factory=SweepSettings)
    follower: FollowerSettings = field(factory=FollowerSettings)
    retention: RetentionSettings = field(factory=RetentionSettings)
    workers: WorkerSettings = field(factory=WorkerSettings)
    archive: ArchiveSettings = field(factory=ArchiveSettings)
    max_lag: int = 1_000_000
    max_batch: int = 10_000
