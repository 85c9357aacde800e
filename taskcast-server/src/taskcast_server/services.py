"""What the routes of one app share."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from attrs import field

from taskcast_core.contracts.auth import Authenticator
from taskcast_core.contracts.task_log import Held
from taskcast_core.engine import TaskEngine
from taskcast_core.states import TERMINAL
from taskcast_core.values import define
from taskcast_server.auth.admin import AdminDesk
from taskcast_server.auth.tickets import TicketOffice
from taskcast_server.dependencies import Check, Dependencies
from taskcast_server.limits import CallerLimits, RequestRate, caller_limits
from taskcast_server.metrics.figures import Figures
from taskcast_server.metrics.meters import ServerMeters
from taskcast_server.metrics.options import MetricsOptions
from taskcast_server.options import LimitOptions
from taskcast_server.tracing import Tracer
from taskcast_server.webhooks.follower import WebhookFollower
from taskcast_server.wheel import Wheel

if TYPE_CHECKING:
    from taskcast_server.live_config import LiveConfig

VERSION = version("taskcast-server")


@define
class Services:
    """The parts that routes use.

    Attributes:
        auth_mode: ``none``, ``jwt``, ``custom``. max_stream_s: life of streams whose caller never expires.
        admin: None where there is no admin API. webhooks: None where this process delivers none.
        providers: names of what carries the engine, by its place in ``adapters``. checks: dependencies to ask, and
        needs: which of them each place needs. is_closing: no new streams are opened.
        config: what can be seen and changed of the configuration; None where there is none.
        is_verbose: somebody wants a line about each request when it is over.
        meters: what is counted, None where nothing is. tracer: None where nobody wants spans.
    """

    engine: TaskEngine
    authenticator: Authenticator
    tickets: TicketOffice
    limits: LimitOptions = field(factory=LimitOptions)
    auth_mode: str = "none"
    max_stream_s: float = 86_400
    admin: AdminDesk | None = None
    webhooks: WebhookFollower | None = None
    providers: Mapping[str, str] = field(factory=dict)
    checks: Mapping[str, Check] = field(factory=dict)
    needs: Mapping[str, Collection[str]] = field(factory=dict)
    metrics: MetricsOptions = field(factory=MetricsOptions)
    tracer: Tracer | None = None
    config: LiveConfig | None = None
    has_docs: bool = True
    is_closing: bool = False
    is_verbose: bool = field(default=False, init=False)
    wheel: Wheel = field(factory=Wheel, init=False)
    started_at: float = field(factory=time.monotonic, init=False)
    admin_attempts: RequestRate = field(factory=lambda: RequestRate(60, 20, name="admin"), init=False)
    callers: CallerLimits = field(init=False)
    dependencies: Dependencies = field(init=False)
    figures: Figures = field(init=False)
    meters: ServerMeters | None = field(default=None, init=False)
    version: str = field(default=VERSION, init=False)

    def __attrs_post_init__(self) -> None:
        self.callers = caller_limits(self.limits, self._still_live, is_open=self.auth_mode == "none")
        self.dependencies = Dependencies.of(self.checks)
        self.figures = Figures(self)

    def change_limits(self, limits: LimitOptions) -> None:
        """Other limits from now on; what is open and live counts as before."""
        self.limits = limits
        is_open = self.auth_mode == "none"
        self.callers = caller_limits(limits, self._still_live, is_open=is_open, before=self.callers)

    async def _still_live(self, task_ids: Collection[str]) -> Collection[str]:
        held = [Held(task_id, -1) for task_id in task_ids]
        heads = await self.engine.store.heads(held)
        return [one.task_id for one, head in zip(held, heads, strict=True) if head and head.status not in TERMINAL]


def providers_of(engine: TaskEngine) -> dict[str, str]:
    """What carries an engine, by the names of the classes (``MemoryShortTermStore`` → ``memory``)."""
    parts = {
        "broadcast": engine.broadcast,
        "shortTermStore": engine.store,
        "longTermStore": engine.long_term_store,
    }
    return {place: _family(part) for place, part in parts.items() if part is not None}


def _family(part: object) -> str:
    name = type(part).__name__
    found = re.match(r"[A-Z]?[a-z0-9]+", name)
    return found.group().lower() if found else name.lower()
