"""When a failed delivery is tried again: pure functions of the retry settings (wire spec, webhooks section 3)."""

from __future__ import annotations

import attrs

from taskcast_core.models import RetryConfig
from taskcast_server.webhooks.options import BOUNDS, MAX_DELAY_MS, Retry

_FIELDS = tuple(each.name for each in attrs.fields(RetryConfig))


def merge_retry(own: RetryConfig | None, defaults: Retry) -> Retry:
    """The task's settings, field by field, over the configured ones (which stand over the built-in ones).

    Numbers out of bounds are refused when a task is created; those of an imported task are cut to the bounds here.
    """
    if own is None:
        return defaults
    given = {name: value for name in _FIELDS if (value := getattr(own, name)) is not None}
    for name, (least, most) in BOUNDS.items():
        if name in given:
            given[name] = min(max(given[name], least), most)
    return attrs.evolve(defaults, **given)


def delay_ms(retry: Retry, attempt: int) -> int:
    """The wait (ms) before retry ``attempt`` (1, 2 …).

    ``maxDelayMs`` caps the exponential wait only, as in the wire spec; no wait is longer than a day.
    """
    if retry.backoff == "fixed":
        wait = retry.initial_delay_ms
    elif retry.backoff == "linear":
        wait = retry.initial_delay_ms * attempt
    else:
        # 2⁴⁰ ms are beyond every cap.
        wait = min(retry.initial_delay_ms << min(attempt - 1, 40), retry.max_delay_ms)
    return min(wait, MAX_DELAY_MS)
