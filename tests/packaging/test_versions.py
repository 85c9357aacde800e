"""One version for all distributions, and siblings pinned to its minor."""

import shutil
from pathlib import Path

import pytest

from tests.tools.version import ROOT, distributions, pin_for, set_version, sibling_pins, versions


def test_every_distribution_has_the_same_version() -> None:
    assert len(versions()) == 6
    assert len(set(versions().values())) == 1


def test_siblings_are_pinned_to_the_same_minor() -> None:
    version = versions()["taskcast-core"]
    pins = sibling_pins()
    assert {pin for found in pins.values() for pin in found} == {pin_for(version)}
    assert {name for name, found in pins.items() if not found} == {"taskcast-core", "taskcast-client"}


@pytest.mark.parametrize(
    ("version", "pin"), [("0.1.0", ">=0.1,<0.2"), ("1.9.3", ">=1.9,<1.10"), ("0.2.0rc1", ">=0.2.0rc1,<0.3")]
)
def test_the_pin_follows_from_the_version(version: str, pin: str) -> None:
    assert pin_for(version) == pin


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a version"):
        pin_for("next")


def test_setting_a_version_reaches_every_distribution(tmp_path: Path) -> None:
    for path in distributions(ROOT):
        (tmp_path / path.name).mkdir()
        shutil.copy(path / "pyproject.toml", tmp_path / path.name)
    set_version("3.4.5", tmp_path)
    assert set(versions(tmp_path).values()) == {"3.4.5"}
    assert {pin for found in sibling_pins(tmp_path).values() for pin in found} == {">=3.4,<3.5"}
