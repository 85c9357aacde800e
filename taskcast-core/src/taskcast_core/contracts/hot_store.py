"""What the engine asks of a hot store: the small contracts, put together."""

from __future__ import annotations

from typing import Protocol, TypeGuard

from taskcast_core.contracts.cold import Cold
from taskcast_core.contracts.followers import Deadlines, Followers
from taskcast_core.contracts.listing import Listing
from taskcast_core.contracts.task_log import TaskLog


class ShortTermStore(TaskLog, Listing, Deadlines, Followers, Protocol):
    """What the engine asks of a hot store."""


class ColdCapableStore(ShortTermStore, Cold, Protocol):
    """A hot store that can let go of tasks, and take them back."""


def is_cold_capable(store: object) -> TypeGuard[ColdCapableStore]:
    """Whether a store has the verbs of the Cold contract."""
    return all(hasattr(store, verb) for verb in vars(Cold) if not verb.startswith("_"))
