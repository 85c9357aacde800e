"""`requirements.lock` pins and hashes what the distributions and the tools declare, and names no address."""

import re
import tomllib
from collections.abc import Iterable

import pytest

from tests.tools.version import ROOT, distributions

LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^(?P<name>[a-z0-9-]+)==\S+(?: ; [^\n\\]+)? \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.M)


def declared() -> Iterable[str]:
    yield from tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    for path in distributions():
        project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
        yield from project["dependencies"]
        for extra in project.get("optional-dependencies", {}).values():
            yield from extra


def test_the_lock_is_nothing_but_pinned_and_hashed_packages() -> None:
    assert PINNED.sub("", LOCK) == ""


def test_every_declared_package_is_in_the_lock() -> None:
    names = {re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0] for requirement in declared()}
    third_party = {name for name in names if not name.startswith("taskcast-")}
    assert third_party <= {match["name"] for match in PINNED.finditer(LOCK)}


@pytest.mark.parametrize("address", ["://", "@ ", "--index", "--find-links", "-e ", "file:"])
def test_the_lock_names_no_address(address: str) -> None:
    assert address not in LOCK
