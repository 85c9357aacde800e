"""What is told to Sentry, and, for the standalone server, which Sentry."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Literal
from urllib.parse import urlsplit

from attrs import frozen

from taskcast_core.config import Config, Expected, option
from taskcast_core.plugins import Plugins

Severity = Literal["debug", "info", "warning", "error", "fatal"]


@frozen
class Levels:
    """How grave each kind of report is."""

    task_failure: Severity = option("error", help="of a failed task")
    task_timeout: Severity = option("warning", help="of a task whose time ran out")
    dropped_event: Severity = option("warning", help="of an event that could not be kept")
    webhook_failure: Severity = option("error", help="of a webhook that was given up")
    unhandled_error: Severity = option("error", help="of an error that nobody expected")
    outage: Severity = option("error", help="of a store or broadcast that is away")


@frozen
class HookOptions:
    """What is told (wire spec, tasks section 10).

    Attributes:
        capture_dropped_events: webhooks that were given up, too.
        task_types: only tasks of these types (``*``, ``a.*`` or exact) fail and time out loudly; None is all.
        traces_sample_rate: the share of streams and commits that become transactions where they are traced at all.
        send_payloads: params, error details and messages leave as they are, but for what looks like a secret.
    """

    capture_task_failures: bool = option(default=True, help="report failed tasks")
    capture_task_timeouts: bool = option(default=True, help="report tasks whose time ran out")
    capture_unhandled_errors: bool = option(default=True, help="report errors that nobody expected")
    capture_dropped_events: bool = option(
        default=True, help="report events that could not be kept and webhooks that were given up"
    )
    capture_storage_errors: bool = option(default=True, help="report stores that are away or contradict each other")
    capture_broadcast_errors: bool = option(default=True, help="report a broadcast that is away")
    trace_sse_connections: bool = option(
        default=False, aliases=("traceSSEConnections",), help="a transaction for each stream, from its begin to its end"
    )
    trace_event_publish: bool = option(default=False, help="a transaction for each commit of events")
    traces_sample_rate: float = option(1.0, minimum=0, maximum=1, help="share of traced streams and commits")
    task_types: tuple[str, ...] | None = option(None, help="report the tasks of these types only: *, a.* or exact")
    levels: Levels = option(factory=Levels)
    send_payloads: bool = option(default=False, help="send params and error details, but for what looks secret")


def _dsn(_instance: object, _attribute: object, value: str | None) -> None:
    if value:
        parts = urlsplit(value)
        project = parts.path.rpartition("/")[2]
        if parts.scheme not in ("http", "https") or not (parts.username and parts.hostname and project.isdigit()):
            raise Expected("a Sentry DSN, https://key@host/project")


@frozen
class SentryOptions(HookOptions):
    """The section ``sentry`` of a standalone server. Without a DSN nothing is sent, nor even loaded.

    Attributes:
        flush_timeout_ms: how long the end of the server waits for what has not been sent yet.
    """

    dsn: str | None = option(None, env="SENTRY_DSN", secret=True, validator=_dsn, help="where to send; none: nowhere")
    enabled: bool = option(default=True, help="whether anything is sent")
    environment: str | None = option(None, env="SENTRY_ENVIRONMENT", help="production, staging …")
    release: str | None = option(None, env="SENTRY_RELEASE", help="taskcast@<version> by default")
    server_name: str | None = option(None, help="this node; the host's name by default")
    sample_rate: float = option(1.0, minimum=0, maximum=1, help="share of errors that are sent")
    flush_timeout_ms: int = option(2_000, minimum=0, maximum=60_000, help="what the server's end waits at most")

    def open_observer(self, config: Config, plugins: Plugins) -> AbstractAsyncContextManager[object | None]:
        """The hooks, with a client of their own that is flushed at the end; None where nothing is to be sent."""
        from taskcast_sentry.standalone import open_hooks

        return open_hooks(self, config, plugins)
