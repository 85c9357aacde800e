"""The contract kit: proves that a plugin keeps the promises of ``taskcast_core.contracts``.

Install ``taskcast-core[testing]``. The whole test file of a store is then::

    import pytest
    from taskcast_core.testing import DeadlinesContract, FollowersContract, ListingContract, TaskLogContract

    class TestDynamoStore(TaskLogContract, ListingContract, DeadlinesContract, FollowersContract):
        @pytest.fixture
        async def store(self, unique_table):
            async with open_store(table=unique_table) as store:  # opened, and empty
                yield store

One class may prove any of ``TaskLogContract``, ``ListingContract``, ``DeadlinesContract``, ``FollowersContract``,
``ColdContract`` and ``WorkersContract`` (the latter five need a TaskLog in the same object); ``LongTermStoreContract``
takes the same ``store`` fixture, ``BroadcastContract`` a fixture ``broadcast``, ``AuthenticatorContract`` the fixtures
``authenticator``, ``good_connection`` and ``bad_connection``. Optional fixtures make the proof stronger:

``open_again``
    A function without arguments whose result, an async context manager, opens a second handle on the backend of
    ``store``: racing callers then use both.
``clock``
    The ``ManualClock`` that the store was opened with. Without it the cases that need time to pass wait in real time.
``durable_store`` (of ``DurableContract``)
    An ``OpenSpec``: how a child process opens the store. It is then killed at random moments, and reopened.

Every case asserts one sentence of a contract. A case that a store cannot pass is overridden with
``@pytest.mark.xfail(reason=…)``; removing it silently fails ``test_standard_cases_are_kept``. The run ends with a
report of the capabilities found and the promises kept. ``--taskcast-examples N`` (or ``TASKCAST_EXAMPLES``) sets how
many random histories the comparison with the model tries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_core.testing.auth import AuthenticatorContract
    from taskcast_core.testing.broadcast import BroadcastContract
    from taskcast_core.testing.clock import ManualClock
    from taskcast_core.testing.cold import ColdContract
    from taskcast_core.testing.contract import Contract
    from taskcast_core.testing.deadlines import DeadlinesContract
    from taskcast_core.testing.durable import DurableContract
    from taskcast_core.testing.followers import FollowersContract
    from taskcast_core.testing.listing import ListingContract
    from taskcast_core.testing.long_term import LongTermStoreContract
    from taskcast_core.testing.opening import OpenSpec
    from taskcast_core.testing.task_log import TaskLogContract
    from taskcast_core.testing.workers import WorkersContract

_HOMES = {
    "AuthenticatorContract": "auth",
    "BroadcastContract": "broadcast",
    "ColdContract": "cold",
    "Contract": "contract",
    "DeadlinesContract": "deadlines",
    "DurableContract": "durable",
    "FollowersContract": "followers",
    "ListingContract": "listing",
    "LongTermStoreContract": "long_term",
    "ManualClock": "clock",
    "OpenSpec": "opening",
    "TaskLogContract": "task_log",
    "WorkersContract": "workers",
}

__all__ = [
    "AuthenticatorContract", "BroadcastContract", "ColdContract", "Contract", "DeadlinesContract", "DurableContract",
    "FollowersContract", "ListingContract", "LongTermStoreContract", "ManualClock", "OpenSpec", "TaskLogContract",
    "WorkersContract",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on demand: pytest loads this package for its plugin in runs that never use the kit."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
