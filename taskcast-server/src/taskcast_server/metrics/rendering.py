"""Metric families → the text that Prometheus reads, or the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from taskcast_core.values import frozen

TEXT_TYPE = CONTENT_TYPE_LATEST


@frozen
class _Fixed(Collector):
    families: tuple[Metric, ...]

    def collect(self) -> Iterable[Metric]:
        return self.families


def as_text(families: Iterable[Metric]) -> bytes:
    """The exposition format."""
    return generate_latest(_Fixed(tuple(families)))


def as_json(families: Iterable[Metric]) -> dict[str, Any]:
    """``{name: {type, help, samples: [{name?, labels?, value}]}}``; ``name`` where it is not the family's own."""
    return {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "samples": [_sample(family.name, each.name, each.labels, each.value) for each in family.samples],
        }
        for family in families
    }


def _sample(family: str, name: str, labels: dict[str, str], value: float) -> dict[str, Any]:
    sample: dict[str, Any] = {"value": int(value) if float(value).is_integer() else value}
    if labels:
        sample["labels"] = labels
    return sample if name == family else {"name": name, **sample}
