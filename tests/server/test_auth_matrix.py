"""Every route × scope × task × defect of the token; the cases are made from the route table."""

import time
from typing import Any, get_args

import httpx
import jwt
import pytest

from taskcast_core import EngineSettings
from taskcast_core.contracts.auth import Scope
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import create_taskcast_app
from taskcast_server.auth.jwt import open_jwt
from taskcast_server.auth.options import JwtOptions
from taskcast_server.routes.table import route_table
from taskcast_server.routing import Route
from tests.server.app_server import client, memory_engine, serving

pytestmark = pytest.mark.anyio

SECRET = "a-secret-that-is-long-enough-for-hs256-0123456789"
SCOPES: tuple[str, ...] = get_args(Scope)
PRIVATE = [route for route in route_table() if route.scope is not None]
PUBLIC = [route for route in route_table() if route.scope is None and route.path != "/admin/token"]


def token(scope: list[str] | None, task_ids: Any = "*", **claims: Any) -> str:
    known = {"sub": "me", "taskIds": task_ids, "exp": int(time.time()) + 86_400, "iss": "issuer", "aud": "audience"}
    if scope is not None:
        known["scope"] = scope
    return jwt.encode({**known, **claims}, claims.pop("key", SECRET), algorithm="HS256")


def path_of(route: Route, task: str) -> str:
    path = route.path.replace("{taskId}", task).replace("{letterId}", "no-letter").replace("{workerId}", "nobody")
    return f"{path}?workerId=me&timeout=1" if path == "/workers/pull" else path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def http() -> Any:
    options = JwtOptions(secret=SECRET, issuer="issuer", audience="audience")
    settings = EngineSettings(workers=WorkerSettings(enabled=True))
    async with memory_engine(settings=settings) as engine, open_jwt(options) as auth:
        for name in ("mine", "other"):
            await engine.create_task(id=name)
            await engine.transition_task(name, "cancelled")
        async with serving(create_taskcast_app(engine=engine, auth=auth)) as url, client(url) as http:
            yield http


async def status_of(http: httpx.AsyncClient, route: Route, path: str, given: str | None) -> int:
    headers = {} if given is None else {"authorization": f"Bearer {given}"}
    if route.path == "/events":  # it never ends by itself
        async with http.stream("GET", path, headers=headers) as response:
            return response.status_code
    body = {} if route.method in ("POST", "PATCH") else None
    return (await http.request(route.method, path, headers=headers, json=body)).status_code


def is_let_in(status: int) -> bool:
    """Past authentication and scope: served, or refused for what it asks (404, 400, 409 …)."""
    return status not in (401, 403)


async def test_the_table_is_the_one_that_is_served(http: httpx.AsyncClient) -> None:
    assert len(PRIVATE) >= 18
    for route in PUBLIC:
        assert await status_of(http, route, route.path, None) == 200, route.path


async def test_every_route_asks_for_its_scope_and_no_other_will_do(http: httpx.AsyncClient) -> None:
    for route in PRIVATE:
        if route.method == "DELETE":
            continue  # at the end, in the next test
        for scope in SCOPES:
            status = await status_of(http, route, path_of(route, "mine"), token([scope]))
            expected = scope in (route.scope, "*")
            assert is_let_in(status) == expected, (route.method, route.path, scope, status)
        for none in ([], None):
            assert await status_of(http, route, path_of(route, "mine"), token(none)) == 403


async def test_a_token_for_one_task_opens_no_other(http: httpx.AsyncClient) -> None:
    for route in PRIVATE:
        if not route.names_task:
            continue
        for name in ("other", "missing"):
            status = await status_of(http, route, path_of(route, name), token(["*"], ["mine"]))
            assert status == 403, (route.method, route.path, name)
        for listed in (["mine"], "*"):
            if route.method != "DELETE":
                assert is_let_in(await status_of(http, route, path_of(route, "mine"), token(["*"], listed)))


async def test_a_caller_confined_to_tasks_is_no_administrator(http: httpx.AsyncClient) -> None:
    for route in PRIVATE:
        if route.scope == "admin":
            assert await status_of(http, route, path_of(route, "mine"), token(["*"], ["mine"])) == 403


DEFECTS: dict[str, str | None] = {
    "none": None,
    "rubbish": "rubbish",
    "another key": token(["*"], key="another-key-that-is-long-enough-0123456789abcdef"),
    "expired": token(["*"], exp=int(time.time()) - 5),
    "not yet": token(["*"], nbf=int(time.time()) + 86_400),
    "another issuer": token(["*"], iss="x"),
    "another audience": token(["*"], aud="x"),
    "no signature": jwt.encode({"scope": ["*"], "iss": "issuer", "aud": "audience"}, "", algorithm="none"),
    "scope as text": token("event:subscribe *"),  # type: ignore[arg-type]
    "tasks as number": token(["*"], 7),
}


async def test_a_defective_token_is_401_on_every_route(http: httpx.AsyncClient) -> None:
    for route in PRIVATE:
        for defect, given in DEFECTS.items():
            status = await status_of(http, route, path_of(route, "mine"), given)
            assert status == 401, (route.method, route.path, defect)


async def test_below_protected_paths_nobody_learns_what_exists(http: httpx.AsyncClient) -> None:
    for path in ("/tasks/x/nothing", "/events/x", "/workers/x/nothing"):
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers={"authorization": f"Bearer {token([])}"})).status_code == 404
    assert (await http.get("/nothing")).status_code == 404


async def test_what_is_asked_of_the_caller_comes_before_the_body(http: httpx.AsyncClient) -> None:
    def sent(given: str) -> dict[str, Any]:
        return {"content": b"{", "headers": {"authorization": f"Bearer {given}"}}

    assert (await http.post("/tasks", content=b"{")).status_code == 401
    assert (await http.post("/tasks", **sent(token(["event:publish"])))).status_code == 403
    assert (await http.post("/tasks", **sent(token(["task:create"])))).status_code == 400
    assert (await http.patch("/tasks/missing/status", **sent(token(["task:manage"])))).status_code == 400
