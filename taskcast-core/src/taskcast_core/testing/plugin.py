"""The pytest plugin of the contract kit: a marker for its cases, a deadline for each, and a report at the end.

It is loaded in every pytest run of an environment that has ``taskcast-core``, so it imports the kit only when a
collected class uses it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

KIT = "taskcast_core.testing"
MARKER = "taskcast_contract"
NOTE = "taskcast"
FOUND = "taskcast-found"

_MODULES_WITH_CASES = (
    "auth", "broadcast", "cancellation", "cold", "commits", "contract", "deadlines", "deletion", "durable", "epochs",
    "followers", "keys", "listing", "loading", "long_term", "long_term_trimming", "making", "model", "payloads",
    "reading", "removed", "series", "shedding", "trimming", "workers",
)  # fmt: skip
pytest.register_assert_rewrite(*(f"{KIT}.{module}" for module in _MODULES_WITH_CASES))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the comparison with the model goes on."""
    group = parser.getgroup("taskcast", "taskcast contract kit")
    group.addoption(
        "--taskcast-examples", type=int, default=None, metavar="N", help="random histories per store (default: few)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}(capability, promise): a case of the taskcast contract kit (set by the kit itself)"
    )


def _contract_of(item: pytest.Item) -> tuple[type, str, str] | None:
    """Whom a case is run for, and the capability and promise that it proves; None for other people's tests."""
    cls = getattr(item, "cls", None)
    if cls is None or not hasattr(cls, "case_deadline_s"):
        return None
    name = getattr(item, "originalname", item.name)
    home = next((base for base in cls.__mro__ if name in vars(base) and base.__module__.startswith(KIT + ".")), None)
    return (cls, home.capability, home.promise) if home else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the kit's cases, so that ``-m "taskcast_contract(capability='Cold')"`` selects some."""
    contract = _contract_of(item)
    if contract:
        cls, capability, promise = contract
        item.add_marker(pytest.mark.taskcast_contract(capability=capability, promise=promise))
        item.user_properties.append((NOTE, [cls.__name__, capability, promise]))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Bound every asynchronous case, and note what the object under test is capable of."""
    if not _contract_of(pyfuncitem):
        return (yield)
    from taskcast_core.testing.report import capabilities_of

    cls = pyfuncitem.cls
    subject = pyfuncitem.funcargs.get(getattr(cls, "subject", "store"))
    if subject is not None:
        pyfuncitem.user_properties.append((FOUND, capabilities_of(subject)))
    case = pyfuncitem.obj
    if asyncio.iscoroutinefunction(case):
        pyfuncitem.obj = _bounded(case, cls.case_deadline_s)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = case


def _bounded(case: Any, seconds: float) -> Any:
    @functools.wraps(case)
    async def bounded(**arguments: Any) -> None:
        try:
            async with asyncio.timeout(seconds):
                await case(**arguments)
        except TimeoutError as error:
            raise AssertionError(f"the case did not end within {seconds:g} s") from error

    return bounded


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what was found and what was kept, per class."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and any(name == NOTE for name, _ in report.user_properties)
    ]
    if not reports:
        return
    from taskcast_core.testing.report import ContractReport

    summary = ContractReport()
    for report in reports:
        summary.add(report)
    terminalreporter.section("taskcast contracts")
    for line in summary.lines():
        terminalreporter.write_line(line)
