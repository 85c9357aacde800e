"""One reader of one task: replay, then live, without a gap or a repeat (design, section 6).

A subscription is a cursor: the log index up to which its reader has seen everything (``after``), and the filtered index
of what comes next. Whatever lies in the hub's ring is taken from there, in batches shared by all readers of the same
view; the rest is read from the store, page by page.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from taskcast_core.ahead import KEPT_S
from taskcast_core.backoff import Backoff
from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import LogReader, Page
from taskcast_core.cursors import GapReason
from taskcast_core.deliveries import Batch, Delivery, gap
from taskcast_core.entries import Entry, Hole, Origin, has_holes
from taskcast_core.errors import EpochChanged, NotHot, NotRetained, StoreUnavailable
from taskcast_core.filters import View
from taskcast_core.hub import Hub
from taskcast_core.models import Event, SubscribeFilter, TaskStatus
from taskcast_core.nearby import Nearby
from taskcast_core.pages import Pages
from taskcast_core.places import Outset, Outsets, Place
from taskcast_core.presentation import Presenter, present_live
from taskcast_core.sharing import fold, once
from taskcast_core.stretch import Stretch
from taskcast_core.values import value


@value
class _Step:
    """A batch and where it leads. ``last``: the entry at the new place, if it is known."""

    batch: Batch
    place: Place
    last: Entry | None
    has_lost_series: bool = False


class Taker(Protocol):
    """Takes batches at the very moment of the news, so that nobody has to wait for them."""

    def take(self, batch: Batch) -> bool:
        """Send the batch on, without waiting; False if that cannot be done now. Must not raise."""

    def wake(self) -> None:
        """There is something that could not be taken: `Subscription.read_on` has it. Must not raise."""


class Subscription:
    """An async iterator over a task's events; as an async context manager it frees its channel at once.

    Attributes:
        status: the terminal status, once the task has ended and everything was delivered. None: the stream was cut
        (closed, far too slow, task gone); resume with the last event's id.
    """

    __slots__ = (
        "_channel", "_epoch", "_hub", "_is_closed", "_last", "_max_lag", "_paged_at", "_pending_gap", "_place",
        "_reader", "_taker", "_target", "_totals", "_waiter", "_whole_upto", "filter", "gap", "status", "task_id",
        "view",
    )  # fmt: skip

    def __init__(
        self,
        hub: Hub,
        reader: LogReader,
        task_id: str,
        filter: SubscribeFilter | None = None,
        *,
        max_lag: int = 1_000_000,
    ) -> None:
        self._hub, self._reader, self.task_id = hub, reader, task_id
        self.filter = filter or SubscribeFilter()
        self.view = View.of(filter)
        self.status: TaskStatus | None = None
        self.gap: GapReason | None = None
        self._max_lag = max_lag
        self._totals = self.filter.series_format == "accumulated"
        self._channel: Channel | None = None
        self._taker: Taker | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._epoch = 0
        self._place = Place()
        self._last: Entry | None = None
        self._pending_gap: GapReason | None = None
        self._whole_upto = -1  # up to there, what cleanup has removed was never shown to this reader
        self._paged_at = -math.inf  # when this reader came for a page of its own last
        self._target = -1  # the head when the reader came: up to there it may be as far behind as it likes

    # ── Life ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> Self:
        """Join the task's channel and find the place to begin; iterating does it, too.

        Raises:
            TaskNotFound: no such task. StoreUnavailable: try again later.
        """
        if self._channel is None:
            channel = self._channel = await self._hub.join(self.task_id, self)
            self._epoch, self._target = channel.epoch, channel.head
            try:
                outset = await self._outsets(channel).first(self.filter)
            except BaseException:
                self.close()
                raise
            self._set_out(outset)
            self.gap = self._pending_gap = outset.gap
            if self._hub.meters is not None:
                self._hub.meters.replayed.add(self._target - self._place.after)
        return self

    def close(self) -> None:
        """End the stream; safe to call from any coroutine of the loop, and twice."""
        self._is_closed = True
        self.wake()
        if self._channel is not None:
            self._channel.ahead.drop(self)
            self._hub.leave(self._channel, self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wake(self) -> None:
        """Let the reader look again. One who waits in ``next_batch`` is handed an empty batch if there are no news."""
        taker, waiter = self._taker, self._waiter
        if taker is not None:
            if not self._hand_over(taker) and not self.listen(taker):
                self._taker = None
                taker.wake()
        elif waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _hand_over(self, taker: Taker) -> bool:
        """Have the taker send what is new; whether it can go on listening."""
        channel, place, last = self._channel, self._place, self._last
        if channel is None or self._is_closed or (batch := self.poll()) is None:
            return False
        if not taker.take(batch):
            self._place, self._last = place, last
            return False
        if self._place.after < channel.head or channel.is_ended or channel.is_lost:
            return False
        channel.waiting.add(self)
        return True

    @property
    def is_up_to_date(self) -> bool:
        """Whether the reader has all that there is, and there may be more."""
        channel = self._channel
        return (
            channel is not None
            and self._place.after >= channel.head
            and self._pending_gap is None
            and channel.epoch == self._epoch
            and not (self._is_closed or channel.is_ended or channel.is_lost)
        )

    def listen(self, taker: Taker) -> bool:
        """Give news to a taker, until there is something that it cannot take; False if there is something already."""
        if not self.is_up_to_date:
            return False
        assert self._channel is not None
        self._taker = taker
        self._channel.waiting.add(self)
        return True

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events (snapshots and gap notices among them) until the task has ended."""
        async for batch in self.batches():
            for delivery in batch.deliveries:
                yield delivery.event()

    # ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def batches(self) -> AsyncIterator[Batch]:
        """What is new, as soon as there is something; an empty batch after a ``wake`` without news.

        The last batch of an ended task has ``ended`` set; a stream that stops without it was cut.
        """
        await self.open()
        try:
            while (batch := await self.next_batch()) is not None:
                yield batch
                if batch.ended is not None:
                    return
        finally:
            self.close()

    async def next_batch(self) -> Batch | None:
        """What ``batches`` yields next, once ``open``; None when the stream was cut."""
        before = self._place
        batch = await self.read_on()
        if batch is None or batch.deliveries or batch.ended or self._place is not before or not self.is_up_to_date:
            return batch
        assert self._channel is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._channel.waiting.add(self)
        try:
            await self._waiter
        finally:
            self._channel.waiting.discard(self)
            self._waiter = None
        return await self.read_on()

    async def read_on(self) -> Batch | None:
        """The next batch, an empty one if there is none yet; None when the stream was cut."""
        channel = self._channel
        assert channel is not None, "it has not been opened"
        patience: Backoff | None = None
        try:
            while not self._is_closed:
                try:
                    batch = self.poll() or await self._next(channel)
                except StoreUnavailable:
                    patience = patience or Backoff(first_s=0.05, most_s=2.0)
                    await patience.wait()
                    continue
                except EpochChanged:
                    await self._hub.refresh(channel)
                    if channel.epoch == self._epoch:
                        return None
                    continue
                if batch is None or batch.deliveries or batch.ended or self.is_up_to_date:
                    return batch
        except (NotHot, NotRetained):
            pass  # the log went away under us; the reader's cursor finds out what became of it
        return None

    def poll(self) -> Batch | None:
        """The next batch, if it can be had at once: new entries that are at hand, as they were published.

        None says nothing but that ``batches`` has to be asked. This is the hot path: readers at one place are handed
        the same batch, made once, and nothing is awaited.
        """
        channel, place = self._channel, self._place
        if channel is None or place.after >= channel.head or not self._is_live(channel, place):
            return None
        if len(channel.readers) > 1:
            known = channel.shared.get(id(place))
            step = self._shared_step(channel, place) if known is None else known[1]
        else:  # nobody to share with
            step = self._live_step(channel, place)
        if step is None:
            return None
        assert isinstance(step, _Step)
        self._place, self._last = step.place, step.last
        return step.batch

    def _shared_step(self, channel: Channel, place: Place) -> object:
        """``_live_step``, made once for all readers of one view at equal places."""
        key = (self.view, place.after, place.position)
        step = channel.steps.get(key)
        if step is None:
            step = self._live_step(channel, place)
            if step is None:
                return None
            channel.remember(key, step)
        channel.share(place, step)
        return step

    def _live_step(self, channel: Channel, place: Place) -> _Step | None:
        """The step from a place to the channel's head; None if that is not at hand, or not entries alone."""
        entries = channel.entries_since(place.after)
        if entries is None:
            return None
        deliveries = present_live(self.view, entries, place.position)
        after, position = channel.head, place.position + len(deliveries.entries)
        return _Step(Batch(deliveries, after, position), Place(after, position), entries[-1])

    def _is_live(self, channel: Channel, place: Place) -> bool:
        """Whether nothing but what is published from now on matters to this reader."""
        return (
            not self._totals
            and not place.due
            and place.collapsed_upto < 0
            and self._pending_gap is None
            and channel.epoch == self._epoch
            and (channel.head - place.after <= self._max_lag or place.after < self._target)
        )

    async def _next(self, channel: Channel) -> Batch | None:
        """The next batch; None when the stream is over."""
        if channel.epoch != self._epoch:
            await self._cross_epoch(channel)
        if self._place.after >= self._target and channel.head - self._place.after > self._max_lag:
            if self._hub.meters is not None:
                self._hub.meters.slow_readers += 1
            return None  # far too slow; its cursor resumes from the store, at its own pace
        place = self._place
        if place.after < channel.head:
            if place.after >= place.collapsed_upto and await Nearby(channel, self._reader).reach(place.after + 1):
                return self.poll() or await self._advance(channel)
            return await self._advance(channel)
        if self._pending_gap is not None:
            return self._with_gap(channel, ())
        if channel.is_ended:
            self.status = channel.status
            return Batch((), self._place.after, self._place.position, ended=channel.status)
        if channel.is_lost:
            return None
        return Batch((), self._place.after, self._place.position)

    def _outsets(self, channel: Channel) -> Outsets:
        return Outsets(channel, self._reader, self.view, self._epoch)

    def _set_out(self, outset: Outset) -> None:
        self._place, self._whole_upto = outset.place, outset.whole_upto

    async def _start_over(self, channel: Channel) -> None:
        """Read the log from its beginning, collapsed."""
        self._set_out(await self._outsets(channel).collapsed(Place()))

    async def _cross_epoch(self, channel: Channel) -> None:
        """The log was cut or replaced: go on if what we have seen is still there, else say so and start over."""
        epoch = channel.epoch
        has_begun = self._place.after >= 0
        kept = False
        # In the midst of a collapsed replay, the snapshots that are still to come may stand where the log was cut.
        if self._last is not None and self._place.collapsed_upto < 0:
            located = await self._reader.locate(self.task_id, self._last.id, epoch=epoch)
            kept = located == self._place.after
        self._epoch = epoch
        if not kept:
            if has_begun:
                self.gap = self._pending_gap = "epoch"
            self._last = None
            await self._start_over(channel)

    # ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _advance(self, channel: Channel) -> Batch:
        """One step forward: all that the ring has, or a page from the store."""
        key = (self.view, self._totals, self._epoch, self._place)
        step = channel.steps.get(key)
        if step is None:
            step = await once(channel, key, lambda: self._make_step(channel, self._place))
            if len(channel.readers) > 1:  # else nobody is there to share the page with
                channel.remember(key, step)
        assert isinstance(step, _Step)
        if step.has_lost_series and self._pending_gap is None and self._place.after >= self._whole_upto:
            self.gap = self._pending_gap = "removed"
            channel.forget_steps()  # the state of the series among them
            await self._start_over(channel)
            return Batch((), -1, 0)
        self._place, self._last = step.place, step.last
        if self._pending_gap is not None and step.batch.deliveries:
            return self._with_gap(channel, step.batch.deliveries)
        return step.batch

    async def _make_step(self, channel: Channel, place: Place) -> _Step:
        at_hand = channel.since(place.after) if place.after >= place.collapsed_upto else None
        if at_hand is not None:
            items, after = at_hand, channel.head
        else:
            page = await self._page(channel, place)
            items, after = page.items, page.last
        is_whole = isinstance(items, Stretch) or not has_holes(items)
        holes = [] if is_whole else [item for item in items if isinstance(item, Hole)]
        presenter = Presenter(
            view=self.view,
            fold=lambda entry: fold(channel, self._reader, entry),
            totals=self._totals,
            position=place.position,
            due=place.due,
            snapshots=dict(place.snapshots),
            collapsed_upto=place.collapsed_upto,
        )
        if any(hole.cut_series for hole in holes):
            presenter.all_series = frozenset((await self._outsets(channel).series()).states)
        deliveries = await presenter.present(items)
        is_collapsed = after < place.collapsed_upto
        new = Place(
            after,
            presenter.position,
            presenter.due,
            place.snapshots if is_collapsed else frozenset(),
            place.collapsed_upto if is_collapsed else -1,
        )
        last = items[-1] if items and isinstance(items[-1], Entry) else None
        lost = any(hole.lost_series for hole in holes)
        return _Step(Batch(deliveries, after, presenter.position), new, last, lost)

    async def _page(self, channel: Channel, place: Place) -> Page:
        now, before = asyncio.get_running_loop().time(), self._paged_at
        self._paged_at = now
        pages = Pages(channel, self._reader, self._epoch, self, folds=self._totals)
        return await pages.behind(
            place, is_first=self._last is None, is_quick=self._hub.reads_ahead and now - before < KEPT_S
        )

    def _with_gap(self, channel: Channel, deliveries: Sequence[Delivery]) -> Batch:
        """The pending gap notice, then these deliveries."""
        assert self._pending_gap is not None
        if self._hub.meters is not None:
            self._hub.meters.gaps[self._pending_gap] += 1
        segment = channel.segments[-1]
        first = deliveries[0] if deliveries else None
        notice = gap(
            Origin(self.task_id, segment.epoch, segment.salt),
            self._pending_gap,
            next_index=first.entry.index if first else self._place.after + 1,
            next_position=first.position if first else self._place.position,
            epoch=segment.epoch,
            timestamp=first.entry.timestamp if first else self._hub.now_ms(),
        )
        self._pending_gap = None
        return Batch([notice, *deliveries], self._place.after, self._place.position)
