"""A task's own conditions on its callers."""

from typing import Any

import pytest

from taskcast_core import wire
from taskcast_core.contracts.auth import Principal
from taskcast_core.models import TaskAuthConfig
from taskcast_server.auth.none import OPEN
from taskcast_server.auth.rules import satisfies


def rules(*rules: dict[str, Any]) -> TaskAuthConfig:
    return wire.from_wire({"rules": list(rules)}, TaskAuthConfig)


def rule(scope: str, **require: Any) -> dict[str, Any]:
    return {"match": {"scope": [scope]}, "require": require}


def caller(subject: str | None = "alice", **claims: Any) -> Principal:
    return Principal(scopes=frozenset({"*"}), subject=subject, name="jwt:alice", claims=claims)


@pytest.mark.parametrize("config", [None, TaskAuthConfig(), rules()])
def test_no_rules_no_conditions(config: TaskAuthConfig | None) -> None:
    assert satisfies(config, "event:subscribe", caller(None))


def test_a_rule_speaks_of_its_scopes_only() -> None:
    config = rules(rule("event:publish", sub=["bob"]))
    assert satisfies(config, "event:subscribe", caller())
    assert not satisfies(config, "event:publish", caller()), "the scope * does not help against a rule"


def test_a_rule_for_the_star_speaks_of_every_scope() -> None:
    config = rules(rule("*", sub=["bob"]))
    assert not satisfies(config, "event:subscribe", caller())
    assert satisfies(config, "event:subscribe", caller("bob"))


def test_every_rule_counts() -> None:
    config = rules(rule("event:publish", sub=["alice", "bob"]), rule("event:publish", claims={"tenant": "t1"}))
    assert satisfies(config, "event:publish", caller(tenant="t1"))
    assert not satisfies(config, "event:publish", caller(tenant="t2"))
    assert not satisfies(config, "event:publish", caller("carol", tenant="t1"))


@pytest.mark.parametrize("subject", [None, "", "Alice", "alice "])
def test_the_subject_is_compared_exactly(subject: str | None) -> None:
    assert not satisfies(rules(rule("*", sub=["alice"])), "task:manage", caller(subject))
    assert not satisfies(rules(rule("*", sub=[])), "task:manage", caller(subject))


@pytest.mark.parametrize(
    ("wanted", "given", "is_met"),
    [
        ("a", "a", True), (1, 1.0, True), (1, True, False), (0, False, False), (True, True, True), ("1", 1, False),
        (None, None, True), (["a", 1], ["a", 1], True), (["a"], ["a", "b"], False), (["a"], "a", False),
        ({"x": [1]}, {"x": [1]}, True), ({"x": [1]}, {"x": [True]}, False), ({"x": 1}, {"x": 1, "y": 2}, False),
    ],
)  # fmt: skip
def test_claims_are_equal_as_json_is(wanted: Any, given: Any, is_met: bool) -> None:
    assert satisfies(rules(rule("*", claims={"c": wanted})), "task:manage", caller(c=given)) is is_met


def test_an_absent_claim_is_not_null() -> None:
    assert not satisfies(rules(rule("*", claims={"c": None})), "task:manage", caller())


def test_services_are_subject_to_the_rules_by_their_name() -> None:
    service = Principal(scopes=frozenset({"*"}), subject="svc:billing", name="svc:billing")
    assert satisfies(rules(rule("*", sub=["svc:billing"])), "task:manage", service)
    assert not satisfies(rules(rule("*", sub=["alice"])), "task:manage", service)


def test_without_authentication_there_is_nobody_to_judge() -> None:
    assert satisfies(rules(rule("*", sub=["alice"])), "task:manage", OPEN)
    assert not satisfies(rules(rule("*", sub=["alice"])), "task:manage", Principal(scopes=frozenset({"*"})))
