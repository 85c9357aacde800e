"""Examples as modules; they belong to no package."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from tests.tools.version import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def example(path: str) -> ModuleType:
    """The module in a file below ``docs/examples``, loaded once."""
    name = "example_" + path.replace("/", "_").removesuffix(".py")
    if name not in sys.modules:
        spec = spec_from_file_location(name, EXAMPLES / path)
        assert spec and spec.loader
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
