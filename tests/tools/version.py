"""Sets one version everywhere: `python tests/tools/version.py 0.2.0` (without a version: tells it).

All distributions share one version, and each pins its siblings to the same minor.
"""

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = re.compile(r'^version = "(?P<version>[^"]+)"$', re.MULTILINE)
SIBLING = re.compile(r'"(?P<name>taskcast-[a-z]+)(?P<pin>>=[^"]+)"')
WELL_FORMED = re.compile(r"(\d+)\.(\d+)\.(\d+)((a|b|rc)\d+)?")


def distributions(root: Path = ROOT) -> list[Path]:
    """The directories of the distributions."""
    return sorted(path.parent for path in root.glob("taskcast-*/pyproject.toml"))


def versions(root: Path = ROOT) -> dict[str, str]:
    """The version of each distribution, by name."""
    projects = [tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in distributions(root)]
    return {project["name"]: project["version"] for project in projects}


def sibling_pins(root: Path = ROOT) -> dict[str, set[str]]:
    """The version ranges by which each distribution asks for its siblings."""
    return {
        path.name: {match["pin"] for match in SIBLING.finditer((path / "pyproject.toml").read_text())}
        for path in distributions(root)
    }


def pin_for(version: str) -> str:
    """The range that holds the minor of a version: `>=0.1,<0.2` for 0.1.3."""
    match = WELL_FORMED.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version such as 1.2.3 or 1.2.3rc1")
    major, minor = int(match[1]), int(match[2])
    lowest = version if match[4] else f"{major}.{minor}"
    return f">={lowest},<{major}.{minor + 1}"


def set_version(version: str, root: Path = ROOT) -> None:
    """Write the version, and the pins that follow from it, into every distribution."""
    pin = pin_for(version)
    for path in distributions(root):
        project = path / "pyproject.toml"
        text, count = VERSION.subn(f'version = "{version}"', project.read_text())
        if count != 1:
            raise ValueError(f"{project} has {count} version lines, wanted one")
        project.write_text(SIBLING.sub(lambda match: f'"{match["name"]}{pin}"', text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", help="the version to set")
    version = parser.parse_args().version
    if version:
        set_version(version)
    for name, found in versions().items():
        print(f"{name} {found}")


if __name__ == "__main__":
    main()
