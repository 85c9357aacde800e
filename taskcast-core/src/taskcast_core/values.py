"""attrs' decorators, as values of this system use them: the same classes, made in less time.

attrs writes and compiles the methods of each class while its module is loaded, which was a third of a server's start.
What is hardly ever called is therefore written once, for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import define, frozen
    from attrs import frozen as value
else:
    from collections.abc import Callable
    from functools import partial
    from reprlib import recursive_repr

    import attrs

    @recursive_repr()
    def _repr(self: object) -> str:
        """What attrs would write: the name of the class, and its fields but those that are not to be shown."""
        shown = ((each.name, each.repr, getattr(self, each.name)) for each in attrs.fields(type(self)) if each.repr)
        fields = ", ".join(f"{name}={repr(it) if how is True else how(it)}" for name, how, it in shown)
        return f"{type(self).__qualname__.rpartition('>.')[2]}({fields})"

    def _sharing(decorator: Callable[..., object]) -> Callable[..., object]:
        def decorate(cls: type | None = None, **options: object) -> object:
            if cls is None:
                return partial(decorate, **options)
            is_its_own = "__repr__" in vars(cls)
            made = decorator(cls, repr=False, **options)
            if not is_its_own:
                made.__repr__ = _repr
            return made

        return decorate

    define = _sharing(attrs.define)
    """``attrs.define``."""
    frozen = _sharing(attrs.frozen)
    """``attrs.frozen``."""
    value = partial(define, unsafe_hash=True)
    """``attrs.frozen``, checked where types are: a guard against assignment at run time would take longer than all the
    rest of making one. For what is made with every event."""

__all__ = ["define", "frozen", "value"]
