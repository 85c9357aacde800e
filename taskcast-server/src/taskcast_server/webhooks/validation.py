"""What is wrong with the webhooks of a create body, beyond their types."""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core.models import RetryConfig, WebhookConfig
from taskcast_core.wire import camel
from taskcast_server.webhooks.options import BOUNDS
from taskcast_server.webhooks.targets import parse_target

MAX_WEBHOOKS = 16
MAX_SECRET_LENGTH = 1024


def check_webhooks(webhooks: Sequence[WebhookConfig] | None) -> list[tuple[str, str]]:
    """The faults as ``(path, reason)``, paths in wire names (``webhooks[0].url``); none is an empty list."""
    if not webhooks:
        return []
    if len(webhooks) > MAX_WEBHOOKS:
        return [("webhooks", f"must have at most {MAX_WEBHOOKS} items")]
    faults: list[tuple[str, str]] = []
    for position, webhook in enumerate(webhooks):
        path = f"webhooks[{position}]"
        try:
            parse_target(webhook.url)
        except ValueError as error:
            faults.append((f"{path}.url", str(error)))
        if webhook.secret is not None and len(webhook.secret) > MAX_SECRET_LENGTH:
            faults.append((f"{path}.secret", f"must be at most {MAX_SECRET_LENGTH} characters"))
        if webhook.retry is not None:
            faults += _retry_faults(webhook.retry, f"{path}.retry")
    return faults


def _retry_faults(retry: RetryConfig, path: str) -> list[tuple[str, str]]:
    faults = []
    for name, (least, most) in BOUNDS.items():
        value = getattr(retry, name)
        if value is not None and not least <= value <= most:
            faults.append((f"{path}.{camel(name)}", f"must be from {least} to {most}"))
    return faults
