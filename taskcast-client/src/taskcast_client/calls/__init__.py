"""The REST API as values: each function says what one verb sends, and how its reply is read. Pure.

`TaskcastClient` awaits these calls and `SyncTaskcastClient` blocks on them, so that every verb stands here once.
"""

from taskcast_client.calls.admin import (
    change_config,
    discard_dead_letter,
    get_config,
    get_metrics,
    list_dead_letters,
    retry_dead_letter,
    validate_config,
)
from taskcast_client.calls.archives import export_task_archive, import_task_archive, release_task
from taskcast_client.calls.call import Call, Reply
from taskcast_client.calls.events import get_history, publish_event, publish_events, publish_lines
from taskcast_client.calls.server import (
    create_admin_token,
    get_health,
    get_health_detail,
    get_readiness,
    get_server_info,
)
from taskcast_client.calls.signals import send_signal, tool_result
from taskcast_client.calls.tasks import (
    cancel_task,
    complete_task,
    create_task,
    create_tasks,
    create_ticket,
    delete_task,
    fail_task,
    get_blocked_request,
    get_task,
    list_tasks,
    resolve_task,
    transition_task,
)
from taskcast_client.calls.workers import (
    decline_task,
    delete_worker,
    get_worker,
    get_worker_events,
    list_workers,
    pull_task,
    send_heartbeat,
    set_worker_status,
)

__all__ = [
    "Call",
    "Reply",
    "cancel_task",
    "change_config",
    "complete_task",
    "create_admin_token",
    "create_task",
    "create_tasks",
    "create_ticket",
    "decline_task",
    "delete_task",
    "delete_worker",
    "discard_dead_letter",
    "export_task_archive",
    "fail_task",
    "get_blocked_request",
    "get_config",
    "get_health",
    "get_health_detail",
    "get_history",
    "get_metrics",
    "get_readiness",
    "get_server_info",
    "get_task",
    "get_worker",
    "get_worker_events",
    "import_task_archive",
    "list_dead_letters",
    "list_tasks",
    "list_workers",
    "publish_event",
    "publish_events",
    "publish_lines",
    "pull_task",
    "release_task",
    "resolve_task",
    "retry_dead_letter",
    "send_heartbeat",
    "send_signal",
    "set_worker_status",
    "tool_result",
    "transition_task",
    "validate_config",
]
