"""One Sentry for all tests of a process, emptied for each, and clients that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk

from taskcast_sentry import SentryHooks, SentryOptions, create_sentry_hooks
from taskcast_sentry.standalone import new_client
from tests.fixtures.sentry_sink import SentrySink, sentry_sink

OpenHooks = Callable[..., SentryHooks]


@pytest.fixture(scope="session")
def running_sink() -> Iterator[SentrySink]:
    """The server."""
    yield from sentry_sink()


@pytest.fixture
def sink(running_sink: SentrySink) -> SentrySink:
    """It, with nothing in it."""
    running_sink.clear()
    return running_sink


@pytest.fixture
def client(sink: SentrySink) -> Iterator[sentry_sdk.Client]:
    """A client as the standalone server has one."""
    client = new_client(SentryOptions(dsn=sink.dsn))
    yield client
    client.close(timeout=10)


@pytest.fixture
def hooks(client: sentry_sdk.Client) -> Iterator[OpenHooks]:
    """Makes hooks with options; they are closed at the end."""
    opened: list[SentryHooks] = []

    def make(**options: Any) -> SentryHooks:
        opened.append(create_sentry_hooks(client=client, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
