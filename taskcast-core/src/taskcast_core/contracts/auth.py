"""Who is calling, and what may they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from attrs import field

from taskcast_core.values import frozen

Scope = Literal[
    "task:create", "task:manage", "task:resolve", "task:signal", "event:publish", "event:subscribe",
    "event:history", "webhook:create", "worker:connect", "worker:manage", "admin", "*",
]  # fmt: skip


class Connection(Protocol):
    """What an authenticator may look at; a Starlette ``HTTPConnection`` is one."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, case-insensitive."""

    @property
    def query_params(self) -> Mapping[str, str]:
        """Decoded query parameters."""


@frozen
class Principal:
    """A verified caller.

    Attributes:
        task_ids: None is every task. scopes: ``*`` is every scope. expires_at: Unix seconds, None is never.
        worker_id: the only worker that this caller may act as. name: separates principals in limits and keys.
        claims: of the token, for per-task auth rules.
    """

    scopes: frozenset[str]
    task_ids: frozenset[str] | None = None
    subject: str | None = None
    worker_id: str | None = None
    expires_at: float | None = None
    name: str = "anonymous"
    claims: Mapping[str, Any] = field(factory=dict, repr=False)

    def may_see(self, task_id: str) -> bool:
        """Whether the caller is not confined to other tasks."""
        return self.task_ids is None or task_id in self.task_ids

    def allows(self, scope: str, task_id: str | None = None) -> bool:
        """Whether the caller has the scope, and access to the task if one is named."""
        if task_id is not None and not self.may_see(task_id):
            return False
        return scope in self.scopes or "*" in self.scopes


class Authenticator(Protocol):
    """Turns a connection into a principal."""

    async def authenticate(self, connection: Connection) -> Principal:
        """The caller.

        Raises:
            Unauthorized: with the message that the caller is to see.
        """
