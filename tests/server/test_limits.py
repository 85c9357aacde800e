"""What one caller may use up."""

from collections.abc import Collection

import pytest

from taskcast_server.app import create_taskcast_app
from taskcast_server.errors import TooManyRequests
from taskcast_server.limits import LiveTasks, OpenStreams, RequestRate, caller_limits
from taskcast_server.options import LimitOptions
from tests.server.app_server import client, memory_engine, serving

pytestmark = pytest.mark.anyio


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def retry_after(error: TooManyRequests) -> int:
    return int(dict(error.headers)[b"retry-after"])


def test_a_bucket_holds_the_burst_and_fills_with_time() -> None:
    time = Time()
    rate = RequestRate(60, 3, monotonic=time)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.take("a")
    assert retry_after(refused.value) == 1
    rate.take("b")
    time.now += 0.99
    with pytest.raises(TooManyRequests):
        rate.take("a")
    time.now += 0.02
    rate.take("a")
    time.now += 3600
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")


def test_retry_after_is_when_there_is_a_token_again() -> None:
    time = Time()
    rate = RequestRate(6, 1, monotonic=time)
    rate.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.take("a")
    assert retry_after(refused.value) == 10
    time.now += retry_after(refused.value)
    rate.take("a")


def test_callers_do_not_pile_up() -> None:
    rate = RequestRate(60, 1)
    for number in range(20_000):
        rate.take(str(number))
    assert len(rate._buckets) <= 10_000


def test_streams_are_counted_while_they_are_open() -> None:
    streams = OpenStreams(1)
    with streams.opened("a"):
        with pytest.raises(TooManyRequests), streams.opened("a"):
            pass
        with streams.opened("b"):
            pass
    with streams.opened("a"):
        pass
    assert streams._open == {}


async def test_ended_tasks_make_room_for_new_ones() -> None:
    time, live, asked = Time(), {"1", "2", "3"}, []

    async def still_live(ids: Collection[str]) -> Collection[str]:
        asked.append(sorted(ids))
        return live & set(ids)

    tasks = LiveTasks(3, still_live, monotonic=time)
    for name in "123":
        await tasks.check("a")
        tasks.add("a", name)
    assert asked == []
    with pytest.raises(TooManyRequests):
        await tasks.check("a")
    await tasks.check("b")
    live.discard("2")
    with pytest.raises(TooManyRequests):
        await tasks.check("a")
    assert asked == [["1", "2", "3"]], "looks at most once a second"
    time.now += 1
    await tasks.check("a")


def test_without_authentication_nothing_is_bounded_unless_asked_for() -> None:
    async def nobody(ids: Collection[str]) -> Collection[str]:
        return ids

    open_ = caller_limits(LimitOptions(), nobody, is_open=True)
    assert (open_.rate, open_.streams, open_.tasks) == (None, None, None)
    known = caller_limits(LimitOptions(), nobody, is_open=False)
    assert None not in (known.rate, known.streams, known.tasks)
    asked = caller_limits(LimitOptions(requests_per_minute=5), nobody, is_open=True)
    assert asked.rate is not None


async def test_too_many_requests_are_429_with_retry_after() -> None:
    limits = LimitOptions(requests_per_minute=60, burst=3)
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine, limits=limits)
        async with serving(app) as url, client(url) as http:
            statuses = [(await http.get("/tasks")).status_code for _ in range(3)]
            refused = await http.get("/tasks")
            assert (statuses, refused.status_code) == ([200] * 3, 429)
            assert refused.json()["code"] == "too_many_requests"
            assert refused.headers["retry-after"] == "1"
            assert (await http.get("/health")).status_code == 200, "probes are not counted"


def test_a_caller_is_never_told_to_come_back_at_once() -> None:
    rate = RequestRate(60_000, 1, monotonic=Time())
    rate.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.take("a")
    assert retry_after(refused.value) == 1
