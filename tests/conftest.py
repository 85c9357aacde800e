"""Options, profiles and the list of fixture modules of the whole suite.

`TASKCAST_TEST_SCALE=full` (what `make test-long` sets) runs the full figures: the `scale` fixture then
hands out full counts, and hypothesis uses its `long` profile.
"""

import hypothesis
import pytest

from tests.fixtures.scale import FULL_SCALE, Scale

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.leaks", "tests.fixtures.proxy"]

hypothesis.settings.register_profile(
    "default", max_examples=60, deadline=None, print_blob=True, database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.register_profile("long", hypothesis.settings.get_profile("default"), max_examples=2000)
hypothesis.settings.load_profile("long" if FULL_SCALE else "default")


def pytest_report_header() -> str:
    return f"scale: {'full' if FULL_SCALE else 'everyday'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests marked `long` out of everyday runs; give them an hour in a full run."""
    for item in items:
        if item.get_closest_marker("long"):
            if not FULL_SCALE:
                item.add_marker(pytest.mark.skip(reason="full figures only: make test-long"))
            elif not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Taskcast runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def scale() -> Scale:
    """How much work a test does: `scale(everyday, full)` picks the count for this run."""
    return Scale(full=FULL_SCALE)
