"""The contract kit is worth something: it fails for stores that break a promise, each in another way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

FAULTY = Path(__file__).with_name("faulty_stores.py")
ROOT = FAULTY.parents[2]
PLUGIN = "taskcast_core.testing.plugin"
CLASSES = re.findall(r"^class (Test\w+)\(", FAULTY.read_text(), flags=re.MULTILINE)


def run_kit(report: Path) -> str:
    """Run the faulty stores' cases in a process of their own: what pytest printed."""
    is_installed = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(FAULTY), "-q", "--tb=no", "-n0", "-p", "no:randomly",
            "-p", "no:cacheprovider", f"--junitxml={report}", *([] if is_installed else ["-p", PLUGIN]),
        ],
        cwd=ROOT, env=os.environ | {"TASKCAST_EXAMPLES": "20"}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], str]:
    """The cases that failed, by class, and the printed report."""
    report = tmp_path_factory.mktemp("kit") / "report.xml"
    printed = run_kit(report)
    failed: dict[str, set[str]] = {name: set() for name in CLASSES}
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed[case.attrib["classname"].rpartition(".")[2]].add(case.attrib["name"])
    return failed, printed


def test_every_fault_is_caught(outcome: tuple[dict[str, set[str]], str]) -> None:
    failed, printed = outcome
    uncaught = [name for name, cases in failed.items() if not cases and name != "TestFlawless"]
    assert not uncaught, printed


def test_a_flawless_store_passes(outcome: tuple[dict[str, set[str]], str]) -> None:
    failed, printed = outcome
    assert failed["TestFlawless"] == set(), printed


def test_a_fault_does_not_fail_everything(outcome: tuple[dict[str, set[str]], str]) -> None:
    """The failing cases point at the broken promise."""
    failed, _ = outcome
    assert failed["TestStaleRestorer"] <= {
        "test_a_stale_restorer_is_refused",
        "test_made_up_and_used_tickets_are_refused",
    }
    assert failed["TestUnreadBody"] == {"test_a_creation_is_reserved_once"}
    assert failed["TestRemovedCase"] == failed["TestEmptiedCase"] == {"test_standard_cases_are_kept"}
    assert failed["TestLittering"] == {"test_a_keyed_creation_is_repeated_with_its_first_record"}


def test_the_report_names_capabilities_and_broken_promises(outcome: tuple[dict[str, set[str]], str]) -> None:
    _, printed = outcome
    assert "TestFlawless: TaskLog, Listing, Deadlines, Followers, Cold, Workers" in printed
    assert re.search(
        r"TestForgottenKey: .*\n(?:  .*\n)*  ✗ TaskLog: a repeat with the same key .* \(\d+ passed, \d+ FAILED\)",
        printed,
    )
    assert re.search(r"  ✓ Cold: a restored task is what it was", printed)
    assert "? found, but not tested: " in printed
