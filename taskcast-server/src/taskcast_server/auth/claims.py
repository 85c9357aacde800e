"""From claims to a principal: one reading of them for tokens, embedders' dicts and stream tickets."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from taskcast_core.contracts.auth import Principal

_MAX_TASK_IDS = 10_000
_VOLATILE = frozenset({"exp", "iat", "nbf", "jti", "auth_time"})


class MalformedClaims(ValueError):
    """A claim is not of its type."""


def principal_of(claims: Mapping[str, Any], kind: str) -> Principal:
    """Read ``taskIds``, ``scope``, ``sub``, ``workerId`` and ``exp`` (wire spec, auth section 2.2).

    Unknown scopes are kept: they allow nothing. ``kind`` becomes the first part of the principal's name.

    Raises:
        MalformedClaims: one of them has another type.
    """
    subject = _text(claims, "sub")
    return Principal(
        scopes=frozenset(_texts(claims.get("scope"), "scope")),
        task_ids=_task_ids(claims.get("taskIds")),
        subject=subject,
        worker_id=_text(claims, "workerId"),
        expires_at=seconds(claims, "exp"),
        name=f"{kind}:{subject}" if subject else f"{kind}#{_digest(claims)}",
        claims=claims,
    )


def seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A point in time, Unix seconds; None when the claim is absent.

    Raises:
        MalformedClaims: it is no finite number.
    """
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_as_float(value)):
        raise MalformedClaims(name)
    return float(value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedClaims(name)
    return value


def _texts(value: object, name: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in value):
        raise MalformedClaims(name)
    return list(value)


def _task_ids(value: object) -> frozenset[str] | None:
    if value is None or value == "*":
        return None
    ids = frozenset(_texts(value, "taskIds"))
    if len(ids) > _MAX_TASK_IDS:
        raise MalformedClaims("taskIds")
    return ids


def _digest(claims: Mapping[str, Any]) -> str:
    """Tells callers without a subject apart, and survives the renewal of a token."""
    lasting = {str(name): value for name, value in claims.items() if name not in _VOLATILE}
    text = json.dumps(lasting, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _plain(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else repr(value)
