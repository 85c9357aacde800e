"""Workers on three nodes that share nothing but a Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest

from taskcast_redis import create_redis_adapters
from tests.core import test_workers_leases as leases
from tests.core import test_workers_queue as queue
from tests.core.worker_rooms import KIND, PARTS, Parts
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import FULL_SCALE, Scale

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("over_redis")]


@pytest.fixture
def over_redis(redis_server: RedisServer, prefix: str) -> Iterator[None]:
    """Nodes that are opened in the test find each other in Redis, each with connections of its own."""

    async def parts(stack: AsyncExitStack) -> Parts:
        adapters = await stack.enter_async_context(create_redis_adapters(redis_server.url, prefix=prefix))
        return adapters.broadcast, adapters.short_term_store

    kind, opened = KIND.set("redis"), PARTS.set(parts)
    yield
    PARTS.reset(opened)
    KIND.reset(kind)


CASES: tuple[Callable[[], Awaitable[None]], ...] = (
    queue.test_priority_then_age,
    queue.test_a_full_worker_waits_for_room,
    queue.test_a_reply_that_never_arrived_strands_nothing,
    leases.test_all_tasks_of_a_worker_that_left_return_after_the_grace,
    leases.test_a_reconnect_within_the_grace_keeps_everything,
    leases.test_of_an_offer_and_another_task_a_worker_gets_what_fits,
    leases.test_a_stale_owner_is_refused_everywhere,
    partial(leases.test_accepting_twice_at_once_is_accepting_once, 10),
    leases.test_an_offer_reaches_a_worker_on_another_node,
    leases.test_a_cancellation_reaches_the_socket_on_another_node,
    leases.test_a_failed_attempt_returns_after_its_wait,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: getattr(case, "func", case).__name__.removeprefix("test_"))
async def test_over_redis(case: Callable[[], Awaitable[None]]) -> None:
    await case()


@pytest.mark.timeout(3600 if FULL_SCALE else 400)
async def test_fifty_workers_race_for_tasks_on_three_nodes(scale: Scale) -> None:
    await queue.fifty_workers_race(scale(150, 1000))


@pytest.mark.timeout(3600 if FULL_SCALE else 400)
async def test_capacity_never_leaks_over_many_assignments_with_random_kills(scale: Scale) -> None:
    await leases.capacity_never_leaks(scale(120, 10_000))


async def test_one_of_sixteen_claims_wins(scale: Scale) -> None:
    await leases.one_of_sixteen_claims_wins(scale(10, 1000))
