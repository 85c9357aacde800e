"""The cases of TaskLog."""

from __future__ import annotations

from taskcast_core.testing.cancellation import CancellationCases
from taskcast_core.testing.commits import CommitCases, CreateCases, GuardCases, LimitCases
from taskcast_core.testing.deletion import DeletionCases
from taskcast_core.testing.epochs import EpochCases
from taskcast_core.testing.keys import KeyCases
from taskcast_core.testing.loading import LoadCases
from taskcast_core.testing.model import ModelCases
from taskcast_core.testing.payloads import PayloadCases
from taskcast_core.testing.reading import PositionCases, ReadCases
from taskcast_core.testing.removed import RemovedCases
from taskcast_core.testing.series import HoleCases, SeriesCases
from taskcast_core.testing.trimming import TrimCases


class TaskLogContract(
    CreateCases,
    CommitCases,
    GuardCases,
    LimitCases,
    PayloadCases,
    ReadCases,
    PositionCases,
    SeriesCases,
    HoleCases,
    TrimCases,
    RemovedCases,
    KeyCases,
    EpochCases,
    DeletionCases,
    LoadCases,
    CancellationCases,
    ModelCases,
):
    """Everything that ``taskcast_core.contracts.TaskLog`` promises. Override the fixture ``store``."""
