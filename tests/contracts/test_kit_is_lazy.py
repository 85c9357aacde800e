"""The kit costs nothing for those who do not use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from taskcast_core import testing


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("taskcast_core.testing", ["pytest", "hypothesis", "taskcast_core.contracts"]),
        ("taskcast_core.testing.plugin", ["hypothesis", "taskcast_core.contracts", "taskcast_core.testing.contract"]),
    ],
)
def test_importing_loads_little(module: str, absent: list[str]) -> None:
    program = f"import sys, {module}; print(*(name for name in {absent!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []


def test_every_public_name_is_there() -> None:
    assert all(getattr(testing, name).__name__ == name for name in testing.__all__)
    with pytest.raises(AttributeError):
        _ = testing.NoSuchContract
