"""``${VAR}`` and ``${VAR:-default}`` in texts.

The text is expanded after the file was parsed, so a value can never change the file's structure, and what a
variable holds is not expanded again. A default may itself hold ``${…}``. ``$${`` is a literal ``${``;
anything that only looks like the start of a reference (``${not a name}``) stays as written.

Empty counts as unset, for variables as everywhere in the environment. A text that is nothing but one
reference with an empty default (``${VAR:-}``) counts as *not given* when the variable is unset: the option
keeps its own default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from taskcast_core.config.nodes import Unset

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})")
_BRACES = re.compile(r"\$\{|\}")


def interpolate(text: str, variables: Mapping[str, str]) -> str | Unset | None:
    """Expand every reference in ``text``.

    Returns:
        The expanded text; an `Unset` that names the first variable without value and default; None for a text
        that is wholly one reference which came out empty.
    """
    parts: list[str] = []
    at = 0
    whole = False
    while match := _REFERENCE.search(text, at):
        parts.append(text[at : match.start()])
        at = match.end()
        name = match.group(1)
        if name is None:
            parts.append("${")
            continue
        fallback: str | None = None
        if match.group(2) == ":-":
            end = _closing(text, at)
            if end is None:
                parts.append(match.group())
                continue
            fallback, at = text[at:end], end + 1
        value = variables.get(name) or _default(fallback, variables)
        if value is None:
            return Unset(name, text)
        if isinstance(value, Unset):
            return Unset(value.variable, text)
        whole = match.start() == 0 and at == len(text)
        parts.append(value)
    parts.append(text[at:])
    return "".join(parts) or (None if whole else "")


def _default(fallback: str | None, variables: Mapping[str, str]) -> str | Unset | None:
    if fallback is None:
        return None
    value = interpolate(fallback, variables)
    return "" if value is None else value


def _closing(text: str, at: int) -> int | None:
    """Where the brace is that ends a default, counting nested references."""
    depth = 1
    while match := _BRACES.search(text, at):
        depth += 1 if match.group() == "${" else -1
        if depth == 0:
            return match.start()
        at = match.end()
    return None
