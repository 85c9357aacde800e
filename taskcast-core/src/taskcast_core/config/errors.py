"""What is wrong with a configuration, told once and completely: every problem with its path, value and
expectation.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core.errors import ConfigError
from taskcast_core.values import frozen


@frozen
class Problem:
    """One fault of a configuration.

    Attributes:
        path: where, in wire names (``workers.defaults.heartbeatIntervalMs``, ``cleanup.rules[0].target``);
        may be empty.
        message: the whole sentence.
        value: what was found, as shown to people (secrets masked); None if there was no value.
        expected: what should have been there; None where that is not the point.
        variable: the environment variable that is not set, if that is the fault.
    """

    path: str
    message: str
    value: str | None = None
    expected: str | None = None
    variable: str | None = None


class InvalidConfig(ConfigError):
    """The configuration cannot be used; holds everything that was found wrong with it.

    Attributes:
        problems: all of them, in reading order.
        source: the file, if there was one.
        path, value, expected: those of the first problem.
    """

    def __init__(self, problems: Sequence[Problem], source: str | None = None) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        self.source = source
        first = self.problems[0]
        self.path = first.path
        self.value = first.value
        self.expected = first.expected
        where = f"{source}: " if source else ""
        if len(self.problems) == 1:
            super().__init__(where + first.message)
        else:
            lines = "".join(f"\n  - {problem.message}" for problem in self.problems)
            super().__init__(f"{where}{len(self.problems)} problems in the configuration:{lines}")
