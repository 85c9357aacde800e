"""Finding the route of a request."""

import pytest

from taskcast_core.contracts.auth import Scope
from taskcast_server.errors import MethodNotAllowed, RouteNotFound
from taskcast_server.routing import Doc, Route, Router, path_of


async def nothing(_: object) -> None:
    """Never called."""


def route(method: str, path: str, *, is_public: bool = False, answers_head: bool = True) -> Route:
    scope: Scope | None = None if is_public else "task:manage"
    return Route(method, path, nothing, Doc("", "", {}), scope=scope, answers_head=answers_head)


ROUTER = Router(
    [
        route("GET", "/", is_public=True),
        route("GET", "/tasks"),
        route("POST", "/tasks/import"),
        route("GET", "/tasks/{taskId}"),
        route("DELETE", "/tasks/{taskId}"),
        route("GET", "/tasks/{taskId}/events", answers_head=False),
        route("POST", "/tasks/{taskId}/events"),
        route("GET", "/workers/pull", answers_head=False),
        route("GET", "/workers/{workerId}"),
        route("GET", "/health", is_public=True),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found", "values"),
    [
        ("GET", "/", "/", {}),
        ("GET", "/tasks", "/tasks", {}),
        ("POST", "/tasks/import", "/tasks/import", {}),
        ("GET", "/tasks/import", "/tasks/{taskId}", {"taskId": "import"}),
        ("DELETE", "/tasks/import", "/tasks/{taskId}", {"taskId": "import"}),
        ("GET", "/tasks/import/events", "/tasks/{taskId}/events", {"taskId": "import"}),
        ("GET", "/tasks/a%2Fb%25/events", "/tasks/{taskId}/events", {"taskId": "a/b%"}),
        ("GET", "/tasks/%C3%A9", "/tasks/{taskId}", {"taskId": "é"}),
        ("HEAD", "/health", "/health", {}),
        ("HEAD", "/tasks/a", "/tasks/{taskId}", {"taskId": "a"}),
    ],
)
def test_what_is_found(method: str, path: str, found: str, values: dict[str, str]) -> None:
    where, variables = ROUTER.find(method, path)
    assert (where.path, variables) == (found, values)


@pytest.mark.parametrize("path", ["/task", "/tasks/", "/tasks//events", "/tasks/a/b/c", "/tasks/a/", "//"])
def test_what_is_not(path: str) -> None:
    with pytest.raises(RouteNotFound):
        ROUTER.find("GET", path)


def test_which_methods_there_are_instead() -> None:
    for method, path, allowed in [
        ("PUT", "/tasks", b"GET"),
        ("PUT", "/tasks/import", b"DELETE, GET, POST"),
        ("HEAD", "/tasks/a/events", b"GET, POST"),
        ("HEAD", "/workers/pull", b"GET"),
    ]:
        with pytest.raises(MethodNotAllowed) as refused:
            ROUTER.find(method, path)
        assert refused.value.headers == ((b"allow", allowed),)


@pytest.mark.parametrize(
    ("path", "raw", "root", "below"),
    [
        ("/tasks/a b", b"/tasks/a%20b", "", "/tasks/a%20b"),
        ("/api/tasks/a/b", b"/api/tasks/a%2Fb", "/api", "/tasks/a%2Fb"),
        ("/api/tasks/x", b"/api/tasks/x", "/api/", "/tasks/x"),
        ("/tasks/x", b"/tasks/x", "/api", "/tasks/x"),
        ("/apis/x", b"/apis/x", "/api", "/apis/x"),
        ("/api", b"/api", "/api", "/"),
        ("/a/b/c", None, "/a/b", "/c"),
        ("/tasks", b"/tasks?x=1", "", "/tasks"),
    ],
)
def test_the_path_below_a_mount(path: str, raw: bytes | None, root: str, below: str) -> None:
    scope = {"path": path, "root_path": root, **({} if raw is None else {"raw_path": raw})}
    assert path_of(scope) == below
