"""A task's stream through every cut: every event once, in order, to the end."""

import asyncio
import random
import threading
from contextlib import aclosing

import httpx
import pytest

from taskcast_client import (
    ConnectionFailed,
    Envelope,
    EventInput,
    RetryPolicy,
    StreamInterrupted,
    SyncTaskcastClient,
    TaskcastClient,
    errors,
)
from taskcast_client.errors import TextRestarted
from taskcast_client.stream import TaskStream
from tests.client.conftest import TaskcastServer, before
from tests.client.cutting_proxy import AfterBytes, AfterFrames, Cut, CuttingProxy
from tests.client.raw_server import RawServer
from tests.fixtures.eventually import eventually
from tests.fixtures.scale import Scale

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

QUICK = RetryPolicy(attempts=3, first_s=0.005, longest_s=0.02)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect within milliseconds."""
    monkeypatch.setattr("taskcast_client.stream._AGAIN", RetryPolicy(first_s=0.001, longest_s=0.01))


def delta(text: str, series: str = "response") -> EventInput:
    return EventInput("llm.text", {"delta": text}, series_id=series, series_mode="accumulate")


async def told_task(client: TaskcastClient) -> str:
    """A finished task with plain events, two texts and some Unicode."""
    task = await client.create_task(type="story")
    await client.transition_task(task.id, "running")
    events = [
        EventInput("plain", {"n": 0}),
        delta("Hel"),
        delta("lo "),
        delta("x", "other"),
        EventInput("plain", "é\U0001f600"),
    ]
    events += [delta("wörld"), delta("y", "other"), EventInput("plain", {"n": 2}), delta("!")]
    await client.publish_events(task.id, events)
    await client.complete_task(task.id, {"said": "Hello wörld!"})
    return task.id


def without_pool(url: str) -> TaskcastClient:
    """A client that opens a connection for each request, so that each meets the proxy anew."""
    return TaskcastClient(url, retry=QUICK, headers={"Connection": "close"})


async def collect(stream: TaskStream) -> list[Envelope]:
    async with stream:
        return [event async for event in stream]


def texts(events: list[Envelope]) -> dict[str, str]:
    """What a reader has in its hands at the end, by the rule of the wire."""
    found: dict[str, str] = {}
    for event in events:
        if event.series_id is not None:
            before = "" if event.series_snapshot else found.get(event.series_id, "")
            found[event.series_id] = before + event.data["delta"]
    return found


async def test_a_story_from_its_start_to_its_end(client: TaskcastClient) -> None:
    task_id = await told_task(client)
    stream = client.subscribe(task_id)
    events = await collect(stream)
    assert (stream.status, stream.is_done, stream.connections) == ("completed", True, 1)
    assert texts(events) == {"response": "Hello wörld!", "other": "xy"}
    assert [event.raw_index for event in events] == sorted({event.raw_index for event in events})
    assert events[-1].data["result"] == {"said": "Hello wörld!"}
    later = await collect(client.subscribe(task_id, since=events[2].event_id, types=["plain"]))
    assert [event.data for event in later] == [event.data for event in events[3:] if event.type == "plain"]


async def check_cut(reader: TaskcastClient, proxy: CuttingProxy, cut: Cut, first: str, whole: list[Envelope]) -> None:
    """Read on from the first event; the first connection is cut."""
    proxy.cut_next(cut)
    stream = reader.subscribe(whole[0].task_id, since=first)
    events = await collect(stream)
    assert [event.event_id for event in events] == [event.event_id for event in whole], cut
    assert [event.raw_index for event in events] == [event.raw_index for event in whole], cut
    assert texts(events) == texts(whole), cut
    assert stream.status == "completed"


async def test_position_and_status_are_those_of_what_was_given(client: TaskcastClient) -> None:
    """More has arrived already than was given: a reader that stops here has not seen it."""
    task_id = await told_task(client)
    first = (await client.get_history(task_id))[0].id
    whole = client.subscribe(task_id, since=first)
    given = [(event.event_id, whole.last_event_id, whole.status) async for event in whole]
    ids = [event_id for event_id, _, _ in given]
    assert given == [(event_id, event_id, None) for event_id in ids[:-1]] + [(ids[-1], ids[-1], "completed")]
    for n in range(len(ids)):
        async with client.subscribe(task_id, since=first) as stream:
            for _ in range(n + 1):
                await anext(stream)
        rest = await collect(client.subscribe(task_id, since=stream.last_event_id))
        assert [event.event_id for event in rest] == ids[n + 1 :]


@pytest.mark.parametrize("abruptly", [False, True])
async def test_cut_at_every_frame_and_inside_of_each(
    client: TaskcastClient, server: TaskcastServer, abruptly: bool
) -> None:
    """Right at the boundary, a byte before and after it, and in the middle of what follows."""
    task_id = await told_task(client)
    first = (await client.get_history(task_id))[0].id
    whole = await collect(client.subscribe(task_id, since=first))
    async with CuttingProxy(server.url, abruptly=abruptly) as proxy, without_pool(proxy.url) as reader:
        for frames in range(len(whole) + 1):
            for more in (-1, 0, 1, 30):
                await check_cut(reader, proxy, AfterFrames(frames, more), first, whole)
        count = 4 * (len(whole) + 1)
        assert (proxy.cuts_made, proxy.connections) == (count, 2 * count), "each cut cost one more connection"


@pytest.mark.long
@pytest.mark.parametrize("abruptly", [False, True])
async def test_cut_at_every_byte(memory_server: TaskcastServer, abruptly: bool) -> None:
    async with TaskcastClient(memory_server.url) as client, httpx.AsyncClient() as http:
        task_id = await told_task(client)
        first = (await client.get_history(task_id))[0].id
        whole = await collect(client.subscribe(task_id, since=first))
        answer = await http.get(f"{memory_server.url}/tasks/{task_id}/events", params={"since.id": first})
        size = len(answer.content)
    async with CuttingProxy(memory_server.url, abruptly=abruptly) as proxy, without_pool(proxy.url) as reader:
        at = 0
        while proxy.cuts_made == at:  # until one lies behind the end
            at += 1
            await check_cut(reader, proxy, AfterBytes(at), first, whole)
        assert at > size, "the head, and all of the body"


@pytest.mark.parametrize("more", [0, 1, 30, 150])
async def test_nothing_but_cuts(client: TaskcastClient, server: TaskcastServer, more: int) -> None:
    """Every connection brings one frame, and a piece of the next."""
    task_id = await told_task(client)
    log = await client.get_history(task_id)
    async with (
        CuttingProxy(server.url, [AfterFrames(1, more)] * 200) as proxy,
        TaskcastClient(proxy.url, retry=QUICK) as reader,
    ):
        stream = reader.subscribe(task_id, since=log[0].id)
        events = await collect(stream)
    assert stream.connections >= len(log) - 1
    assert [event.event_id for event in events] == [event.id for event in log[1:]]
    assert texts(events) == {"response": "Hello wörld!", "other": "xy"}


async def test_cut_in_the_middle_of_a_collapsed_replay(client: TaskcastClient, server: TaskcastServer) -> None:
    task_id = await told_task(client)
    whole = texts(await collect(client.subscribe(task_id)))
    async with CuttingProxy(server.url) as proxy, without_pool(proxy.url) as reader:
        for cut in [AfterFrames(frames, more) for frames in range(6) for more in (0, 30)]:
            proxy.cut_next(cut)
            events = await collect(reader.subscribe(task_id))
            assert texts(events) == whole, cut
            indexes = [event.raw_index for event in events]
            assert indexes == sorted(set(indexes)), cut
        assert proxy.cuts_made == 12


async def test_cut_at_random_while_it_is_being_told(
    client: TaskcastClient, server: TaskcastServer, scale: Scale
) -> None:
    task = await client.create_task()
    await client.transition_task(task.id, "running")
    count = scale(everyday=80, full=5000)

    async def tell() -> None:
        for n in range(count):
            await client.publish_events(task.id, [delta(f"{n} "), EventInput("plain", n)])
        await client.complete_task(task.id)

    cuts = [AfterBytes(random.randrange(200, 6000)) for _ in range(100_000)]
    async with (
        CuttingProxy(server.url, cuts) as proxy,
        TaskcastClient(proxy.url, retry=QUICK) as reader,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(tell())
        first = reader.subscribe(task.id)
        text = reader.text(task.id)
        reading = group.create_task(collect(first))
        pieces = [piece async for piece in text]
        events = await reading
        assert first.connections > 5
    assert [event.data for event in events if event.type == "plain"] == list(range(count))
    assert "".join(pieces) == text.text == texts(events)["response"] == "".join(f"{n} " for n in range(count))


async def test_a_silent_connection_is_given_up_and_resumed(client: TaskcastClient, server: TaskcastServer) -> None:
    task_id = (await client.create_task()).id
    await client.transition_task(task_id, "running")
    async with before(server, retry=QUICK, timeout_s=0.5) as (proxy, reader):
        stream = reader.subscribe(task_id, silence_s=0.3)
        assert (await anext(stream)).raw_index == 0
        proxy.blackhole()
        await client.publish_event(task_id, "x")
        await client.complete_task(task_id)
        reading = asyncio.create_task(collect(stream))
        await eventually(lambda: proxy.accepted > 1)
        await proxy.heal()
        assert [event.raw_index for event in await reading] == [1, 2]


async def test_what_ends_a_stream(client: TaskcastClient, guarded_server: TaskcastServer) -> None:
    with pytest.raises(errors.TaskNotFound):
        await collect(client.subscribe("nobody"))
    async with TaskcastClient(guarded_server.url, retry=QUICK) as nobody:
        with pytest.raises(errors.Unauthorized):
            await collect(nobody.subscribe("x"))
        narrow = await nobody.create_admin_token("the-admin-token", scopes=["task:create"])
    async with TaskcastClient(guarded_server.url, token=narrow.token, retry=QUICK) as writer:
        task = await writer.create_task()
        with pytest.raises(errors.Forbidden):
            await collect(writer.subscribe(task.id))


async def test_nobody_there_and_gone_for_good(client: TaskcastClient, server: TaskcastServer) -> None:
    async with RawServer([]) as raw:
        url = raw.url
    async with TaskcastClient(url, retry=QUICK) as reader:
        with pytest.raises(ConnectionFailed):
            await collect(reader.subscribe("x"))
    task_id = (await client.create_task()).id
    await client.publish_event(task_id, "x")
    async with before(server, retry=QUICK) as (proxy, reader):
        stream = reader.subscribe(task_id, give_up_after_s=0.2)
        seen = await anext(stream)
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(StreamInterrupted) as caught:
            await anext(stream)
        assert caught.value.last_event_id == seen.event_id


async def test_a_task_made_anew_is_told_as_a_gap(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    old = await client.publish_event(task_id, "old")
    stream = client.subscribe(task_id, since="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    gap, first = await anext(stream), await anext(stream)
    assert (gap.is_gap, gap.event_id, gap.data["nextIndex"]) == (True, "", 0)
    assert first.event_id == old.id
    await stream.aclose()


async def test_callbacks(client: TaskcastClient) -> None:
    task_id = await told_task(client)
    events: list[Envelope] = []
    ends: list[str] = []

    async def on_done(status: str) -> None:
        ends.append(status)

    handle = client.subscribe(task_id, on_event=events.append, on_done=on_done)
    assert await handle.wait() == "completed"
    assert ends == ["completed"]
    assert texts(events)["response"] == "Hello wörld!"
    failures: list[errors.ClientError] = []
    await client.subscribe("nobody", on_event=events.append, on_error=failures.append).wait()
    assert isinstance(failures[0], errors.TaskNotFound)
    with pytest.raises(errors.TaskNotFound):
        await client.subscribe("nobody", on_event=events.append).wait()


async def test_unsubscribing_frees_the_connection(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    await client.publish_event(task_id, "x")
    seen: list[Envelope] = []
    handle = client.subscribe(task_id, on_event=seen.append)
    await eventually(lambda: seen)
    handle()
    handle.unsubscribe()
    assert await handle.wait() is None

    async def is_free() -> bool:
        return (await client.get_task(task_id)).subscriber_count == 0

    await eventually(is_free)


async def test_leaving_the_loop_early_frees_the_connection(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    await client.publish_event(task_id, "x")
    async for _ in client.subscribe(task_id):
        break

    async def is_free() -> bool:
        return (await client.get_task(task_id)).subscriber_count == 0

    await eventually(is_free)


# ── Texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_text_as_deltas_and_growing(client: TaskcastClient) -> None:
    task_id = await told_task(client)
    assert [piece async for piece in client.text(task_id)] == ["Hello wörld!"]
    assert [piece async for piece in client.text(task_id, series="other")] == ["xy"]
    assert [piece async for piece in client.text(task_id, series="none")] == []
    growing = client.text(task_id, growing=True)
    assert [piece async for piece in growing][-1] == growing.text == "Hello wörld!"


async def test_text_while_it_grows(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    await client.publish_event(task_id, "llm.text", {"delta": "a"}, series_id="response", series_mode="accumulate")
    async with aclosing(client.text(task_id)) as deltas, aclosing(client.text(task_id, growing=True)) as growing:
        assert [await anext(deltas), await anext(growing)] == ["a", "a"]
        await client.publish_events(task_id, [delta("b")])
        assert [await anext(deltas), await anext(growing)] == ["b", "ab"]


async def test_a_text_that_begins_anew(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    await client.publish_events(task_id, [delta("first")])
    async with aclosing(client.text(task_id)) as deltas, aclosing(client.text(task_id, growing=True)) as growing:
        assert [await anext(deltas), await anext(growing)] == ["first", "first"]
        nothing = EventInput("llm.text", {}, series_id="response", series_mode="accumulate")
        await client.publish_events(task_id, [nothing, delta("second")])
        assert [await anext(growing), await anext(growing)] == ["", "second"]
        with pytest.raises(TextRestarted) as caught:
            await anext(deltas)
        assert caught.value.text == "second"


async def test_waiting_for_the_end(client: TaskcastClient) -> None:
    task_id = (await client.create_task()).id
    waiting = asyncio.create_task(client.wait(task_id))
    await client.transition_task(task_id, "running")
    await client.fail_task(task_id, "no luck")
    ended = await waiting
    assert ended.error
    assert ended.error.message == "no luck"


async def test_all_tasks(client: TaskcastClient) -> None:
    mine = f"kind.{random.random()}"

    async def publish() -> None:
        while True:
            await client.publish_event((await client.create_task()).id, mine)
            await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    async with aclosing(client.subscribe_all(types=[mine])) as stream:
        seen = [(await anext(stream)).task_id for _ in range(3)]
    publishing.cancel()
    assert len(set(seen)) == 3


def test_the_blocking_client_reads_all_tasks(sync_client: SyncTaskcastClient) -> None:
    mine, is_over = f"kind.{random.random()}", threading.Event()

    def publish() -> None:
        while not is_over.wait(0.01):
            sync_client.publish_event(sync_client.create_task().id, mine)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        with sync_client.subscribe_all(types=[mine]) as stream:
            assert [next(stream).type for _ in range(3)] == [mine] * 3
    finally:
        is_over.set()
        publishing.join()


def test_the_blocking_client_reads_streams_and_texts(sync_client: SyncTaskcastClient) -> None:
    task = sync_client.create_task()
    sync_client.transition_task(task.id, "running")
    sync_client.publish_events(task.id, [delta("a"), delta("b")])
    with sync_client.text(task.id) as text:
        assert next(text) == "ab"
    sync_client.complete_task(task.id)
    with sync_client.subscribe(task.id, types=["taskcast:status"]) as stream:
        assert [event.data["status"] for event in stream] == ["running", "completed"]
        assert stream.status == "completed"
