"""Wheels and pins, made once for all who install them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging.building import build
from tests.tools.version import ROOT, versions

DISTRIBUTIONS = sorted(versions())


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the six wheels, freshly built."""
    directory = tmp_path_factory.mktemp("wheels")
    for name in DISTRIBUTIONS:
        build(ROOT / name, directory)
    assert len(list(directory.glob("*.whl"))) == len(DISTRIBUTIONS)
    return directory


@pytest.fixture(scope="session")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of `requirements.lock`, as constraints."""
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    lock = (ROOT / "requirements.lock").read_text()
    path.write_text(re.sub(r" \\\n|^ +--hash=\S+( \\)?\n", "\n", lock, flags=re.MULTILINE))
    return path
