"""All figures as Prometheus metric families: the one list that both renderings are made from.

Names, labels and their bounds are documented in ``docs/how-to/metrics.md``. Labels are route templates, statuses,
words of this program, and at most `taskcast_core.meters.MAX_TYPES` task types; never what a caller is free to choose.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from taskcast_core.meters import Distribution, Meters
from taskcast_core.models import WorkerStatus
from taskcast_core.states import ALL, LIVE
from taskcast_server.metrics.figures import Asked
from taskcast_server.metrics.meters import ServerMeters

if TYPE_CHECKING:
    from taskcast_server.services import Services

_process = ProcessCollector(registry=None)
_WORKER_STATUSES: tuple[WorkerStatus, ...] = get_args(WorkerStatus)


def collect(services: Services, server: ServerMeters, engine: Meters, asked: Asked) -> Iterator[Metric]:
    """Every family, each once."""
    yield from _about_process(services)
    yield from _about_requests(services, server)
    yield from _about_tasks(engine, asked)
    yield from _about_events(services, engine)
    yield from _about_readers(services, server, engine)
    yield from _about_followers(services, asked)
    yield from _about_workers(services, asked)
    yield _states(asked)


def _about_process(services: Services) -> Iterator[Metric]:
    yield _gauge("taskcast_info", "Always 1; what is running, in its labels.", {
        (services.version, services.providers.get("shortTermStore", ""),
         services.providers.get("broadcast", ""), services.providers.get("longTermStore", "none")): 1,
    }, "version", "short_term_store", "broadcast", "long_term_store")  # fmt: skip
    yield _gauge("taskcast_uptime_seconds", "Since the server started.", {(): time.monotonic() - services.started_at})
    found = list(_process.collect())
    yield from found
    if not any(each.name == "process_cpu_seconds" for each in found):  # only Linux tells everything
        yield _counter("process_cpu_seconds", "Total user and system CPU time.", {(): time.process_time()})


def _about_requests(services: Services, server: ServerMeters) -> Iterator[Metric]:
    requests = {
        (each.method, each.path, str(status)): count
        for each in server.routes
        for status, count in (each.statuses or {each.success: 0}).items()
    }
    yield _counter("taskcast_http_requests", "Requests by route and status.", requests, "method", "route", "status")
    took = {(each.method, each.path): each.took_s for each in server.routes if each.took_s.count}
    yield _histogram(
        "taskcast_http_request_duration_seconds", "Time until a reply was sent; not of streams and pulls.",
        took, "method", "route",
    )  # fmt: skip
    limited = {(name,): server.limited[name] for name in ("rate", "streams", "tasks", "admin")}
    yield _counter("taskcast_limited_requests", "Requests refused with 429, by the limit.", limited, "limit")
    tickets = services.tickets.counts
    yield _counter(
        "taskcast_stream_tickets", "Stream tickets, by what became of them.",
        {(name,): tickets[name] for name in ("issued", "admitted", "refused")}, "outcome",
    )  # fmt: skip


def _about_tasks(engine: Meters, asked: Asked) -> Iterator[Metric]:
    if asked.tally is not None:
        counted: Counter[tuple[str, ...]] = Counter()
        for (kind, status), count in sorted(asked.tally.items(), key=lambda item: -item[1]):
            counted[engine.types.of(kind), status] += count
        yield _gauge("taskcast_tasks", "Tasks in the short-term store, by type and status.", counted, "type", "status")
        active = sum(count for (_, status), count in asked.tally.items() if status in LIVE)
        yield _gauge("taskcast_active_tasks", "Tasks that have not ended.", {(): active})
        by_status = Counter(dict.fromkeys(ALL, 0))
        for (_, status), count in asked.tally.items():
            by_status[status] += count
        yield _gauge("taskcast_tasks_by_status", "The same by status alone.", _by(by_status), "status")
    yield _counter("taskcast_tasks_created", "Tasks created here.", _by(engine.created), "type")
    yield _counter(
        "taskcast_task_transitions", "Transitions committed here, by type and new status.",
        dict(engine.moved), "type", "status",
    )  # fmt: skip


def _about_events(services: Services, engine: Meters) -> Iterator[Metric]:
    yield _counter("taskcast_events", "Events appended by this process, its own among them.", {(): engine.events})
    yield _histogram("taskcast_commit_events", "Events per commit.", {(): engine.batch})
    store = services.providers.get("shortTermStore", "unknown")
    yield _histogram(
        "taskcast_commit_duration_seconds",
        "Time that a commit took in the store.",
        {(store,): engine.commit_s},
        "store",
    )
    yield _histogram(
        "taskcast_delivery_lag_seconds",
        "From the newest event of a wake-up being published, on any node, to the readers here having been handed it.",
        {(): engine.lag_s},
    )


def _about_readers(services: Services, server: ServerMeters, engine: Meters) -> Iterator[Metric]:
    hub = services.engine.hub
    yield _gauge("taskcast_subscribers", "Readers of single tasks on this process.", {(): hub.readers})
    yield _gauge("taskcast_followed_tasks", "Tasks that have readers on this process.", {(): hub.followed})
    yield _gauge("taskcast_open_streams", "Open event streams, of all tasks included.", {(): len(services.wheel)})
    yield _histogram("taskcast_replay_events", "Log entries that a new reader was behind.", {(): engine.replayed})
    resumes = {(kind,): server.resumes[kind] for kind in ("none", "id", "last-event-id", "index", "timestamp")}
    yield _counter("taskcast_stream_resumes", "Streams opened, by the kind of cursor.", resumes, "cursor")
    yield _counter("taskcast_gap_signals", "Gap notices sent to readers, by reason.", _by(engine.gaps), "reason")
    slow = {("lag",): engine.slow_readers, ("stalled",): server.stalled}
    yield _counter("taskcast_slow_readers_closed", "Readers closed because they could not keep up.", slow, "reason")


def _about_followers(services: Services, asked: Asked) -> Iterator[Metric]:
    backlogs = asked.backlogs
    yield _gauge(
        "taskcast_follower_lag_seconds", "Age of the oldest work that waits for a follower.",
        {(kind,): one.oldest_ms / 1000 for kind, one in backlogs.items()}, "follower",
    )  # fmt: skip
    yield _gauge(
        "taskcast_follower_lanes", "Logs (webhooks: deliveries of logs) that wait for a follower.",
        {(kind,): one.lanes for kind, one in backlogs.items()}, "follower",
    )  # fmt: skip
    yield _gauge(
        "taskcast_follower_events", "Events that wait for a follower.",
        {(kind,): one.events for kind, one in backlogs.items()}, "follower",
    )  # fmt: skip
    if asked.dead_letters is not None:
        yield _gauge("taskcast_dead_letters", "Deliveries given up and kept; 1000: or more.", {(): asked.dead_letters})
    if services.webhooks is not None:
        attempts = {(name,): services.webhooks.attempts[name] for name in ("delivered", "failed", "given_up")}
        yield _counter("taskcast_webhook_attempts", "Attempts to deliver a webhook, by outcome.", attempts, "outcome")
        took = services.webhooks.attempt_s
        yield _histogram("taskcast_webhook_attempt_duration_seconds", "Time an attempt took.", {(): took})
    lost: Counter[tuple[str, ...]] = Counter()
    for name, counts in services.engine.observers.counts().items():
        lost[name, "failed"] += counts.failed + counts.timed_out
        lost[name, "dropped"] += counts.dropped
    yield _counter("taskcast_observer_losses", "Hook calls that failed or were dropped.", lost, "observer", "outcome")


def _about_workers(services: Services, asked: Asked) -> Iterator[Metric]:
    if services.engine.workers is None:
        return
    if asked.workers is not None:
        statuses = Counter(worker.status for worker in asked.workers)
        yield _gauge(
            "taskcast_workers", "Workers by status.", {(each,): statuses[each] for each in _WORKER_STATUSES}, "status"
        )
        total, used = (sum(getattr(each, name) for each in asked.workers) for name in ("capacity", "used_slots"))
        yield _gauge("taskcast_worker_slots", "Slots of all workers.", {(): total})
        yield _gauge("taskcast_worker_slots_used", "Slots that are taken.", {(): used})
    if asked.queued is not None:
        yield _gauge("taskcast_queue_depth", "Tasks that wait for a worker; 1000: or more.", {(): asked.queued})
    waiting = services.engine.workers.queue.waiting
    yield _gauge("taskcast_waiting_pulls", "Pulls that wait for a task on this process.", {(): waiting})


def _states(asked: Asked) -> Metric:
    healthy = {(name,): int(state.is_healthy) for name, state in asked.dependencies.items()}
    return _gauge("taskcast_dependency_up", "Whether a dependency answers.", healthy, "dependency")


# ── Families ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _by(counts: Mapping[Any, int]) -> dict[Any, int]:
    return {(name,): count for name, count in counts.items()}


def _counter(name: str, help: str, values: Mapping[Any, float], *labels: str) -> Metric:
    return _filled(CounterMetricFamily(name, help, labels=labels), values.items())


def _gauge(name: str, help: str, values: Mapping[Any, float], *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, help, labels=labels), values.items())


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[tuple[Any, float]]) -> Metric:
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histogram(name: str, help: str, values: Mapping[Any, Distribution], *labels: str) -> Metric:
    family = HistogramMetricFamily(name, help, labels=labels)
    for given, found in values.items():
        bounds = [*(str(float(bound)) for bound in found.bounds), "+Inf"]
        family.add_metric(given, list(zip(bounds, accumulate(found.counts), strict=True)), found.sum)
    return family
