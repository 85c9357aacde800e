"""The larger examples run as they stand. Those of the client are run by its own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from taskcast_core import load_config
from taskcast_server import assemble_app
from tests.examples.loading import EXAMPLES, example
from tests.fixtures.eventually import eventually
from tests.server.app_server import serving

pytestmark = pytest.mark.anyio


async def test_an_embedded_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await example("embed_engine.py").main(tmp_path / "embedded.db")
    assert capsys.readouterr().out.splitlines() == [
        "12 events; resumed after the fifth: True",
        "completed {'rows': 1000}",
    ]


async def test_a_mount_with_the_programs_own_sessions() -> None:
    async with serving(example("fastapi_mount.py").app) as url, httpx.AsyncClient(base_url=url) as http:
        ada, bob = {"X-Session": "session-of-ada"}, {"X-Session": "session-of-bob"}
        assert (await http.post("/reports")).status_code == 401
        task = (await http.post("/reports", headers=ada)).json()["task"]
        events = f"/taskcast/tasks/{task}/events"
        assert "a report for ada" in (await http.get(events, headers=ada)).text
        assert (await http.get(events, headers=bob)).status_code in {403, 404}
        assert (await http.get(events)).status_code == 401
        assert (await http.post("/taskcast/tasks", headers=ada, json={})).status_code == 403


async def test_a_custom_authenticator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    (tmp_path / "taskcast.config.yaml").write_text(
        'auth: {mode: custom, custom: {authenticate: "custom_authenticator:authenticate"}}\nlogLevel: error\n'
    )
    app = assemble_app(load_config(tmp_path / "taskcast.config.yaml"))
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        writer, reader = {"X-API-Key": "writer-key"}, {"X-API-Key": "reader-key"}
        made = await http.post("/tasks", headers=writer, json={"id": "one"})
        assert made.status_code == 201
        assert (await http.get("/tasks/one/events/history", headers=reader)).status_code == 200
        assert (await http.post("/tasks", headers=reader, json={})).status_code == 403
        refused = await http.post("/tasks", headers={"X-API-Key": "guess"}, json={})
        assert (refused.status_code, refused.json()["error"]) == (401, "This key is not known")
    sys.modules.pop("custom_authenticator", None)


async def test_a_configuration_with_live_objects() -> None:
    config = load_config(EXAMPLES / "taskcast.config.py")
    app = assemble_app(config)
    counted = sys.modules["taskcast_config_file"].counted
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/tasks", json={"type": "house"})).status_code == 401
        sesame = {"Authorization": "Bearer open-sesame"}
        assert (await http.post("/tasks", headers=sesame, json={"type": "house"})).status_code == 201
        await eventually(lambda: counted["house"] == 1)
