"""The HTTP protocol of the server, byte by byte: any ASGI application is served as the standards say."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import httpx
import pytest

from taskcast_server.direct import EXTENSION
from taskcast_server.exchange import in_chunks
from taskcast_server.protocol import MAX_HEAD_BYTES, DirectProtocol
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
async def line_to(app: App, **options: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the application."""
    async with serving(app, lifespan="off", **options) as url:
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
        (b"GET / HTTP/1.0\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 200, b"/:"),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 400, NOT_HTTP),
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


@pytest.mark.parametrize("start", [b"0\r\nx-a: ", b"1;x="])
async def test_and_so_does_what_comes_beside_a_body(start: bytes) -> None:
    lost: list[str] = []

    async def taking(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        lost.append(message["type"])

    async with line_to(taking) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n" + start)
        with suppress(ConnectionError):
            for _ in range(20):
                writer.write(b"a" * MAX_HEAD_BYTES)
                await writer.drain()
            assert (await reply_of(reader))[0] == b"HTTP/1.1 431 Request Header Fields Too Large"
        await eventually(lambda: bool(lost))


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


GET = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_a_head_is_measured_without_what_came_before_it() -> None:
    async with line_to(short) as (reader, writer):
        count = 2 * MAX_HEAD_BYTES // len(GET)
        writer.write(GET % 1 * count + (GET % 2)[:9])
        for _ in range(count):
            assert (await reply_of(reader))[2] == b"ok"
        writer.write((GET % 2)[9:])
        assert (await reply_of(reader))[2] == b"ok"


async def test_what_is_not_http_does_not_take_the_place_of_a_reply() -> None:
    may_answer = asyncio.Event()

    async def patient(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        await may_answer.wait()
        await short(scope, receive, send)

    async with line_to(patient) as (reader, writer):
        writer.write(GET % 1 + GET % 2 + b"nonsense\r\n\r\n")
        await writer.drain()
        may_answer.set()
        assert [(await reply_of(reader))[0] for _ in range(2)] == [b"HTTP/1.1 201 Created"] * 2
        await _until_closed(reader)


async def test_a_malformed_body_ends_a_reply_that_has_begun() -> None:
    async with line_to(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(in_chunks(b"/:")), 20)
        writer.write(b"nonsense\r\n")
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_a_malformed_body_is_not_answered_twice() -> None:
    async with line_to(short) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await reply_of(reader))[2] == b"ok"
        writer.write(b"nonsense\r\n")
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_a_socket_does_not_begin_inside_of_a_reply() -> None:
    heard: list[str] = []

    async def waiting(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        heard.append(scope["type"])
        while (message := await receive())["type"] != "http.disconnect":
            pass
        heard.append(message["type"])

    upgrade = (
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with line_to(waiting, ws="websockets-sansio") as (reader, writer):
        writer.write(GET % 1)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\no"), 20)
        writer.write(upgrade)
        await _until_closed(reader)
        await eventually(lambda: heard == ["http", "http.disconnect"])


@pytest.mark.parametrize("is_split", [False, True])
async def test_a_body_stays_a_body_where_another_protocol_is_offered(is_split: bool) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\n"
    async with line_to(echo) as (reader, writer):
        writer.write(head if is_split else head + b"abc" + GET % 2)
        if is_split:
            await asyncio.wait_for(reader.readuntil(in_chunks(b"/:")), 20)
            writer.write(b"abc" + GET % 2)
            assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20) == in_chunks(b"abc") + b"0\r\n\r\n"
        else:
            assert (await reply_of(reader))[2] == b"/:abc"
        assert (await reply_of(reader))[2] == b"/2:"


async def test_trailers_are_no_headers() -> None:
    async def names(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b",".join(name for name, _ in scope["headers"])})

    async with line_to(names) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-a: 1\r\n\r\n")
        assert (await reply_of(reader))[2] == b"host,transfer-encoding"


async def test_nobody_waits_for_a_body_that_was_not_asked_for() -> None:
    async with line_to(short) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 30\r\n\r\n")
        assert (await reply_of(reader))[1][b"connection"] == b"close"
        await _until_closed(reader)


@pytest.mark.parametrize("is_direct", [True, False])
async def test_an_application_may_close(is_direct: bool) -> None:
    close = (b"connection", b"close")

    async def closing(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if is_direct:
            assert scope["extensions"][EXTENSION].reply(200, (close,), b"ok")
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [close, (b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    async with line_to(closing) as (reader, writer):
        writer.write(GET % 1)
        assert (await reply_of(reader))[2] == b"ok"
        await _until_closed(reader)


async def test_one_request_does_not_begin_in_the_context_of_another() -> None:
    seen: list[str] = []
    variable: ContextVar[str] = ContextVar("variable", default="")

    async def marking(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        seen.append(variable.get())
        variable.set(scope["path"])
        while (await receive())["more_body"]:  # reading was paused, and goes on from here
            pass
        await short(scope, receive, send)

    async with line_to(marking) as (reader, writer):
        long = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
        writer.write(GET % 1 + long + GET % 2)
        for _ in range(3):
            assert (await reply_of(reader))[2] == b"ok"
        writer.write(GET % 3)
        assert (await reply_of(reader))[2] == b"ok"
    assert seen == ["", "", "", ""]


async def test_nothing_is_left_for_the_garbage_collector_to_find() -> None:
    lines: list[weakref.ref[Any]] = []

    class Noted(DirectProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            lines.append(weakref.ref(self))

    async with line_to(short, http=Noted) as (reader, writer):
        writer.write(GET % 1)
        assert (await reply_of(reader))[2] == b"ok"
        gc.collect()
        gc.disable()
        try:
            writer.close()
            await eventually(lambda: [line() for line in lines] == [None])
        finally:
            gc.enable()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):  # closed before all that was sent had been read
        assert await asyncio.wait_for(reader.read(), 20) == b""


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
        busy_writer.write(GET % 1 + b"GET /wait HT")  # so that it has begun before the line became idle
        assert (await reply_of(busy))[2] == b"ok"
        busy_writer.write(b"TP/1.1\r\nhost: x\r\n\r\n")
        assert await asyncio.wait_for(idle.read(), 20) == b""
        may_answer.set()
        assert (await reply_of(busy))[2] == b"ok"
        for writer in (idle_writer, busy_writer):
            writer.close()
