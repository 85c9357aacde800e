"""The cases that lean on the store most, over SQLite."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.core import test_workers_leases as leases
from tests.core import test_workers_queue as queue
from tests.core.worker_rooms import KIND

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

CASES: tuple[Callable[[], Awaitable[None]], ...] = (
    queue.test_priority_then_age,
    queue.test_a_match_behind_many_others_is_found,
    queue.test_an_abandoned_pull_gives_its_task_back,
    queue.test_a_reply_that_never_arrived_strands_nothing,
    queue.test_a_sign_of_the_owner_keeps_the_task,
    leases.test_all_tasks_of_a_worker_that_left_return_after_the_grace,
    leases.test_policy_mark,
    leases.test_a_reconnect_within_the_grace_keeps_everything,
    leases.test_a_stale_owner_is_refused_everywhere,
    partial(leases.test_accepting_twice_at_once_is_accepting_once, 10),
    leases.test_a_failed_attempt_returns_after_its_wait,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: getattr(case, "func", case).__name__.removeprefix("test_"))
async def test_over_sqlite(case: Callable[[], Awaitable[None]]) -> None:
    token = KIND.set("sqlite")
    try:
        await case()
    finally:
        KIND.reset(token)
