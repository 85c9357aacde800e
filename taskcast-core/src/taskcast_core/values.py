"""The decorator of small values that are made for every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    from functools import partial

    from attrs import define

    value = partial(define, unsafe_hash=True)
    """``attrs.frozen``, checked where types are: a guard against assignment at run time would take longer than all the
    rest of making one."""

__all__ = ["value"]
