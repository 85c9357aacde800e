"""The route table as data: what the dispatcher walks, and what the API document is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from attrs import field

from taskcast_core.contracts.auth import Scope
from taskcast_core.values import define, frozen
from taskcast_server.errors import MethodNotAllowed, RouteNotFound

if TYPE_CHECKING:
    from taskcast_server.calls import Call
    from taskcast_server.responses import Reply

Handler = Callable[["Call"], Awaitable["Reply | None"]]
"""Answers a call; None when it has sent its reply itself."""


@frozen
class Parameter:
    """A query or header parameter, for the document."""

    name: str
    description: str
    place: str = "query"
    schema: Mapping[str, Any] = field(factory=lambda: {"type": "string"})


@frozen
class Doc:
    """What the document says about a route beyond its path.

    Attributes:
        replies: status → description, or (description, schema name or schema, content type).
        body: name of a component schema, or a schema; None: it takes no body.
    """

    summary: str
    tag: str
    replies: Mapping[int, Any]
    body: Any = None
    parameters: Sequence[Parameter] = ()
    description: str = ""


@frozen(eq=False)
class Route:
    """One method of one path; each is equal to itself alone.

    Attributes:
        path: with ``{taskId}`` for a segment. scope: what the caller needs; None where no caller is asked for.
        names_task: ``{taskId}`` is a task that the caller must be allowed to see.
        is_terse: "Task not found" without the id.
        takes_ticket: a stream ticket does instead of the usual proof of identity.
        asks_caller: asks who calls although no scope is needed.
        answers_head: a GET that HEAD may be asked for in its place; none that waits, or that does something.
        is_about_workers: is only there where workers are.
    """

    method: str
    path: str
    handler: Handler
    doc: Doc
    scope: Scope | None = None
    is_terse: bool = False
    takes_ticket: bool = False
    asks_caller: bool = False
    answers_head: bool = True

    is_about_workers: bool = field(init=False)

    @is_about_workers.default
    def _is_about_workers(self) -> bool:
        return self.path.startswith("/workers")

    @property
    def names_task(self) -> bool:
        """Whether the path names a task."""
        return "{taskId}" in self.path


@frozen
class _End:
    """A route with the places of its variable segments."""

    route: Route
    variables: tuple[tuple[int, str], ...]

    def values(self, segments: Sequence[str]) -> Mapping[str, str]:
        return {name: unquote(segments[at]) for at, name in self.variables}


@define
class _Node:
    children: dict[str, _Node] = field(factory=dict)
    wildcard: _Node | None = None
    ends: dict[str, _End] = field(factory=dict)


_NEWEST_PATHS, _LONGEST_PATH = 4096, 512
"""So many found paths, of so many characters, are remembered: publishers ask for the same ones again and again."""


class Router:
    """Finds routes by method and raw path; fixed segments go before variable ones.

    HEAD is answered as GET is, without the body.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            node, segments = self._root, segments_of(route.path)
            for segment in segments:
                if segment.startswith("{"):
                    node.wildcard = node = node.wildcard or _Node()
                else:
                    node = node.children.setdefault(segment, _Node())
            variables = tuple((at, name[1:-1]) for at, name in enumerate(segments) if name.startswith("{"))
            node.ends[route.method] = _End(route, variables)
        self._known = lru_cache(_NEWEST_PATHS)(self._look_up)

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route, and the values of its variable segments, percent-decoded.

        Raises:
            RouteNotFound, MethodNotAllowed.
        """
        return self._known(method, path) if len(path) <= _LONGEST_PATH else self._look_up(method, path)

    def _look_up(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        segments = segments_of(path)
        node: _Node | None = self._root
        for segment in segments:
            assert node is not None
            node = node.children.get(segment) or (node.wildcard if segment else None)
            if node is None:
                break
        end = node.ends.get(method) if node is not None else None
        if end is None:
            end = self._find_elsewhere(method, segments)
        return end.route, end.values(segments)

    def _find_elsewhere(self, method: str, segments: Sequence[str]) -> _End:
        """Where fixed segments lead to nothing for this method, variable ones may."""
        nodes = self._reach(self._root, segments, 0)
        for node in nodes:
            end = node.ends.get("GET" if method == "HEAD" else method)
            if end is not None and method == "HEAD" and not end.route.answers_head:
                break
            if end is not None:
                return end
        allowed = sorted({name for node in nodes for name in node.ends})
        if not allowed:
            raise RouteNotFound
        raise MethodNotAllowed(None, ((b"allow", ", ".join(allowed).encode()),))

    def _reach(self, node: _Node, segments: Sequence[str], at: int) -> list[_Node]:
        if at == len(segments):
            return [node]
        reached: list[_Node] = []
        fixed = node.children.get(segments[at])
        if fixed is not None:
            reached += self._reach(fixed, segments, at + 1)
        if node.wildcard is not None and segments[at]:
            reached += self._reach(node.wildcard, segments, at + 1)
        return reached


def segments_of(path: str) -> list[str]:
    """``/tasks/a%2Fb`` → ``["tasks", "a%2Fb"]``; the root has none."""
    return path[1:].split("/") if len(path) > 1 else []


def path_of(scope: Mapping[str, Any]) -> str:
    """The path below the place where the app is mounted, still percent-encoded, so that ids may hold slashes."""
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    if not scope.get("root_path"):
        return path
    root: str = scope["root_path"].rstrip("/")
    if not root or not (scope["path"] == root or scope["path"].startswith(root + "/")):
        return path
    kept = segments_of(path)[root.count("/") :]
    return "/" + "/".join(kept)
