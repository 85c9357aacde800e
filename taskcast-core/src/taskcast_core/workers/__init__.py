"""Tasks find somebody to run them: matching, claims, the queue, offers, and what happens when a worker is lost."""

from taskcast_core.workers.claims import ClaimFailed
from taskcast_core.workers.layer import WorkerLayer, is_worker_store
from taskcast_core.workers.settings import Registration, WorkerSettings

__all__ = ["ClaimFailed", "Registration", "WorkerLayer", "WorkerSettings", "is_worker_store"]
