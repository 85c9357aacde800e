"""What a producer's tokens cost in requests, and how long they wait: decided in virtual time, measured in full runs."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from attrs import define, field

from taskcast_client import Coalescing, TaskcastClient, errors
from taskcast_client.inprocess import in_process
from taskcast_client.models import EventInput
from taskcast_client.sending import Sender
from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_server.app import create_taskcast_app
from tests.client.virtual_time import in_virtual_time, now

EXACTLY = 1e-9
"""What adding up floating-point times may be off by (s)."""


@define
class Recorder:
    """Stands where the network is: notes when each request begins and what it carries, and takes its time.

    Attributes:
        sent_at: by the number that an event carries. starts, sizes: of the requests.
    """

    takes_s: float = 0.0
    clock: Callable[[], float] = now
    sent_at: dict[int, float] = field(factory=dict)
    starts: list[float] = field(factory=list)
    sizes: list[int] = field(factory=list)

    async def send(self, events: list[bytes]) -> None:
        at = self.clock()
        self.starts.append(at)
        self.sizes.append(len(events))
        self.sent_at.update({json.loads(each)["data"]: at for each in events})
        await asyncio.sleep(self.takes_s)


async def added_delays(recorder: Recorder, pauses: list[float]) -> list[float]:
    """From `put` to the beginning of the request that carries the event, sorted."""
    put_at: dict[int, float] = {}
    sender = Sender(recorder.send, Coalescing())
    for n, pause in enumerate(pauses):
        put_at[n] = recorder.clock()
        await sender.put(EventInput("x", n))
        await asyncio.sleep(pause)
    await sender.close()
    assert list(recorder.sent_at) == list(range(len(pauses))), "each once, in order"
    return sorted(recorder.sent_at[n] - put_at[n] for n in put_at)


@pytest.mark.parametrize("takes_s", [0.0, 0.003, 0.049])
@pytest.mark.parametrize("pause", [0.0, 0.0007, 0.004, 0.02, 0.05, 0.2, None])
def test_no_event_waits_longer_than_the_interval(pause: float | None, takes_s: float) -> None:
    pauses = [random.uniform(0, 0.1) if pause is None else pause for _ in range(400)]
    recorder = Recorder(takes_s)
    assert in_virtual_time(added_delays(recorder, pauses))[-1] <= 0.050 + EXACTLY


@pytest.mark.parametrize("pause", [0.001, 0.011, 0.049, 0.3])
def test_a_request_begins_at_most_once_per_interval(pause: float) -> None:
    recorder = Recorder()
    in_virtual_time(added_delays(recorder, [pause] * 300))
    paced = recorder.starts[:-1]  # the last one is the flush at the end
    assert min(later - earlier for earlier, later in pairwise(paced)) >= 0.050 - EXACTLY


def test_a_server_slower_than_the_interval_is_never_asked_twice_at_a_time() -> None:
    recorder = Recorder(takes_s=0.4)
    delays = in_virtual_time(added_delays(recorder, [0.01] * 300))
    gaps = [later - earlier for earlier, later in pairwise(recorder.starts)]
    assert min(gaps) >= 0.4 - EXACTLY
    assert delays[-1] <= 0.4 + EXACTLY, "an event goes with the next request"


@pytest.mark.long
@pytest.mark.anyio
async def test_the_added_delay_as_this_machine_has_it() -> None:
    """The best of three: what else the machine does is not the sender's delay."""
    p99s = []
    for _ in range(3):
        delays = await added_delays(Recorder(clock=time.monotonic), [0.004] * 1000)
        p99s.append(delays[990])
    assert min(p99s) <= 0.060


# ── A whole run, in this process ──────────────────────────────────────────────────────────────────────────────────


