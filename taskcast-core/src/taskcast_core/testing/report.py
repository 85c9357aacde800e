"""What a run of the kit has found: capabilities, and which promises are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from taskcast_core import contracts
from taskcast_core.testing.plugin import FOUND, NOTE

if TYPE_CHECKING:
    import pytest

CAPABILITIES = {
    protocol.__name__: protocol
    for protocol in (
        contracts.TaskLog, contracts.Listing, contracts.Deadlines, contracts.Followers, contracts.Cold,
        contracts.Workers, contracts.LongTermStore, contracts.Broadcast, contracts.Authenticator,
    )
}  # fmt: skip


def capabilities_of(subject: object) -> list[str]:
    """The contracts of which an object has every verb."""
    return [name for name, protocol in CAPABILITIES.items() if all(hasattr(subject, verb) for verb in _verbs(protocol))]


def _verbs(protocol: type) -> set[str]:
    return {
        name for base in protocol.__mro__ if base.__module__.startswith(contracts.__name__) for name in vars(base)
        if not name.startswith("_")
    }  # fmt: skip


@define
class Tally:
    """Cases of one promise by outcome."""

    passed: int = 0
    failed: list[str] = field(factory=list)
    skipped: int = 0
    expected: int = 0

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        if self.failed:
            parts.append(f"{len(self.failed)} FAILED")
        if self.expected:
            parts.append(f"{self.expected} not expected to pass")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)


@define
class ContractReport:
    """Outcomes per class, capability and promise; capabilities per class."""

    tallies: dict[str, dict[str, dict[str, Tally]]] = field(factory=dict)
    found: dict[str, list[str]] = field(factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Take in one phase of one case; phases that say nothing new are passed over."""
        notes = dict(report.user_properties)
        note = notes.get(NOTE)
        if not isinstance(note, list | tuple):
            return
        cls, capability, promise = map(str, note)
        found = notes.get(FOUND)
        if isinstance(found, list | tuple):
            self.found[cls] = list(map(str, found))
        if report.when != "call" and report.passed:
            return
        tally = self.tallies.setdefault(cls, {}).setdefault(capability, {}).setdefault(promise, Tally())
        if hasattr(report, "wasxfail"):
            tally.expected += 1
        elif report.passed:
            tally.passed += 1
        elif report.skipped:
            tally.skipped += 1
        else:
            tally.failed.append(report.nodeid)

    def lines(self) -> list[str]:
        """The report as text."""
        out: list[str] = []
        for cls, capabilities in sorted(self.tallies.items()):
            found = self.found.get(cls, [])
            out.append(f"{cls}: {', '.join(found)}" if found else cls)
            for capability in sorted(capabilities, key=["", *CAPABILITIES, "Durable"].index):
                for promise, tally in sorted(capabilities[capability].items()):
                    sign = "✗" if tally.failed else "✓"
                    out.append(f"  {sign} {(capability + ': ') if capability else ''}{promise} ({tally})")
            untested = [name for name in found if name not in capabilities]
            if untested:
                out.append(f"  ? found, but not tested: {', '.join(untested)}")
        return out
