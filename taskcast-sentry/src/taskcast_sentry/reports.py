"""What has happened → events as Sentry takes them. Pure; everything in them has been scrubbed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from taskcast_core.models import Event, EventDraft, Task, TaskError, WebhookConfig
from taskcast_sentry.options import Severity
from taskcast_sentry.scrub import FILTERED, Scrubber, origin_of, payload_of, secrets_of

if TYPE_CHECKING:
    from sentry_sdk.types import Event as SentryEvent

_VARYING = re.compile(r"[0-9A-Za-z_-]*\d[0-9A-Za-z_-]*")
"""Words with digits in them: ids, numbers, times. Messages that differ in nothing else are one issue."""


@frozen
class Reporter:
    """Builds events.

    Attributes:
        scrubber: what everything goes through. send_payloads: whether params and details go along.
    """

    scrubber: Scrubber
    send_payloads: bool = False

    def task_failed(self, task: Task, error: TaskError | None, level: Severity) -> SentryEvent:
        """An exception: ``Task failed [<id>]: <message>``."""
        hidden = self._hidden(task)
        message = self.scrubber.text(error.message if error else "no error was given", hidden)
        code = self.scrubber.text((error.code if error else None) or "unknown", hidden)
        alike = message if code == "unknown" else code
        return _event(
            level,
            exception={"values": [_exception("TaskFailed", f"Task failed [{task.id}]: {message}")]},
            tags={"taskId": task.id, "status": task.status, "errorCode": code},
            extra={
                "params": self._payload(task.params, hidden),
                "error": {
                    "message": message,
                    "code": code,
                    "details": self._payload(error.details if error else None, hidden),
                },
            },
            transaction=task.type or "",
            fingerprint=["taskcast", "task failed", task.type or "", _VARYING.sub("*", alike)],
        )

    def task_timed_out(self, task: Task, level: Severity) -> SentryEvent:
        """A message: ``Task timed out [<id>]``."""
        return _event(
            level,
            message=f"Task timed out [{task.id}]",
            tags={"taskId": task.id, "status": task.status},
            transaction=task.type or "",
            fingerprint=["taskcast", "task timed out", task.type or ""],
        )

    def event_dropped(self, event: Event | EventDraft, reason: str, level: Severity) -> SentryEvent:
        """A message: ``Event dropped [<id>]: <reason>``; drafts have neither an id nor a task yet."""
        shown = self.scrubber.text(reason)
        event_id, task_id = (event.id, event.task_id) if isinstance(event, Event) else ("-", "-")
        return _event(
            level,
            message=f"Event dropped [{event_id}]: {shown}",
            tags={"taskId": task_id, "eventType": event.type},
            fingerprint=["taskcast", "event dropped", event.type, _VARYING.sub("*", shown)],
        )

    def webhook_failed(self, config: WebhookConfig, error: Exception, level: Severity) -> SentryEvent:
        """The error, with the origin of the webhook's URL."""
        origin = origin_of(config.url)
        event = self.exception(error, level, {"webhookUrl": origin})
        event["fingerprint"] = ["taskcast", "webhook failed", origin, type(error).__name__]
        return event

    def exception(self, error: BaseException, level: Severity, tags: Mapping[str, str]) -> SentryEvent:
        """An error with its causes and stacks: functions, files and lines, never the values of variables."""
        from sentry_sdk.utils import event_from_exception

        options = {"include_local_variables": False, "include_source_context": True, "max_value_length": None}
        event, _ = event_from_exception(error, options, {"type": "taskcast", "handled": True})
        for each in event.get("exception", {}).get("values", []):
            each["value"] = self.scrubber.text(str(each.get("value") or ""))
            for frame in (each.get("stacktrace") or {}).get("frames", []):
                frame.pop("vars", None)
        event["level"] = level
        event["tags"] = dict(tags)
        return event

    def outage(self, kind: str, what: str, level: Severity, facts: Mapping[str, str]) -> SentryEvent:
        """A message about a store or broadcast; ``kind`` is ``storage`` or ``broadcast``."""
        shown = self.scrubber.text(what)
        return _event(
            level,
            message=shown,
            tags={name: self.scrubber.text(value) for name, value in facts.items()},
            fingerprint=["taskcast", kind, _VARYING.sub("*", shown)],
        )

    def _hidden(self, task: Task) -> set[str]:
        return secrets_of(task) | (set() if self.send_payloads else payload_of(task))

    def _payload(self, value: Any, hidden: set[str]) -> Any:
        if value is None:
            return None
        return self.scrubber.value(value, hidden) if self.send_payloads else FILTERED


def transaction(name: str, operation: str, began_s: float, ended_s: float, tags: Mapping[str, str]) -> SentryEvent:
    """Something that took time, as a transaction without spans; times are Unix seconds."""
    trace = uuid.uuid4().hex
    return {
        "type": "transaction",
        "transaction": name,
        "transaction_info": {"source": "route"},
        "start_timestamp": datetime.fromtimestamp(min(began_s, ended_s), UTC),
        "timestamp": datetime.fromtimestamp(ended_s, UTC),
        "contexts": {"trace": {"trace_id": trace, "span_id": trace[:16], "op": operation, "status": "ok"}},
        "tags": dict(tags),
        "spans": [],
    }


def _event(level: Severity, **parts: Any) -> SentryEvent:
    event: SentryEvent = {"level": level, **parts}  # type: ignore[typeddict-item]
    return event


def _exception(kind: str, value: str) -> dict[str, object]:
    return {"type": kind, "value": value, "mechanism": {"type": "taskcast", "handled": True}}
