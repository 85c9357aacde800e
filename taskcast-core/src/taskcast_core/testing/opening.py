"""How another process opens a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any

from attrs import asdict, field, frozen


@frozen
class OpenSpec:
    """Names a function that opens a store, so that a child process can do it.

    Attributes:
        target: ``package.module:function``; called with the arguments, it returns an async context manager that
            yields the opened store.
        arguments: JSON values; they name the backend (a path, a URL), so that every call opens the same data.
    """

    target: str
    arguments: Mapping[str, Any] = field(factory=dict)

    def open(self) -> AbstractAsyncContextManager[Any]:
        """Open the store."""
        module, _, function = self.target.partition(":")
        opened: AbstractAsyncContextManager[Any] = getattr(import_module(module), function)(**self.arguments)
        return opened

    def text(self) -> str:
        """This spec as a command-line argument."""
        return json.dumps(asdict(self))
