"""The server that the snippets of all pages talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.server import DocsServer
from tests.fixtures.processes import private_directory


@pytest.fixture(scope="session")
def docs_server() -> Iterator[DocsServer]:
    """One server with workers, without authentication, on memory."""
    with private_directory("taskcast-docs-") as directory:
        server = DocsServer(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()
