"""The HTTP protocol of the server, byte by byte: any ASGI application is served as the standards say."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from taskcast_server.exchange import in_chunks
from taskcast_server.protocol import MAX_HEAD_BYTES
from tests.fixtures.eventually import eventually
from tests.server.app_server import serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

NOT_HTTP = b'{"error":"Invalid HTTP request received.","code":"malformed_request"}'

App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Sends the body back, with the path in front, part by part and without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    await send({"type": "http.response.body", "body": scope["path"].encode() + b":", "more_body": True})
    is_more = True
    while is_more:
        message = await receive()
        is_more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": is_more})


async def short(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Answers with a length, and does not look at the body."""
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def line_to(app: App) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the application."""
    async with serving(app, lifespan="off") as url:
        target = httpx.URL(url)
        reader, writer = await asyncio.open_connection(target.host, target.port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def reply_of(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers and body of the next reply."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    status, *fields = head.rstrip(b"\r\n").split(b"\r\n")
    headers = dict(field.split(b": ", 1) for field in fields)
    body = b""
    if headers.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif b"content-length" in headers:
        body = await reader.readexactly(int(headers[b"content-length"]))
    elif headers.get(b"connection") == b"close":
        body = await asyncio.wait_for(reader.read(), 20)
    return status, headers, body


async def test_requests_on_one_line_are_answered_in_turn() -> None:
    async with line_to(echo) as (reader, writer):
        for number in range(3):
            writer.write(b"POST /a%%20b/%d?q=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc" % number)
            status, headers, body = await reply_of(reader)
            assert (status, headers[b"x-path"], body) == (
                b"HTTP/1.1 200 OK",
                b"/a%%20b/%d" % number,
                b"/a b/%d:abc" % number,
            )
            assert b"connection" not in headers


async def test_requests_that_are_sent_ahead_wait_for_their_turn() -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(
            b"".join(b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%d" % (n, n) for n in range(5))
        )
        assert [(await reply_of(reader))[2] for _ in range(5)] == [b"/%d:%d" % (n, n) for n in range(5)]


async def test_a_long_body_is_taken_as_fast_as_it_is_read() -> None:
    sizes: list[int] = []
    may_read = asyncio.Event()

    async def slow(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        await may_read.wait()
        while (message := await receive())["more_body"]:
            sizes.append(len(message["body"]))
        sizes.append(len(message["body"]))
        await short(scope, receive, send)

    total = 8 << 20
    async with line_to(slow) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % total)
        sending = asyncio.ensure_future(_send_all(writer, b"x" * total))
        await eventually(lambda: writer.transport.get_write_buffer_size() > 0)
        assert not sending.done()
        may_read.set()
        await asyncio.wait_for(sending, 20)
        assert (await reply_of(reader))[2] == b"ok"
        assert sum(sizes) == total
        assert max(sizes) < total // 4


async def _send_all(writer: asyncio.StreamWriter, body: bytes) -> None:
    for at in range(0, len(body), 1 << 16):
        writer.write(body[at : at + (1 << 16)])
        await writer.drain()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            200,
            b"/:abc",
        ),
        (b"GET http://x/far HTTP/1.1\r\nhost: x\r\n\r\n", 200, b"/far:"),
        (b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200, b""),
        (b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 200, b"/:"),
        (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400, NOT_HTTP),
        (b"nonsense\r\n\r\n", 400, NOT_HTTP),
    ],
)
async def test_what_is_asked_in_other_ways(request_: bytes, status: int, body: bytes) -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(request_)
        answered, _, sent = await reply_of(reader)
        assert (int(answered.split()[1]), sent) == (status, body)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nx-a: ", b"GET /"])
async def test_headers_have_an_end(start: bytes) -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(start + b"a" * MAX_HEAD_BYTES)
        status, headers, _ = await reply_of(reader)
        assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
        assert headers[b"connection"] == b"close"


async def test_an_old_client_is_told_the_end_by_the_end_of_the_connection() -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(b"POST /x HTTP/1.0\r\ncontent-length: 2\r\n\r\nab")
        _, headers, body = await reply_of(reader)
        assert (headers[b"connection"], body) == (b"close", b"/x:ab")
        assert b"transfer-encoding" not in headers
        assert reader.at_eof()


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")  # the echo begins before it reads; then it is too late to say so
        writer.write(b"ab")
        assert (
            await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)
            == in_chunks(b"/:") + in_chunks(b"ab") + b"0\r\n\r\n"
        )


async def test_and_before_the_reply_begins() -> None:
    async def careful(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        assert (await receive())["body"] == b"ab"
        await short(scope, receive, send)

    async with line_to(careful) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await reply_of(reader))[2] == b"ok"


async def test_a_line_stays_usable_behind_a_body_that_nobody_read() -> None:
    async with line_to(short) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000)
            assert (await reply_of(reader))[2] == b"ok"


async def test_close_is_close() -> None:
    async with line_to(short) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reply_of(reader))[1][b"connection"] == b"close"
        assert await asyncio.wait_for(reader.read(), 20) == b""


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"type": "http.response.body", "body": b"early"}],
        [{"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1\r\nx-b: 2")]}],
    ],
)
async def test_an_application_that_fails_is_answered_for(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        for message in messages:
            await send(message)

    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        async with line_to(failing) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            status, headers, body = await reply_of(reader)
    assert (status, body) == (b"HTTP/1.1 500 Internal Server Error", b"Internal Server Error")
    assert b"x-b" not in headers


@pytest.mark.parametrize("length", [1, 3])
async def test_a_body_of_another_length_ends_the_connection(length: int, caplog: pytest.LogCaptureFixture) -> None:
    async def wrong(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        headers = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ab"})

    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        async with line_to(wrong) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"ab" not in await asyncio.wait_for(reader.read(), 20)


async def test_an_application_hears_of_a_client_that_left() -> None:
    heard: list[str] = []

    async def waiting(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    async with line_to(waiting) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: heard == ["http.request"])
        writer.close()
        await eventually(lambda: heard == ["http.request", "http.disconnect"])


async def test_an_idle_line_is_closed_and_a_busy_one_is_not() -> None:
    may_answer = asyncio.Event()

    async def patient(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["path"] == "/wait":
            await may_answer.wait()
        await short(scope, receive, send)

    async with serving(patient, lifespan="off", keep_alive_s=1) as url:
        target = httpx.URL(url)
        lines = [await asyncio.open_connection(target.host, target.port) for _ in range(2)]
        (idle, idle_writer), (busy, busy_writer) = lines
        for reader, writer in lines:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reply_of(reader))[2] == b"ok"
        busy_writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await asyncio.wait_for(idle.read(), 20) == b""
        may_answer.set()
        assert (await reply_of(busy))[2] == b"ok"
        for writer in (idle_writer, busy_writer):
            writer.close()