async def publishes(client: TaskcastClient, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times (s) at which requests that publish are begun, from now on."""
    times: list[float] = []
    run = client.connection.run

    async def counted(call):  # type: ignore[no-untyped-def]
        if call.path.endswith("/events"):
            times.append(now())
        return await run(call)

    monkeypatch.setattr(client.connection, "run", counted)
    return times


def test_a_thousand_tokens_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [f"tok{n} é " for n in range(1000)]

    async def chat() -> tuple[int, str]:
        engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore())
        async with in_process(create_taskcast_app(engine=engine)) as client:
            times = await publishes(client, monkeypatch)
            async with client.task() as task:
                for token in tokens:
                    await task.text().write(token)
                    await asyncio.sleep(0.001)
            return len(times), "".join([piece async for piece in client.text(task.id)])

    count, text = in_virtual_time(chat())
    assert count <= 25
    assert text == "".join(tokens)


# ── Its parts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test in virtual time."""

    def run() -> None:
        in_virtual_time(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@virtually
async def test_an_event_after_a_pause_goes_at_once() -> None:
    recorder = Recorder()
    sender = Sender(recorder.send, Coalescing(interval_ms=60_000))
    await sender.put(EventInput("x", 0))
    await asyncio.sleep(60)
    assert recorder.starts == [0.0]
    await asyncio.sleep(1)
    await sender.put(EventInput("x", 1))
    await asyncio.sleep(0.001)
    assert recorder.starts == [0.0, 61.0]
    await sender.close()


@virtually
async def test_flush_does_not_wait_for_the_interval() -> None:
    recorder = Recorder()
    sender = Sender(recorder.send, Coalescing(interval_ms=60_000))
    for n in range(5):
        await sender.put(EventInput("x", n))
        await sender.flush()
        assert len(recorder.sent_at) == n + 1
    await sender.close()
    assert now() == 0.0


@virtually
async def test_without_coalescing_each_goes_as_soon_as_the_last_reply_is_there() -> None:
    recorder = Recorder(takes_s=1.0)
    sender = Sender(recorder.send, Coalescing(interval_ms=0))
    for n in range(5):
        await sender.put(EventInput("x", n))
        await asyncio.sleep(0.3)
    await sender.close()
    assert recorder.starts == [0.0, 1.0, 2.0]
    assert recorder.sizes == [1, 3, 1]


@virtually
async def test_a_slow_server_holds_its_producers_back() -> None:
    free = asyncio.Event()
    sent: list[int] = []
    under_way = most = put = 0

    async def send(events: list[bytes]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await free.wait()
        sent.extend(json.loads(each)["data"] for each in events)
        under_way -= 1

    sender = Sender(send, Coalescing(interval_ms=1, max_events=10))

    async def produce() -> None:
        nonlocal put
        for n in range(500):
            await sender.put(EventInput("x", n))
            put += 1

    producing = asyncio.create_task(produce())
    await asyncio.sleep(3600)
    assert 10 <= put <= 21, "what is under way, and what waits"
    free.set()
    await producing
    await sender.close()
    assert sent == list(range(500))
    assert most == 1


@virtually
async def test_a_failure_reaches_whoever_waits() -> None:
    go = asyncio.Event()

    async def send(events: list[bytes]) -> None:
        await go.wait()
        raise errors.ConnectionFailed("gone")

    sender = Sender(send, Coalescing(interval_ms=1, max_events=2))

    async def produce() -> None:
        for n in range(100):
            await sender.put(EventInput("x", n))

    producing, flushing = asyncio.create_task(produce()), asyncio.create_task(sender.flush())
    await asyncio.sleep(1)
    go.set()
    with pytest.raises(errors.ConnectionFailed):
        await producing
    await asyncio.gather(flushing, return_exceptions=True)
    with pytest.raises(errors.ConnectionFailed):
        await sender.close()


@virtually
async def test_nobody_waits_for_a_sender_that_is_gone() -> None:
    async def send(events: list[bytes]) -> None:
        raise RuntimeError("the client has been closed")

    sender = Sender(send, Coalescing(interval_ms=0))
    await sender.put(EventInput("x"))
    with pytest.raises(RuntimeError, match="closed"):
        await sender.flush()
    with pytest.raises(RuntimeError, match="closed"):
        await sender.close()
