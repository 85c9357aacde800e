"""The documentation builds to a site that needs nobody else's server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.fixtures.browser import browser, needs_chromium
from tests.server.app_server import serving
from tests.tools.version import ROOT

ASSET = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\s(?:src|data)=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\srel=["']?(?:stylesheet|preload|modulepreload|icon|preconnect|dns-prefetch))"""
    r"""[^>]*?\shref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:@import\s+(?:url\()?|url\()["']?((?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE,
)
LOADS_MORE = re.compile(r"""class=["'][^"']*\b(?:mermaid|glightbox|pyodide)\b""")
"""What makes the theme's script fetch something from elsewhere."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built apart from the working tree."""
    directory = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", directory)
    shutil.copytree(ROOT / "docs", directory / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"],
        cwd=directory, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    pages = {
        page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for page in (ROOT / "docs").rglob("*.md")
        if "examples" not in page.parts
    }
    assert {name for name in pages if not (site / f"{name}.html").exists()} == set()
    named = set(re.findall(r"[\w/-]+(?=\.md$)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert pages - named == set(), "not in the navigation of mkdocs.yml"
    assert named - pages == set()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text()
        assert [next(filter(None, found)) for found in ASSET.findall(text)] == [], page.name
        assert not LOADS_MORE.search(text), page.name


@needs_chromium
@pytest.mark.anyio
async def test_a_browser_asks_nobody_else(site: Path) -> None:
    asked: list[str] = []
    app = Starlette(routes=[Mount("/", StaticFiles(directory=site))])
    async with serving(app, lifespan="off") as url, browser() as chromium:
        page = await chromium.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index.html", "reference/rest.html"):
            await page.goto(f"{url}/{name}", wait_until="networkidle")
            assert await page.text_content("h1")
    assert len(asked) > 3
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    "text",
    [
        '<script defer src="https://cdn.example/x.js">', "<link href='//fonts.example/a' rel=\"stylesheet\">",
        "<style>@import url(https://fonts.example/b)</style>", '<img alt="" src=https://example.org/i.png>',
    ],
)  # fmt: skip
def test_an_asset_from_elsewhere_is_seen(text: str) -> None:
    assert ASSET.search(text)
    assert not ASSET.search(text.replace("https://", "/").replace("'//", "'/"))
