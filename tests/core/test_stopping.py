"""Background tasks end, whatever becomes of a cancellation."""

import asyncio

import pytest

from taskcast_core.stopping import stop

pytestmark = pytest.mark.anyio


async def swallowing(times: int) -> None:
    """What a task does that runs into a library's lost cancellation."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def test_a_swallowed_cancellation_is_asked_for_again() -> None:
    tasks = [asyncio.create_task(swallowing(times)) for times in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await stop(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_cancelled_caller_waits_for_them_first() -> None:
    task = asyncio.create_task(swallowing(2))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stop([task]))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping}, timeout=20)
    assert stopping.cancelled() and task.cancelled()
