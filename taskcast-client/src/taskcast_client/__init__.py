"""The Taskcast client: follow tasks as they run, resume exactly, work on them as a worker."""

from taskcast_client.client import TaskcastClient, TaskcastServerClient
from taskcast_client.connection import Token
from taskcast_client.errors import (
    ClientError,
    ConnectionFailed,
    RefusedError,
    StreamInterrupted,
    TaskCancelled,
    ToolFailed,
)
from taskcast_client.models import Cursor, Envelope, Event, EventInput, Signal, Task, TaskArchive, TaskInput, Worker
from taskcast_client.producer import TaskRun, TextWriter
from taskcast_client.retries import RetryPolicy
from taskcast_client.scripts import track
from taskcast_client.sending import Coalescing
from taskcast_client.stream import Subscription, TaskStream, TextStream
from taskcast_client.sync import SyncTaskcastClient
from taskcast_client.sync_run import SyncTaskRun
from taskcast_client.worker import TaskcastWorker

__all__ = [
    "ClientError",
    "Coalescing",
    "ConnectionFailed",
    "Cursor",
    "Envelope",
    "Event",
    "EventInput",
    "RefusedError",
    "RetryPolicy",
    "Signal",
    "StreamInterrupted",
    "Subscription",
    "SyncTaskRun",
    "SyncTaskcastClient",
    "Task",
    "TaskArchive",
    "TaskCancelled",
    "TaskInput",
    "TaskRun",
    "TaskStream",
    "TaskcastClient",
    "TaskcastServerClient",
    "TaskcastWorker",
    "TextStream",
    "TextWriter",
    "Token",
    "ToolFailed",
    "Worker",
    "track",
]
