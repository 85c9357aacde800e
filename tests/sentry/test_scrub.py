"""Nothing secret in a text or value gets through, and what is harmless does."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core.models import Task, TaskError, WebhookConfig
from taskcast_sentry.scrub import MOST_CHARACTERS, Scrubber, origin_of, payload_of, secrets_of

PLANTED = "PLANTEDplanted1234567"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.Rq8IjqbeYS"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to redis://:{PLANTED}@redis:6379/0",
        f"cannot connect to postgresql://taskcast:{PLANTED}@db/taskcast?sslmode=require",
        f"401 for Authorization: Bearer {PLANTED}",
        f'{{"authorization": "{PLANTED}"}}',
        f"GET https://api.example/v1?api_key={PLANTED}&page=2 failed",
        f"password={PLANTED} is wrong",
        f"X-Api-Key: {PLANTED}",
        f"DATABASE_PASSWORD='{PLANTED}'",
        f"Incorrect API key provided: sk-proj-{PLANTED}",
        f"header Basic {PLANTED}== refused",
        f"/tasks/1/events?ticket={PLANTED}",
        f"sentry_dsn={PLANTED}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    scrubbed = Scrubber().text(text)
    assert PLANTED not in scrubbed
    assert "[Filtered]" in scrubbed


def test_tokens_are_taken_out() -> None:
    assert Scrubber().text(f"token expired: {JWT}.") == "token expired: [Filtered]."


@pytest.mark.parametrize(
    "text",
    [
        "no capacity in region north-1, try again in 30 s",
        "Webhook delivery failed after 3 attempts: HTTP 503",
        "max_tokens is 4096 at https://api.example/v1/chat?page=2",
        "Invalid transition: running → pending",
    ],
)
def test_what_is_harmless_stays(text: str) -> None:
    assert Scrubber().text(text) == text


def test_known_values_are_taken_out_wherever_they_stand() -> None:
    scrubber = Scrubber(["hunter2hunter2", "hunter2"])
    assert scrubber.text("xhunter2hunter2x and hunter2") == "x[Filtered]x and [Filtered]"


def test_short_values_are_words() -> None:
    assert Scrubber(["on"]).text("depends on it") == "depends on it"


def test_values_lose_what_is_secret_by_name() -> None:
    value = {"user": "u", "accessKey": {"id": 1}, "list": [{"session_token": "t"}, "Bearer abcdefgh12"], "n": None}
    assert Scrubber().value(value) == {
        "user": "u", "accessKey": "[Filtered]", "list": [{"session_token": "[Filtered]"}, "Bearer [Filtered]"],
        "n": None,
    }  # fmt: skip


def test_deep_and_wide_values_are_cut() -> None:
    deep: object = "bottom"
    for _ in range(100):
        deep = [deep]
    assert "bottom" not in repr(Scrubber().value(deep))
    assert len(Scrubber().value(list(range(1_000)))) == 50


def test_a_long_text_is_cut_after_it_was_scrubbed() -> None:
    text = "x" * (MOST_CHARACTERS - 20) + f" redis://:{PLANTED}@h" + "y" * 10_000
    scrubbed = Scrubber().text(text)
    assert len(scrubbed) == MOST_CHARACTERS
    assert PLANTED[:4] not in scrubbed


@pytest.mark.parametrize("unit", ["a", "token", "x=", "://", "secret_", "eyJ.", "sk-", " \t"])
def test_no_text_takes_long(unit: str) -> None:
    began = time.process_time()
    Scrubber(["known-secret"]).text(unit * 20_000)
    assert time.process_time() - began < 10


@given(st.text(max_size=200), st.text(max_size=200))
def test_passwords_of_urls_never_get_through(before: str, after: str) -> None:
    assert PLANTED not in Scrubber().text(f"{before} amqp://u:{PLANTED}@host {after}")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://u:p@hooks.example/services/T/B?x=1#f", "https://hooks.example"),
        ("http://127.0.0.1:8080/hook", "http://127.0.0.1:8080"),
        ("http://host:port/", "an invalid URL"),
        ("not a url", "an invalid URL"),
    ],
)
def test_of_a_webhook_the_origin_is_told(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_a_task_knows_its_secrets_and_its_payload() -> None:
    webhook = WebhookConfig("https://user:hunter22@h.example/services/T0B0", secret="whsecret")
    task = Task(
        "1", "failed", 1, 2, params={"prompt": ["a long prompt"], "n": 5, "short": "x"}, metadata={"m": "metadata!"},
        error=TaskError("x", details={"d": "some detail"}), webhooks=(webhook,),
    )  # fmt: skip
    assert secrets_of(task) == {webhook.url, "hunter22", "services/T0B0", "whsecret"}
    assert payload_of(task) == {"a long prompt", "metadata!", "some detail"}


def test_the_payload_of_a_huge_task_is_looked_at_within_bounds() -> None:
    assert len(payload_of(Task("1", "failed", 1, 2, params={str(n): f"value {n:08}" for n in range(5_000)}))) <= 200
