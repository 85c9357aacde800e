"""The browser page in a real browser: two tabs, a refresh and a cut in mid-stream, equal texts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from taskcast_core import TaskEngine
from taskcast_server import create_taskcast_app
from tests.examples.loading import EXAMPLES
from tests.fixtures.browser import browser, needs_chromium
from tests.fixtures.processes import HOST
from tests.fixtures.proxy import FaultProxy
from tests.server.app_server import memory_engine, serving

WORDS = [f"word{n} " for n in range(60)]
PATIENCE_MS = 30_000

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.anyio, needs_chromium]


@asynccontextmanager
async def site(engine: TaskEngine) -> AsyncIterator[str]:
    """The page and the API on one origin."""
    page = Route("/browser.html", lambda _: FileResponse(EXAMPLES / "browser.html"))
    app = Starlette(routes=[page, Mount("/api", create_taskcast_app(engine))])
    async with serving(app, lifespan="off") as url:
        yield url


async def say(engine: TaskEngine, task_id: str, words: list[str]) -> None:
    for word in words:
        await engine.publish_event(
            task_id, type="llm.text", data={"delta": word}, series_id="answer", series_mode="accumulate"
        )


async def shows(page: Page, text: str) -> None:
    """Wait until the page shows exactly this text."""
    wanted = "wanted => document.getElementById('text').textContent === wanted"
    await page.wait_for_function(wanted, arg=text, timeout=PATIENCE_MS)


async def test_two_tabs_a_refresh_and_a_cut_in_mid_stream() -> None:
    async with (
        memory_engine() as engine,
        site(engine) as origin,
        FaultProxy(HOST, int(origin.rpartition(":")[2])) as proxy,
        browser() as chromium,
    ):
        task = await engine.create_task(type="llm.chat")
        await engine.transition_task(task.id, "running")
        await say(engine, task.id, WORDS[:20])

        address = f"http://{HOST}:{proxy.port}/browser.html?server=/api&task={task.id}"
        tabs = [await chromium.new_page(), await chromium.new_page()]
        await tabs[0].goto(address)
        await tabs[1].goto(f"{address}&by=fetch")
        for tab in tabs:
            await shows(tab, "".join(WORDS[:20]))

        await say(engine, task.id, WORDS[20:40])
        for tab in tabs:
            await shows(tab, "".join(WORDS[:40]))

        await tabs[0].reload()
        await say(engine, task.id, WORDS[40:50])
        for tab in tabs:
            await shows(tab, "".join(WORDS[:50]))

        proxy.cut()
        await say(engine, task.id, WORDS[50:])
        await engine.transition_task(task.id, "completed")
        for tab in tabs:
            ended = "document.getElementById('state').textContent === 'completed'"
            await tab.wait_for_function(ended, timeout=PATIENCE_MS)
            assert await tab.text_content("#text") == "".join(WORDS)
