"""YAML without surprises: plain data only, a key that is given twice is an error, and no error quotes the text."""

from __future__ import annotations

import yaml


def loads(text: str) -> object:
    """The data of one YAML document.

    Raises:
        ValueError: malformed; says where. The cause is suppressed: it carries the text, which may hold secrets.
    """
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ValueError(f"no YAML: {getattr(error, 'reason', 'unreadable')}") from None


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    message = f'the key "{key.value}" is given twice'
                    raise yaml.MarkedYAMLError(problem=message, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
