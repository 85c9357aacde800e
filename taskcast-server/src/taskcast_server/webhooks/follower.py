"""Delivers webhooks: a follower of the log with one lane per webhook, so that a dead receiver blocks nobody else.

In order per task and webhook, at least once: the lane's cursor moves after the receiver has said 2xx, and a delivery
that fails holds the lane until its next attempt. One that has used up its retries becomes a dead letter, and the lane
goes on. Imported events are not delivered: they happened elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve, field

from taskcast_core.contracts.followers import DeadLetter, Dirty, FollowerKind
from taskcast_core.contracts.task_log import Stored
from taskcast_core.entries import Entry, Hole
from taskcast_core.filters import View
from taskcast_core.followers import Host, Progress
from taskcast_core.log_events import tell
from taskcast_core.meters import SECONDS, Distribution
from taskcast_core.models import Task, WebhookConfig
from taskcast_core.states import TERMINAL
from taskcast_core.values import frozen
from taskcast_server.errors import LetterNotFound, LetterUndeliverable
from taskcast_server.event_text import envelope_text, event_text
from taskcast_server.webhooks.backoff import delay_ms, merge_retry
from taskcast_server.webhooks.options import Retry, WebhookOptions
from taskcast_server.webhooks.outcomes import DeliveryFailed, Outcome
from taskcast_server.webhooks.payload import COMPLETION_TYPE, completion_body
from taskcast_server.webhooks.targets import loggable

if TYPE_CHECKING:
    from taskcast_server.webhooks.sender import WebhookSender

_log = logging.getLogger(__name__)

_TURN_S = 2.0
"""After so long a lane's progress is noted, so that a crash repeats little."""


@frozen
class _Delivery:
    """One thing to be delivered; the same on every attempt, also after a restart."""

    index: int
    event_type: str
    event_id: str
    built_at_s: int
    body: bytes = field(repr=False)


