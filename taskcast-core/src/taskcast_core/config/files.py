"""Finding and parsing the configuration file.

In the working directory, then in the user's directory: ``taskcast.config.py`` > ``.yaml`` > ``.yml`` >
``.json`` > ``.toml``. The first one found is the configuration; nothing is merged. Files for JavaScript
runtimes (``.ts``, ``.js``, ``.mjs``) stand behind ``.py`` in this order; they cannot be read here, so they
are passed over with a warning.

Deviation from the wire spec: an explicitly named file that does not exist is an error and not an empty
configuration. Whoever names a file wants its contents; a server that starts without authentication because of
a typing error is worse than one that does not start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from taskcast_core.config.errors import InvalidConfig, Problem
from taskcast_core.values import frozen

STEM = "taskcast.config"
SUFFIXES = (".py", ".ts", ".js", ".mjs", ".yaml", ".yml", ".json", ".toml")
FOREIGN = frozenset({".ts", ".js", ".mjs"})
READABLE = tuple(suffix for suffix in SUFFIXES if suffix not in FOREIGN)
_MODULE = "taskcast_config_file"


@frozen
class Found:
    """The file to read, if there is one, and what was passed over on the way."""

    path: Path | None
    warnings: tuple[str, ...] = ()


def find(explicit: Path | None, cwd: Path, home: Path | None) -> Found:
    """Choose the configuration file.

    Raises:
        InvalidConfig: an explicitly named file does not exist or has a suffix that cannot be read.
    """
    if explicit is not None:
        path = cwd / explicit.expanduser()
        if not path.is_file():
            raise _fault(path, "there is no such configuration file")
        if path.suffix not in READABLE:
            raise _fault(path, f"cannot read {path.suffix or 'a file without suffix'}; expected {_one_of(READABLE)}")
        return Found(path)
    warnings: list[str] = []
    for directory in (cwd,) if home is None else (cwd, cwd / home):
        for suffix in SUFFIXES:
            path = directory / (STEM + suffix)
            if not path.is_file():
                continue
            if suffix not in FOREIGN:
                return Found(path, tuple(warnings))
            warnings.append(f"{path} needs a JavaScript runtime and is ignored; use {_one_of(READABLE)}")
    return Found(None, tuple(warnings))


def parse(path: Path) -> Mapping[str, object]:
    """The contents of a configuration file; a Python file may hold live objects.

    Raises:
        InvalidConfig: unreadable, malformed, or not a mapping. The message never quotes the text, which may
        hold secrets.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(path, f"cannot be read: {error}") from error
    data = _parse_python(path, text) if path.suffix == ".py" else _parse_text(path, text)
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise _fault(path, f"must hold a mapping, not {type(data).__name__}")
    return data


def _parse_text(path: Path, text: str) -> object:
    # The causes of these errors are suppressed, because YAML's and JSON's carry the text itself.
    try:
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique) if text.strip() else None
        if path.suffix == ".toml":
            import tomllib  # only who has a file pays for the import of what reads it

            return tomllib.loads(text)
        from taskcast_core.config import strict_yaml

        return strict_yaml.loads(text)
    except json.JSONDecodeError as error:
        raise _fault(path, f"{error.msg} (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise _fault(path, f"is malformed: {error}") from None


def _parse_python(path: Path, text: str) -> object:
    """Run the file; its directory is importable meanwhile, and no bytecode is left behind."""
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    directory = str(path.parent.resolve())
    sys.modules[_MODULE] = module
    sys.path.insert(0, directory)
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - a program by design
        config = module.__dict__.get("config")
        return config() if callable(config) else config
    except (Exception, SystemExit) as error:
        raise _fault(path, f"failed with {type(error).__name__}: {error}") from error
    finally:
        if directory in sys.path:
            sys.path.remove(directory)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key "{key}" is given twice')
        found[key] = value
    return found


def _fault(path: Path, message: str) -> InvalidConfig:
    return InvalidConfig([Problem("", message)], str(path))


def _one_of(suffixes: tuple[str, ...]) -> str:
    return ", ".join(suffixes[:-1]) + " or " + suffixes[-1]
