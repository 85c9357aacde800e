"""Webhooks over HTTP: what is sent, how it is signed, where it may go, when it is tried again."""

from taskcast_server.webhooks.backoff import delay_ms, merge_retry
from taskcast_server.webhooks.guard import TargetRefused, is_allowed
from taskcast_server.webhooks.options import Retry, WebhookOptions
from taskcast_server.webhooks.payload import COMPLETION_TYPE, completion_body, event_body, wrapped_body
from taskcast_server.webhooks.sender import DeliveryFailed, Outcome, WebhookSender
from taskcast_server.webhooks.targets import loggable, without_secrets
from taskcast_server.webhooks.validation import check_webhooks

__all__ = [
    "COMPLETION_TYPE", "DeliveryFailed", "Outcome", "Retry", "TargetRefused", "WebhookOptions", "WebhookSender",
    "check_webhooks", "completion_body", "delay_ms", "event_body", "is_allowed", "loggable", "merge_retry",
    "without_secrets", "wrapped_body",
]  # fmt: skip