class WebhookFollower:
    """The handler of the lanes ``webhook:N``. Enter it before the engine that it is handed to.

    Attributes:
        attempts: how many ``delivered``, ``failed``; deliveries ``given_up``. attempt_s: how long attempts took.
    """

    kind: FollowerKind = "webhook"

    def __init__(self, options: WebhookOptions | None = None, sender: WebhookSender | None = None) -> None:
        self._options = options or WebhookOptions()
        self._sender = sender
        self._is_open = False
        self._opening = asyncio.Lock()
        self._host: Host | None = None
        self.attempts: Counter[str] = Counter()
        self.attempt_s = Distribution(SECONDS)

    async def __aenter__(self) -> Self:
        if self._sender is not None:
            await self._sender.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if self._sender is not None:
            await self._sender.__aexit__(kind, error, trace)

    def attach(self, host: Host) -> None:
        """See Handler."""
        self._host = host

    def change_default_retry(self, retry: Retry) -> None:
        """What a webhook's own ``retry`` leaves open, from now on."""
        self._options = evolve(self._options, default_retry=retry)
        if self._sender is not None:
            self._sender.change_default_retry(retry)

    @property
    def _home(self) -> Host:
        assert self._host is not None, "the follower belongs to no engine yet"
        return self._host

    # ── Following ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def handle(self, dirty: Dirty, stored: Stored | None, items: Sequence[Entry | Hole]) -> Progress:
        """See Handler. A deleted task has no webhooks any more; its lane just ends."""
        end = _last(items, dirty.cursor)
        webhook = _webhook(stored, dirty.lane)
        if stored is None or webhook is None:
            return Progress(end)
        if webhook.on == "terminal":
            return await self._announce_end(webhook, dirty, stored, items)
        return await self._deliver_events(webhook, dirty, stored, items)

    async def _deliver_events(
        self, webhook: WebhookConfig, dirty: Dirty, stored: Stored, items: Sequence[Entry | Hole]
    ) -> Progress:
        view = View.of(webhook.filter)
        position = 0
        if webhook.wrap:
            position = await self._home.store.count(stored.task.id, view, dirty.cursor + 1, epoch=dirty.epoch)
        done, attempt = dirty.cursor, dirty.attempt
        turn_ends = time.monotonic() + _TURN_S
        for item in items:
            if isinstance(item, Hole):
                position += view.total(item.counts)
                done = item.last
                continue
            if view.matches(item.type, item.level):
                if item.given_id is None:
                    delivery = _of_event(item, position if webhook.wrap else None)
                    progress = await self._attempt(webhook, dirty.lane, delivery, stored, done, attempt)
                    if progress is not None:
                        return progress
                    attempt = 0
                position += 1
            done = item.index
            if time.monotonic() > turn_ends:
                break
        return Progress(done)

    async def _announce_end(
        self, webhook: WebhookConfig, dirty: Dirty, stored: Stored, items: Sequence[Entry | Hole]
    ) -> Progress:
        """One callback, once the task has ended: its log then has a last entry, and this is what the lane stops at."""
        end = _last(items, dirty.cursor)
        last = items[-1] if items else None
        if stored.task.status not in TERMINAL:
            # The log was read after the record, and may have its end by now: that is left for the next look at both.
            return Progress(min(end, stored.last_index))
        if end != stored.last_index or not isinstance(last, Entry) or last.given_id is not None:
            return Progress(end)
        progress = await self._attempt(webhook, dirty.lane, _of_end(stored, last), stored, dirty.cursor, dirty.attempt)
        return progress or Progress(end)

    async def _attempt(
        self, webhook: WebhookConfig, lane: str, delivery: _Delivery, stored: Stored, done: int, before: int
    ) -> Progress | None:
        """Make the next attempt; None when the lane may go on: it was delivered, or given up."""
        attempt = before + 1
        outcome = await self._send(webhook, lane, delivery, stored.task, attempt)
        if outcome.delivered:
            return None
        retry = merge_retry(webhook.retry, self._options.default_retry)
        if outcome.may_retry and attempt <= retry.retries:
            return Progress(done, attempt, self._home.now_ms() + delay_ms(retry, attempt))
        self.attempts["given_up"] += 1
        await self._home.store.add_dead_letter(self._letter(webhook, lane, delivery, stored, outcome, attempt))
        if self._home.observers.webhook_failed:
            self._home.observers.webhook_failed(config=webhook, error=DeliveryFailed(attempt, outcome))
        return None

    async def _send(self, webhook: WebhookConfig, lane: str, delivery: _Delivery, task: Task, attempt: int) -> Outcome:
        """One attempt: recorded, counted and logged."""
        tracer = self._home.instruments.tracer
        if tracer is None:
            outcome = await self._post(webhook, delivery, attempt, task.traceparent)
        else:
            target = loggable(webhook.url)
            with tracer.span("taskcast.webhook", task_id=task.id, target=target, attempt=attempt) as span:
                span.link(task.traceparent)
                outcome = await self._post(webhook, delivery, attempt, tracer.traceparent)
                span.note(delivered=outcome.delivered, status=outcome.status or 0)
        self.attempts["delivered" if outcome.delivered else "failed"] += 1
        self.attempt_s.add(outcome.latency_ms / 1000)
        tell(
            _log, logging.INFO if outcome.delivered else logging.WARNING, "webhook_attempt",
            taskId=task.id, lane=lane, eventId=delivery.event_id, target=loggable(webhook.url), attempt=attempt,
            delivered=outcome.delivered, reason=None if outcome.delivered else outcome.reason, ms=outcome.latency_ms,
        )  # fmt: skip
        return outcome

    async def _post(
        self, webhook: WebhookConfig, delivery: _Delivery, attempt: int, traceparent: str | None
    ) -> Outcome:
        sender = await self._opened_sender()
        return await sender.send(
            webhook,
            delivery.body,
            event_type=delivery.event_type,
            event_id=delivery.event_id,
            built_at_s=delivery.built_at_s,
            attempt=attempt,
            traceparent=traceparent,
        )

    async def _opened_sender(self) -> WebhookSender:
        """Made for the first delivery: a server that delivers nothing need not load an HTTP client."""
        assert self._is_open, "the follower has not been entered"
        async with self._opening:
            if self._sender is None:
                from taskcast_server.webhooks.sender import WebhookSender

                self._sender = await WebhookSender(self._options).__aenter__()
        return self._sender

    # ── Dead letters ───────────────────────────────────────────────────────────────────────────────────────────────

    def _letter(
        self, webhook: WebhookConfig, lane: str, delivery: _Delivery, stored: Stored, outcome: Outcome, attempts: int
    ) -> DeadLetter:
        detail: dict[str, Any] = {
            "type": delivery.event_type,
            "eventId": delivery.event_id,
            "target": loggable(webhook.url),
            "attempts": attempts,
            "reason": outcome.reason,
        }
        letter_id = f"{delivery.event_id}.{lane.partition(':')[2]}"
        return DeadLetter(letter_id, stored.task.id, lane, delivery.index, self._home.now_ms(), detail)

    async def retry(self, letter_id: str) -> Outcome:
        """Deliver a dead letter now, once more. It is gone when that succeeds, and stays otherwise.

        Raises:
            LetterNotFound. LetterUndeliverable: nobody knows any more what to send where; the letter stays.
        """
        store = self._home.store
        letter = await store.take_dead_letter(letter_id)
        if letter is None:
            raise LetterNotFound
        kept = letter
        try:
            webhook, stored, delivery = await self._recall(letter)
            attempts = int(letter.detail.get("attempts", 0)) + 1
            outcome = await self._send(webhook, letter.lane, delivery, stored.task, attempts)
            if outcome.delivered:
                return outcome
            kept = self._letter(webhook, letter.lane, delivery, stored, outcome, attempts)
        except BaseException:
            await store.add_dead_letter(letter)
            raise
        await store.add_dead_letter(kept)
        return outcome

    async def _recall(self, letter: DeadLetter) -> tuple[WebhookConfig, Stored, _Delivery]:
        store = self._home.store
        stored = await store.get(letter.task_id)
        webhook = _webhook(stored, letter.lane)
        if stored is None or webhook is None:
            raise LetterUndeliverable
        page = await store.read(letter.task_id, epoch=stored.epoch, after=letter.index - 1, limit=1)
        entry = page.items[0] if page.items else None
        if not isinstance(entry, Entry) or entry.index != letter.index:
            raise LetterUndeliverable
        if webhook.on == "terminal":
            return webhook, stored, _of_end(stored, entry)
        position = None
        if webhook.wrap:
            view = View.of(webhook.filter)
            position = await store.count(letter.task_id, view, letter.index, epoch=stored.epoch)
        return webhook, stored, _of_event(entry, position)


def _of_event(entry: Entry, position: int | None) -> _Delivery:
    body = event_text(entry) if position is None else envelope_text(entry, position)
    return _Delivery(entry.index, entry.type, entry.id, entry.timestamp // 1000, body)


def _of_end(stored: Stored, last: Entry) -> _Delivery:
    body = completion_body(stored.task)
    return _Delivery(last.index, COMPLETION_TYPE, f"{last.id}.done", last.timestamp // 1000, body)


def _webhook(stored: Stored | None, lane: str) -> WebhookConfig | None:
    webhooks = (stored.task.webhooks if stored else None) or ()
    number = int(lane.partition(":")[2])
    return webhooks[number] if number < len(webhooks) else None


def _last(items: Sequence[Entry | Hole], cursor: int) -> int:
    if not items:
        return cursor
    last = items[-1]
    return last.index if isinstance(last, Entry) else last.last
