"""Publishing and history over HTTP: keys, streams of lines, long histories, lost cursors."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from taskcast_core import TaskEngine
from taskcast_server.app import create_taskcast_app
from taskcast_server.options import LimitOptions
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
async def engine() -> Any:
    async with memory_engine() as engine:
        yield engine


@pytest.fixture
async def http(engine: TaskEngine) -> Any:
    app = create_taskcast_app(engine=engine, limits=LimitOptions(max_body_bytes=20_000))
    async with serving(app) as url, client(url) as http:
        await engine.create_task(id="t")
        yield http


def line(number: int, **fields: Any) -> str:
    return json.dumps({"type": "x", "level": "info", "data": {"n": number}, **fields}) + "\n"


async def history(http: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    reply = await http.get("/tasks/t/events/history", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()  # type: ignore[no-any-return]


async def test_a_repeated_publish_appends_nothing(http: httpx.AsyncClient) -> None:
    body, key = [{"type": "x", "level": "info", "data": 1}], {"idempotency-key": "p"}
    replies = [await http.post("/tasks/t/events", json=body, headers=key) for _ in range(3)]
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.text for reply in replies}) == 1
    assert len(await history(http)) == 1
    reused = await http.post("/tasks/t/events", json=[], headers=key)
    assert reused.status_code == 422


async def test_a_stale_assignment_is_refused(http: httpx.AsyncClient) -> None:
    event = {"type": "x", "level": "info"}
    reply = await http.post("/tasks/t/events", json=event, headers={"x-taskcast-assignment": "gone"})
    assert (reply.status_code, reply.json()["code"]) == (409, "stale_assignment")


async def test_data_that_is_left_out_is_null(http: httpx.AsyncClient) -> None:
    reply = await http.post("/tasks/t/events", json={"type": "x", "level": "info"})
    assert reply.json()["data"] is None


async def test_lines_are_stored_while_the_rest_is_still_coming(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    go_on = asyncio.Event()

    async def lines() -> Any:
        yield (line(0) + line(1))[:-5].encode()
        yield (line(1)[-5:] + "\r\n  \n" + line(2)).encode()
        await go_on.wait()
        yield line(3).rstrip("\n").encode()

    sending = asyncio.create_task(http.post("/tasks/t/events", content=lines(), headers=NDJSON))

    async def three() -> bool:
        return len(await engine.get_history("t")) == 3

    await eventually(three)
    assert not sending.done()
    go_on.set()
    reply = await sending
    assert (reply.status_code, reply.json()) == (201, {"count": 4, "firstIndex": 0, "lastIndex": 3})
    assert [event["data"]["n"] for event in await history(http)] == [0, 1, 2, 3]


async def test_many_lines_take_bounded_chunks_and_a_repeat_finds_them(http: httpx.AsyncClient) -> None:
    text = "".join(line(number) for number in range(1234))
    for pieces in (1, 7):
        size = -(-len(text) // pieces)

        async def parts(size: int = size) -> Any:
            for start in range(0, len(text), size):
                yield text[start : start + size].encode()

        reply = await http.post("/tasks/t/events", content=parts(), headers={**NDJSON, "idempotency-key": "lines"})
        assert (reply.status_code, reply.json()) == (201, {"count": 1234, "firstIndex": 0, "lastIndex": 1233})
    assert len(await history(http)) == 1234


@pytest.mark.parametrize(
    ("bad", "status", "code", "path"),
    [
        ("{oops\n", 400, "validation_error", "[2]"),
        (line(2, level="loud"), 400, "validation_error", "[2].level"),
        ("x" * 30_000, 413, "body_too_large", None),
    ],
    ids=["json", "field", "size"],
)
async def test_a_bad_line_ends_it_and_says_what_was_stored(
    http: httpx.AsyncClient, bad: str, status: int, code: str, path: str | None
) -> None:
    async def lines() -> Any:
        yield (line(0) + line(1)).encode()
        yield bad.encode()
        yield line(3).encode()

    reply = await http.post("/tasks/t/events", content=lines(), headers=NDJSON)
    body = reply.json()
    assert (reply.status_code, body["code"]) == (status, code)
    stored = await history(http)
    assert body["published"]["count"] == len(stored) <= 2
    if path:
        assert body["details"][0]["path"] == path


async def test_lines_for_an_ended_task_are_refused(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    await engine.transition_task("t", "cancelled")
    reply = await http.post("/tasks/t/events", content=line(0), headers=NDJSON)
    assert (reply.status_code, reply.json()["code"]) == (400, "task_ended")
    assert reply.json()["published"] == {"count": 0}


@pytest.mark.parametrize("count", [0, 999, 1000, 1001, 2500])
async def test_a_long_history_comes_page_by_page_and_whole(
    http: httpx.AsyncClient, engine: TaskEngine, count: int
) -> None:
    await engine.publish_events("t", [{"type": "ab"[n % 2], "level": "info", "data": {"n": n}} for n in range(count)])
    assert [event["index"] for event in await history(http)] == list(range(count))
    assert [event["index"] for event in await history(http, limit=1500)] == list(range(min(count, 1500)))
    assert [event["index"] for event in await history(http, types="b")] == list(range(1, count, 2))
    if count:
        later = await history(http, limit=1200, types="a", **{"since.index": 100})
        assert [event["index"] for event in later] == [n for n in range(101, min(count, 1301)) if n % 2 == 0]


async def test_a_lost_cursor_is_told_in_a_header(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    await engine.publish_events("t", [{"type": "x", "level": "info"}] * 3)
    reply = await http.get("/tasks/t/events/history", params={"since.id": "never"})
    assert reply.headers["taskcast-gap"] == "unknown_id"
    assert len(reply.json()) == 3
    assert "taskcast-gap" not in (await http.get("/tasks/t/events/history")).headers
    assert (await http.get("/tasks/t/events/history?since.index=abc")).status_code == 400


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(http: httpx.AsyncClient) -> None:
    host, port = http.base_url.host, http.base_url.port
    _, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await http.get("/health")).status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_a_history_stops_the_reading(
    http: httpx.AsyncClient, engine: TaskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await engine.publish_events("t", [{"type": "x", "level": "info", "data": "y" * 200}] * 4000)
    pages, read = 0, engine.read_history

    async def counted(*given: Any, **options: Any) -> Any:
        nonlocal pages
        pages += 1
        return await read(*given, **options)

    monkeypatch.setattr(engine, "read_history", counted)
    async with http.stream("GET", "/tasks/t/events/history") as response:
        await anext(response.aiter_raw())

    async def is_still() -> bool:
        before = pages
        await asyncio.sleep(0.1)
        return pages == before

    await eventually(is_still)
    assert pages < 20, "the rest was read for nobody"
